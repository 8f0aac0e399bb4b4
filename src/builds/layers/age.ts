/** How long ago something was, as people say it. */
import { KilnError } from '../../arm/errors.ts';

const UNITS: readonly (readonly [seconds: number, word: string])[] = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
  [1, 'second'],
];

/** @param when ISO 8601 */
export function ago(when: string, now: number = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(when)) / 1000));
  const [size, word] = UNITS.find(([size]) => seconds >= size) ?? UNITS.at(-1)!;
  const count = Math.floor(seconds / size);
  return `${count} ${word}${count === 1 ? '' : 's'} ago`;
}

const LENGTHS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** `7d`, `12h`, `30m`: seconds. Errors: UsageError, which begins with `what` takes the age. */
export function parseAge(text: string, what: string): number {
  const match = /^(\d{1,6})([smhdw])$/.exec(text);
  if (match) return Number(match[1]) * LENGTHS[match[2]!]!;
  throw new KilnError('UsageError', `${what} takes an age such as 7d or 12h, not "${text}".`);
}
