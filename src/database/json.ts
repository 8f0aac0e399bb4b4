/** Values from outside on their way into PostgreSQL, which takes any text but NUL and lone surrogates. Guests print both. */
import { type RawBuilder, sql } from 'kysely';

const NUL = /\0/g;

/** Text for a text column: NUL and lone surrogates become U+FFFD. */
export function text(value: string): string {
  return value.toWellFormed().replace(NUL, '\uFFFD');
}

/** A value for a jsonb column, cleaned as `text` does. undefined is written as null. */
export function json<T>(value: T): RawBuilder<T> {
  return sql<T>`cast(${JSON.stringify(value ?? null, clean)} as jsonb)`;
}

function clean(_key: string, value: unknown): unknown {
  if (typeof value === 'string') return text(value);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const keys = Object.keys(value);
  if (keys.every(key => key === text(key))) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [text(key), member]));
}
