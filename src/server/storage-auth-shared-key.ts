/** Requests that are signed as a whole with a key of the account: whoever has one may do everything. */
import { timingSafeEqual } from 'node:crypto';
import { type AccountKey, readKeys } from '../providers/storage/account-keys.ts';
import { allowsKeys, type StorageAccount } from '../providers/storage/find-account.ts';
import { headerOf, type RequestParts } from '../providers/storage/request-parts.ts';
import { readSharedKey, sign, stringsToSign } from '../providers/storage/shared-key.ts';
import type { BlobGrant, StorageAuthOptions } from './storage-auth.ts';
import { AuthenticationError, keysNotPermitted } from './storage-auth-errors.ts';

/** Clocks may differ by that much; a request that somebody has overheard is worth nothing after it. */
const SKEW_MS = 15 * 60 * 1000;
const ENCODINGS = ['utf8', 'latin1'] as const;

/** Errors: AuthenticationFailed, KeyBasedAuthenticationNotPermitted. */
export async function sharedKeyGrant(
  request: RequestParts,
  authorization: string,
  account: StorageAccount | undefined,
  { environment }: Pick<StorageAuthOptions, 'environment'>,
  now: Date,
): Promise<BlobGrant> {
  const given = readSharedKey(authorization);
  if (!given) throw new AuthenticationError('The Authorization header is not formed as SharedKey ACCOUNT:SIGNATURE.');
  if (!account || given.account.toLowerCase() !== account.name)
    throw new AuthenticationError('The account of the Authorization header is not the one of the address.');
  const date = headerOf(request, 'x-ms-date') || headerOf(request, 'date');
  const at = Date.parse(date);
  if (Number.isNaN(at)) throw new AuthenticationError('Neither x-ms-date nor Date holds a time as in RFC 1123.');
  if (Math.abs(now.getTime() - at) > SKEW_MS) throw new AuthenticationError(`Request date header too old: '${date}'`);
  const keys = await readKeys(environment.database, environment.home, account.resource);
  const texts = stringsToSign(request, given.scheme, given.account);
  // Node shows a header's bytes as characters of Latin-1; names in the query are decoded. Either may be more than ASCII.
  if (!texts.some(text => ENCODINGS.some(encoding => isSigned(keys, text, given.signature, encoding))))
    throw new AuthenticationError(
      `The MAC signature found in the HTTP request '${given.signature}' is not the same as any computed signature. Server used following string to sign: '${texts[0]}'.`,
    );
  if (!allowsKeys(account)) throw keysNotPermitted();
  return { principal: `key of ${account.name}`, overrides: {}, allows: async () => true };
}

/** Whether one of the keys gives the signature (base64, untrusted); takes as long for a wrong one as for a right one. */
export function isSigned(
  keys: readonly Pick<AccountKey, 'value'>[],
  text: string,
  signature: string,
  encoding: 'latin1' | 'utf8' = 'utf8',
): boolean {
  const given = Buffer.from(signature, 'utf8');
  return keys
    .map(({ value }) => Buffer.from(sign(value, text, encoding), 'utf8'))
    .map(right => right.length === given.length && timingSafeEqual(right, given))
    .includes(true);
}
