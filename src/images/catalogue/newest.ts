/**
 * What `latest` stands for now, so that somebody who looks twice can tell whether it changed. Nothing is made or downloaded but a publisher's list of checksums.
 *
 * What counts as a new version depends on where the disk comes from:
 * - published: what the publisher's list says now, or the newest in the cache when the publisher cannot be asked;
 * - bootstrapped: the newest in the cache. It was made on some day from the packages of that day; a new one exists when somebody has made one (`kiln
 *   catalogue refresh`), not when a package of the distribution changed: nobody would know without making it;
 * - a file or URL of the user's catalogue: its `version`; without one its content, known by the checksum, or else by the file's size and time.
 */
import { stat } from 'node:fs/promises';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import type { AcquireOptions, PlatformImageReference } from '../source.ts';
import { type CatalogueOptions, diskEntry, laterVersion } from './acquire.ts';
import { type CatalogueEntry, formatName } from './entries.ts';
import { findEntry } from './lookup.ts';
import { readPublication } from './published.ts';
import { cachedVersions, cacheFolder, compareVersions } from './source-cache.ts';

/** A version of something; `version` has no spaces. Mostly numbers with points between them; else a text that differs when the content does. */
export interface NamedVersion {
  /** publisher:offer:sku of the disk, aliases followed; or the id of an image definition. */
  readonly name: string;
  readonly version: string;
}

/** `undefined`: a bootstrapped or published image that nobody has made or fetched yet. Errors: SourceNotFound, SourceUnusable. */
export async function newestPlatformImage(
  reference: PlatformImageReference,
  options: CatalogueOptions,
): Promise<NamedVersion | undefined> {
  const { entry } = findEntry(reference, options.userEntries);
  const disk = diskEntry(entry, options.userEntries);
  const version = await newestVersion(disk, options.cacheDirectory, options);
  return version === undefined ? undefined : { name: formatName(disk), version };
}

/** Of an entry that has a disk of its own. */
export async function newestVersion(
  entry: CatalogueEntry,
  cacheDirectory: string,
  options: AcquireOptions = {},
): Promise<string | undefined> {
  const { origin } = entry;
  switch (origin.kind) {
    case 'file':
      return origin.version ?? (origin.sha256 ? `sha256-${origin.sha256}` : await contentOf(origin.path));
    case 'url':
      return origin.version ?? `sha256-${origin.sha256}`;
    case 'published': {
      const there = await cachedVersions(cacheDirectory, entry);
      const offered = await readPublication(origin, cacheFolder(cacheDirectory, entry), options).catch(error => {
        options.signal?.throwIfAborted();
        if (asKilnError(error).code !== 'DownloadFailed') throw error;
        return undefined;
      });
      if (!offered) return there[0]?.manifest.version;
      const same = there.find(({ manifest }) => manifest.from === `published ${offered.digest}`);
      if (same) return same.manifest.version;
      const taken = there.some(({ manifest }) => manifest.version === offered.version);
      return taken ? laterVersion(offered, there) : offered.version;
    }
    default:
      return (await cachedVersions(cacheDirectory, entry))[0]?.manifest.version;
  }
}

/** As the cache tells files apart, without its path: a file that moved is the same. */
async function contentOf(path: string): Promise<string> {
  try {
    const { size, mtimeMs, ino } = await stat(path);
    return `file-${size}-${mtimeMs}-${ino}`;
  } catch (error) {
    throw new KilnError('SourceUnusable', `The disk of the catalogue cannot be read: ${(error as Error).message}`, {
      target: path,
      cause: error,
    });
  }
}

/** Whether `now` is news to who has seen `before`. Numbers must have grown; whatever else is compared only has to differ. */
export function isNewer(now: NamedVersion, before: NamedVersion): boolean {
  if (now.name.toLowerCase() !== before.name.toLowerCase()) return true;
  if (NUMBERS.test(now.version) && NUMBERS.test(before.version))
    return compareVersions(now.version, before.version) > 0;
  return now.version !== before.version;
}

const NUMBERS = /^\d+(\.\d+){2}$/;
