/**
 * The keys that tokens are signed with, kept in the state directory: RSA, since that is what clients of Azure expect (RS256). The first of the file signs;
 * the others still verify, so a key is replaced by putting a new one in front and removing the old one an hour later, when its last token has ended.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { type CryptoKey, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose';
import { KilnError } from '../arm/errors.ts';
import { readOrMakePrivate } from '../disks/private-file.ts';
import type { Home } from '../home.ts';

export const ALGORITHM = 'RS256';
const MODULUS_BITS = 2048;

export interface SigningKeys {
  /** Signs new tokens. */
  readonly current: { readonly kid: string; readonly key: CryptoKey };
  readonly verifying: ReadonlyMap<string, CryptoKey>;
  /** For the JWKS document. */
  readonly published: readonly JWK[];
  /** What a managed identity's host proves itself with, made from a key of its own; nothing is stored for each identity. A secret. */
  identityHeader(objectId: string): string;
  /** The object id of a header (untrusted); undefined for one that was not made here. */
  readIdentityHeader(header: string): string | undefined;
}

interface KeyFile {
  readonly signing: readonly JWK[];
  /** base64url. */
  readonly identity: string;
}

/** Errors: StateUnwritable when the file is damaged; those of the file system. */
export async function openKeys(home: Home): Promise<SigningKeys> {
  const path = join(home.root, 'keys.json');
  const file = read(await readOrMakePrivate(path, newFile), path);
  const pairs = await Promise.all(
    file.signing.map(async jwk => {
      const { kty, n, e, kid } = jwk;
      const published = { kty, use: 'sig', alg: ALGORITHM, kid, n, e } as JWK & { kid: string };
      return {
        published,
        key: (await importJWK(jwk, ALGORITHM)) as CryptoKey,
        verify: (await importJWK(published, ALGORITHM)) as CryptoKey,
      };
    }),
  );
  const identityKey = Buffer.from(file.identity, 'base64url');
  const identityHeader = (objectId: string) =>
    `${objectId}.${createHmac('sha256', identityKey).update(objectId).digest('base64url')}`;
  return {
    current: { kid: pairs[0]!.published.kid, key: pairs[0]!.key },
    verifying: new Map(pairs.map(({ published, verify }) => [published.kid, verify])),
    published: pairs.map(({ published }) => published),
    identityHeader,
    readIdentityHeader(header) {
      const objectId = header.slice(0, header.indexOf('.'));
      const [given, right] = [Buffer.from(header), Buffer.from(identityHeader(objectId))];
      return given.length === right.length && timingSafeEqual(given, right) ? objectId : undefined;
    },
  };
}

async function newFile(): Promise<string> {
  const { privateKey } = await generateKeyPair(ALGORITHM, { modulusLength: MODULUS_BITS, extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), kid: randomBytes(16).toString('base64url') };
  const file: KeyFile = { signing: [jwk], identity: randomBytes(32).toString('base64url') };
  return `${JSON.stringify(file, null, 2)}\n`;
}

function read(text: string, path: string): KeyFile {
  try {
    const file = JSON.parse(text) as KeyFile;
    const sound = (key: JWK) => key.kty === 'RSA' && typeof key.kid === 'string' && typeof key.d === 'string';
    if (file.signing.length > 0 && file.signing.every(sound) && Buffer.from(file.identity, 'base64url').length === 32)
      return file;
  } catch {
    // said below
  }
  throw new KilnError('StateUnwritable', `${path} does not hold the keys that tokens are signed with.`, {
    target: path,
    hint: 'Restore the file, or remove it: everybody has to sign in again then.',
  });
}
