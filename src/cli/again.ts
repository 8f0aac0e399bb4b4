/** What the same command would do once more, after a step has failed. */
import type { CacheWish } from '../providers/image-builder/step-cache.ts';

export function again({ use, fresh, from }: CacheWish): string {
  if (use === false)
    return 'The same command runs every step again; without --no-cache a build goes on after the last good step of one that failed.';
  const option = from !== undefined ? '--from' : fresh !== undefined ? '--fresh' : undefined;
  return option === undefined
    ? 'The same command again goes on after the last good step.'
    : `Without ${option} the same command goes on after the last good step.`;
}
