/** How long ago something was, as people say it. */

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
