/** Copies of disk files that cost as little as the file system allows. */
import { resolve } from 'node:path';
import { run } from '../processes/process.ts';
import { writeDurably } from './durable.ts';

/**
 * Copies a file: shares its blocks where the file system can (Btrfs, XFS), else copies the data and leaves the holes.
 * Complete and flushed under `to`, or not there at all; replaces what was there.
 */
export async function cloneOrCopy(
  from: string,
  to: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  await writeDurably(resolve(to), temporary =>
    run('cp', ['--reflink=auto', '--sparse=always', '--', resolve(from), temporary], options),
  );
}
