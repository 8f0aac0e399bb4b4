/** Shared access signatures: a URL that grants what is written in it, for as long and from where it says. */
import type { AccessPolicy } from '../database/schema.ts';
import { delegationKey, readKeys } from '../providers/storage/account-keys.ts';
import { allowsKeys, type StorageAccount } from '../providers/storage/find-account.ts';
import type { RequestParts } from '../providers/storage/request-parts.ts';
import {
  delegationOf,
  readSas,
  type SasKind,
  type SasParameters,
  sasAddressAllowed,
  sasStringToSign,
  sasTime,
} from '../providers/storage/sas.ts';
import type { BlobAction, BlobGrant, BlobTarget, StorageAuthOptions } from './storage-auth.ts';
import { bearerGrant } from './storage-auth-bearer.ts';
import {
  AuthenticationError,
  keysNotPermitted,
  permissionMismatch,
  protocolMismatch,
  resourceTypeMismatch,
  serviceMismatch,
  sourceAddressMismatch,
} from './storage-auth-errors.ts';
import { isSigned } from './storage-auth-shared-key.ts';

export interface SasRequest extends RequestParts {
  /** What the path names, decoded. */
  readonly container?: string;
  readonly blob?: string;
  /** Of the client. */
  readonly address: string;
}

/** Undefined for a request that has no signature in its query. Errors: AuthenticationFailed and those of what it does not grant. */
export async function sasGrant(
  request: SasRequest,
  account: StorageAccount | undefined,
  options: StorageAuthOptions,
  now: Date,
): Promise<BlobGrant | undefined> {
  const read = readSas(request.query);
  if (!read) return undefined;
  if ('broken' in read) throw new AuthenticationError(`${read.broken}.`);
  const { kind, parameters } = read;
  if (!account) throw new AuthenticationError('There is no such account.');
  requireSupported(kind, parameters);
  await requireSignature(kind, parameters, request, account, options);
  const granted = kind === 'service' ? await withPolicy(parameters, request, account, options) : parameters;
  requireTime(granted, now);
  if (kind === 'delegation') requireDelegationTime(granted, now);
  else if (!allowsKeys(account)) throw keysNotPermitted();
  // The server speaks HTTPS alone.
  if (granted.spr !== '' && !granted.spr.split(',').includes('https')) throw protocolMismatch();
  if (granted.sip !== '' && !sasAddressAllowed(granted.sip, request.address))
    throw sourceAddressMismatch(request.address);
  if (kind === 'account') {
    if (!granted.ss.includes('b')) throw serviceMismatch();
    return accountGrant(granted, account);
  }
  const own = serviceGrant(granted, request, account);
  if (kind === 'service') return own;
  // What the user may do at the moment of the request bounds what the signature grants.
  const users = bearerGrant({ objectId: granted.skoid.toLowerCase() }, account, options);
  return {
    ...own,
    principal: granted.skoid.toLowerCase(),
    allows: async (action, on) => (await own.allows(action, on)) && (await users.allows(action, on)),
  };
}

function requireSupported(kind: SasKind, { srh, srq, sduoid, suoid, sdd }: SasParameters): void {
  const refused = Object.entries({ srh, srq, sduoid, suoid, sdd }).find(([, value]) => value !== '');
  if (kind !== 'account' && refused)
    throw new AuthenticationError(`Signatures with ${refused[0]} are not supported here.`);
}

async function requireSignature(
  kind: SasKind,
  parameters: SasParameters,
  request: SasRequest,
  account: StorageAccount,
  { environment, directory }: StorageAuthOptions,
): Promise<void> {
  const { database, home } = environment;
  let keys: { readonly value: Buffer }[] = [];
  if (kind === 'delegation') {
    if (parameters.sktid.toLowerCase() !== directory.tenantId.toLowerCase())
      throw new AuthenticationError('Key tenant ID is not valid.');
    const delegation = await readKeys(database, home, account.resource, ['delegation']);
    const value = delegationKey(delegation, delegationOf(parameters));
    if (value) keys = [{ value }];
  } else keys = await readKeys(database, home, account.resource);
  const timeName = { bs: 'snapshot', bv: 'versionid' }[parameters.sr];
  const text = sasStringToSign(kind, parameters, {
    account: account.name,
    ...(request.container !== undefined && { container: request.container }),
    ...(request.blob !== undefined && { blob: request.blob }),
    ...(timeName !== undefined && { time: request.query.find(([name]) => name.toLowerCase() === timeName)?.[1] ?? '' }),
  });
  if (!isSigned(keys, text, parameters.sig))
    throw new AuthenticationError(`Signature did not match. String to sign used was ${text}`);
}

