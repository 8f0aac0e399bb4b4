/** All source images in a cache, whatever entry of a catalogue they belong to. */
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFile } from '../../disks/file-lock.ts';
import { readCached } from './source-cache.ts';

export interface KeptSource {
  /** publisher:offer:sku:version */
  readonly name: string;
  readonly directory: string;
  readonly madeAt: string;
  readonly usedAt: Date;
  /** Bytes on disk. */
  readonly allocated: number;
}

export async function keptSources(cacheDirectory: string): Promise<KeptSource[]> {
  const found: KeptSource[] = [];
  for (const folder of await readdir(cacheDirectory))
    for (const version of await readdir(join(cacheDirectory, folder)).catch(() => [])) {
      if (!/^\d+\.\d+\.\d+$/.test(version)) continue;
      const directory = join(cacheDirectory, folder, version);
      const cached = await readCached(directory);
      if (!cached) continue;
      const { publisher, offer, sku, madeAt } = cached.manifest;
      const { blocks, atime, mtime } = await stat(cached.disk);
      // Which file systems note when a file was read differs.
      const usedAt = new Date(Math.max(atime.getTime(), mtime.getTime()));
      found.push({
        name: [publisher, offer, sku, version].join(':'),
        ...{ directory, madeAt, usedAt, allocated: blocks * 512 },
      });
    }
  return found;
}

/** Builds hold a name of their own for the disk that they stand on. Waits for whoever is making one of the same entry. */
export async function removeSource({ directory }: KeptSource): Promise<void> {
  await using _lock = await lockFile(join(directory, '..', '.lock'));
  await rm(directory, { recursive: true, force: true });
}
