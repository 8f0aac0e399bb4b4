/** One text for one value: what keys of layers are hashed from. */
import { createHash } from 'node:crypto';

/** Plain JSON. Objects may have optional fields that are undefined: they count as missing. */
export type Canonical =
  | string
  | number
  | boolean
  | null
  | readonly Canonical[]
  | { readonly [key: string]: Canonical | undefined };

/**
 * JSON with the keys of every object in code-unit order and no white space: equal values give equal text, different ones different text.
 * Throws TypeError for what JSON cannot say without loss (NaN, -0 counts as 0; functions, dates, undefined in arrays).
 */
export function canonicalJson(value: Canonical): string {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no JSON`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const plain = typeof value === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(value));
  if (!plain) throw new TypeError(`a ${typeof value} has no canonical JSON`);
  const fields = Object.entries(value as { readonly [key: string]: Canonical | undefined })
    .filter((field): field is [string, Canonical] => field[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}

/** SHA-256 of {@link canonicalJson}, lower-case hex. */
export function hashCanonical(value: Canonical): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}
