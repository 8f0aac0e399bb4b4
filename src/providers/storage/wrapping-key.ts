/**
 * The key that other keys, and URLs of templates with a secret in them, are encrypted with at rest (AES-256-GCM). It lies in the state directory, the encrypted values in the database: neither of them alone
 * tells a secret. Servers that share a database by DATABASE_URL and have state directories of their own need the same file `storage.key` in each of them, as they
 * need the same `keys.json`.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { readOrMakePrivate } from '../../disks/private-file.ts';
import type { Home } from '../../home.ts';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface WrappingKey {
  /** Tells it from another one; says nothing about it. */
  readonly id: string;
  /** `context`: whose the secret is. What was sealed for one owner does not open for another. */
  seal(secret: Uint8Array, context: string): Buffer;
  /** Errors: StateUnwritable for what was changed or sealed by another key. */
  open(sealed: Uint8Array, context: string): Buffer;
}

/** A process has one state directory, a test several. The file is read once. */
const opened = new WeakMap<Pick<Home, 'root'>, Promise<WrappingKey>>();

/** Errors: StateUnwritable when the file is damaged; those of the file system. */
export async function openWrappingKey(home: Pick<Home, 'root'>): Promise<WrappingKey> {
  const known = opened.get(home);
  if (known) return await known;
  const opening = readKey(join(home.root, 'storage.key'));
  opened.set(home, opening);
  opening.catch(() => opened.delete(home));
  return await opening;
}

async function readKey(path: string): Promise<WrappingKey> {
  const text = await readOrMakePrivate(path, async () => `${randomBytes(KEY_BYTES).toString('base64url')}\n`);
  const key = Buffer.from(text.trim(), 'base64url');
  if (key.length !== KEY_BYTES)
    throw new KilnError(
      'StateUnwritable',
      `${path} does not hold the key that keys of storage accounts are kept with.`,
      {
        target: path,
        hint: 'Restore the file, or remove it: the accounts need new keys then (`az storage account keys renew`), and templates with signed URLs have to be made again.',
      },
    );
  return wrappingKey(key);
}

/** @param key 32 bytes. */
export function wrappingKey(key: Buffer): WrappingKey {
  const id = createHash('sha256').update('kiln wrapping key').update(key).digest('base64url').slice(0, 16);
  return {
    id,
    seal(secret, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(context));
      return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
    },
    open(sealed, context) {
      try {
        const [nonce, tag] = [sealed.subarray(0, NONCE_BYTES), sealed.subarray(-TAG_BYTES)];
        const cipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
          .setAAD(Buffer.from(context))
          .setAuthTag(tag);
        return Buffer.concat([cipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), cipher.final()]);
      } catch (cause) {
        throw new KilnError('StateUnwritable', `A key of ${context.split(' ')[0]} cannot be decrypted.`, {
          hint: 'It was stored with another storage.key: put that file into the state directory, or renew the key (`az storage account keys renew`).',
          cause,
        });
      }
    },
  };
}
