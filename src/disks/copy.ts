/** Copies of disk files that cost as little as the file system allows. */
import { link, stat } from 'node:fs/promises';
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
  { signal, onProgress }: { readonly signal?: AbortSignal; readonly onProgress?: (fraction: number) => void } = {},
): Promise<void> {
  await writeDurably(resolve(to), async temporary => {
    const watch = onProgress && setInterval(() => void copied(from, temporary).then(onProgress), WATCH);
    try {
      const args = ['--reflink=auto', '--sparse=always', '--', resolve(from), temporary];
      await run('cp', args, signal ? { signal } : {});
    } finally {
      clearInterval(watch);
    }
  });
}

/** How often the size of a copy is looked at (ms). */
const WATCH = 500;

/** Fraction of the blocks that are there, 0 to 1. */
async function copied(from: string, to: string): Promise<number> {
  const [whole, part] = await Promise.all([from, to].map(path => stat(path).catch(() => undefined)));
  return whole && part && whole.blocks > 0 ? Math.min(part.blocks / whole.blocks, 1) : 0;
}

/** A second name of a file that is never written again, or a copy where the file system has no such. */
export async function linkOrCopy(
  from: string,
  to: string,
  options: { readonly signal?: AbortSignal; readonly onProgress?: (fraction: number) => void },
): Promise<void> {
  await link(from, to).catch(async (error: NodeJS.ErrnoException) => {
    if (!['EXDEV', 'EPERM', 'EMLINK'].includes(error.code ?? '')) throw error;
    await cloneOrCopy(from, to, options);
  });
}