/** What the signature leaves out, the container's stored access policy of that name says. Errors: AuthenticationFailed. */
async function withPolicy(
  parameters: SasParameters,
  request: SasRequest,
  account: StorageAccount,
  { environment }: StorageAuthOptions,
): Promise<SasParameters> {
  if (parameters.si === '') return parameters;
  const row = await environment.database
    .selectFrom('blob_container')
    .select('policies')
    .where('account', '=', account.name)
    .where('name', '=', request.container ?? '')
    .executeTakeFirst();
  const policy = (row?.policies as readonly AccessPolicy[] | undefined)?.find(({ id }) => id === parameters.si);
  if (!policy) throw new AuthenticationError(`The stored access policy ${parameters.si} does not exist.`);
  const said = { st: policy.start ?? '', se: policy.expiry ?? '', sp: policy.permission ?? '' };
  for (const [name, value] of Object.entries(said))
    if (value !== '' && parameters[name as 'st' | 'se' | 'sp'] !== '')
      throw new AuthenticationError(`${name} is given by the signature and by its stored access policy.`);
  const { st, se, sp } = parameters;
  return { ...parameters, st: st || said.st, se: se || said.se, sp: sp || said.sp };
}

/** Errors: AuthenticationFailed. */
function requireTime({ st, se }: SasParameters, now: Date): void {
  const [start, end] = [st === '' ? undefined : sasTime(st), sasTime(se)];
  if (se === '') throw new AuthenticationError('se is mandatory. Cannot be empty.');
  if (!end || (st !== '' && !start))
    throw new AuthenticationError('A time of the signature is none of ISO 8601 in UTC.');
  if (end > now && (!start || start <= now)) return;
  const shown = `${start ? `Start [${start.toUTCString()}] - ` : ''}Expiry [${end.toUTCString()}]`;
  throw new AuthenticationError(
    `Signature not valid in the specified time frame: ${shown} - Current [${now.toUTCString()}]`,
  );
}

/** Errors: AuthenticationFailed. */
function requireDelegationTime({ skt, ske, sks }: SasParameters, now: Date): void {
  const [start, end] = [sasTime(skt), sasTime(ske)];
  if (sks !== 'b') throw new AuthenticationError('The user delegation key is for another service.');
  // That it lasts no longer than a week was seen to when it was given: another time makes another key.
  if (!start || !end || start > now || end <= now)
    throw new AuthenticationError(
      `The user delegation key is not valid now: Start [${skt}] - Expiry [${ske}] - Current [${now.toUTCString()}]`,
    );
}

const LETTERS: Readonly<Record<BlobAction, string>> = {
  read: 'r',
  write: 'w',
  create: 'cw',
  add: 'aw',
  delete: 'd',
  list: 'l',
  tags: 't',
  getAcl: '',
  setAcl: '',
};

const grants = (permissions: string, action: BlobAction): boolean =>
  [...LETTERS[action]].some(letter => permissions.includes(letter));

function accountGrant({ sp, srt }: SasParameters, account: StorageAccount): BlobGrant {
  return {
    principal: `account signature of ${account.name}`,
    overrides: {},
    async allows(action, on) {
      const type = { service: 's', container: 'c', blob: 'o' }[on.level];
      if (!srt.includes(type)) throw resourceTypeMismatch();
      return grants(sp, action);
    },
  };
}

function serviceGrant(parameters: SasParameters, request: SasRequest, account: StorageAccount): BlobGrant {
  const { sr, sp, rscc, rscd, rsce, rscl, rsct } = parameters;
  const overrides = {
    'cache-control': rscc,
    'content-disposition': rscd,
    'content-encoding': rsce,
    'content-language': rscl,
    'content-type': rsct,
  };
  return {
    principal: `signature of ${account.name}`,
    overrides: Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== '')),
    async allows(action, on) {
      if (!reaches(sr, request, action, on)) throw permissionMismatch();
      return grants(sp, action);
    },
  };
}

/** A container's signature is for its blobs and the list of them, not for its own life; a blob's for that one. */
function reaches(sr: string, signed: SasRequest, action: BlobAction, on: BlobTarget): boolean {
  if (on.level === 'service' || on.container !== signed.container) return false;
  if (sr === 'c') return on.level === 'blob' || action === 'list';
  return on.level === 'blob' && on.blob === signed.blob;
}
