/** The versions of a platform image that can be asked for: what is on this host, and what would be fetched or made for `latest`. */
import type { AcquireOptions } from '../source.ts';
import { diskEntry, nextOf } from './acquire.ts';
import type { CatalogueEntry } from './entries.ts';
import type { UserEntries } from './lookup.ts';
import { newestVersion } from './newest.ts';
import { cachedVersions, compareVersions } from './source-cache.ts';

export interface KnownVersion {
  readonly version: string;
  /** Bytes that a guest sees; missing while the disk is not on this host. */
  readonly virtualSize?: number;
}

export interface VersionsOptions extends AcquireOptions {
  readonly cacheDirectory: string;
  readonly userEntries?: UserEntries;
}

/** Oldest first. Nothing is made or downloaded but a publisher's list of checksums; when he cannot be asked, what is here counts. */
export async function knownVersions(entry: CatalogueEntry, options: VersionsOptions): Promise<KnownVersion[]> {
  const disk = diskEntry(entry, options.userEntries);
  const there = await cachedVersions(options.cacheDirectory, disk);
  const known = new Map<string, KnownVersion>(
    there.map(({ manifest: { version, virtualSize } }) => [version, { version, virtualSize }]),
  );
  const offered =
    (await nextOf(disk.origin, there)) ??
    (await newestVersion(disk, options.cacheDirectory, options).catch(() => undefined));
  // A file or URL whose content is its version has a number only when it is here.
  if (offered !== undefined && NUMBERS.test(offered) && !known.has(offered)) known.set(offered, { version: offered });
  return [...known.values()].sort((a, b) => compareVersions(a.version, b.version));
}

const NUMBERS = /^\d+\.\d+\.\d+$/;
