/**
 * Client secrets. They are never chosen by people: 40 random bytes have more entropy than can be searched, so one round of SHA-256 keeps them
 * (a slow, salted hash protects secrets that can be guessed), and a sign-in costs microseconds.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const BYTES = 40;

/** URL-safe text, so that it survives shells, forms and INI files. It never begins with a hyphen, which command lines take for an option. */
export function newSecret(): string {
  for (;;) {
    const secret = randomBytes(BYTES).toString('base64url');
    if (/^[A-Za-z0-9]/.test(secret)) return secret;
  }
}

export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret, 'utf8').digest('base64url');
}

export function isSecret(given: string, hash: string): boolean {
  return timingSafeEqual(Buffer.from(hashSecret(given)), Buffer.from(hash));
}
