/** From publisher:offer:sku:version to a disk on this host: found in the cache, downloaded, copied or bootstrapped. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { cloneOrCopy } from '../../disks/copy.ts';
import { sha256File } from '../../disks/hash.ts';
import { convertDisk } from '../../disks/qemu-img.ts';
import { inspectUntrusted } from '../../disks/untrusted.ts';
import type { AcquireOptions, PlatformImageReference, SourceImage } from '../source.ts';
import { compactDay } from './checksums.ts';
import { bootstrap } from './debian/bootstrap.ts';
import { DISTRIBUTIONS } from './debian/distributions.ts';
import { type CatalogueEntry, formatName, type Origin } from './entries.ts';
import { findEntry, type UserEntries } from './lookup.ts';
import { downloadDisk, type Publication, readPublication } from './published.ts';
import {
  type CachedSource,
  cachedVersions,
  cacheFolder,
  type Making,
  makeOnce,
  nextVersion,
  toSourceImage,
} from './source-cache.ts';

export interface CatalogueOptions extends AcquireOptions {
  /** Where source images are kept for all builds. */
  readonly cacheDirectory: string;
  readonly userEntries?: UserEntries;
}

export interface ResolvedPlatformImage {
  readonly entry: CatalogueEntry;
  /** The version that is in the cache already for this reference; missing when it has yet to be made or downloaded. */
  readonly exactVersion: string | undefined;
}

/**
 * Says what a reference stands for, without touching the network. Reports aliases. Rejects with SourceNotFound, which lists the
 * nearest names.
 */
export async function resolvePlatformImage(
  reference: PlatformImageReference,
  options: CatalogueOptions,
): Promise<ResolvedPlatformImage> {
  const { entry, notes, version } = findEntry(reference, options.userEntries);
  for (const note of notes) options.report?.(note);
  const there = await cachedVersions(options.cacheDirectory, diskEntry(entry, options.userEntries));
  return { entry, exactVersion: choose(there, version)?.manifest.version };
}

/**
 * Brings the disk behind a reference to this host and returns it. `latest` is, of a bootstrapped image, the newest one in the cache (made
 * now if there is none); of a published one, what its publisher lists now, or the newest in the cache when the publisher can't be asked.
 * Rejects with SourceNotFound, SourceUnusable, ChecksumMismatch, DownloadFailed, BootstrapFailed, ToolMissing, DiskFull.
 */
export async function acquirePlatformImage(
  reference: PlatformImageReference,
  options: CatalogueOptions,
): Promise<SourceImage> {
  const { entry, notes, version } = findEntry(reference, options.userEntries);
  for (const note of notes) options.report?.(note);
  const source = diskEntry(entry, options.userEntries);
  const cached = await acquire(source, version.toLowerCase(), options);
  return toSourceImage(entry, cached);
}

/** The disk behind a reference as far as it is on this host already; nobody is asked. Rejects with SourceNotFound. */
export async function cachedPlatformImage(
  reference: PlatformImageReference,
  options: CatalogueOptions,
): Promise<SourceImage | undefined> {
  const { entry, version } = findEntry(reference, options.userEntries);
  const there = await cachedVersions(options.cacheDirectory, diskEntry(entry, options.userEntries));
  const cached = choose(there, version.toLowerCase());
  return cached && toSourceImage(entry, cached);
}

/**
 * Looks for news: makes a new version of a bootstrapped image when the newest is of another day (`force`: in any case), and asks the
 * publisher of the others.
 */
export async function refreshPlatformImage(
  reference: PlatformImageReference,
  options: CatalogueOptions & { readonly force?: boolean },
): Promise<SourceImage> {
  const { entry, notes } = findEntry({ ...reference, version: 'latest' }, options.userEntries);
  for (const note of notes) options.report?.(note);
  const source = diskEntry(entry, options.userEntries);
  if (source.origin.kind !== 'bootstrap') return toSourceImage(entry, await acquire(source, 'latest', options));
  const origin = source.origin;
  const today = `0.${compactDay(new Date())}`;
  const cached = await makeOnce(options.cacheDirectory, source, options, async there => {
    const current = there.find(({ manifest }) => manifest.version.startsWith(`${today}.`));
    return current && !options.force ? current : bootstrapped(source, origin, there, options);
  });
  return toSourceImage(entry, cached);
}

/** The entry whose disk it is: another one for siblings. */
export function diskEntry(entry: CatalogueEntry, user: UserEntries | undefined): CatalogueEntry {
  if (entry.origin.kind !== 'sibling') return entry;
  return findEntry({ ...entry, sku: entry.origin.sku, version: 'latest' }, user).entry;
}

function choose(there: readonly CachedSource[], version: string): CachedSource | undefined {
  return version === 'latest' ? there[0] : there.find(({ manifest }) => manifest.version === version);
}

async function acquire(entry: CatalogueEntry, version: string, options: CatalogueOptions): Promise<CachedSource> {
  const { origin } = entry;
  const there = await cachedVersions(options.cacheDirectory, entry);
  const cached = choose(there, version);
  // Nothing can be newer than an exact version, and a bootstrapped image gets newer only when asked to.
  if (cached && (version !== 'latest' || origin.kind === 'bootstrap')) return cached;
  if (origin.kind === 'sibling') throw new Error(`${formatName(entry)} is the sibling of a sibling`);

  if (origin.kind === 'file' && version === 'latest') {
    const copied = await copyOf(entry, origin, there, options);
    if ('disk' in copied) return copied;
  } else if (cached && !(await canWrite(options.cacheDirectory))) {
    options.report?.(
      `${options.cacheDirectory} can only be read. Using version ${cached.manifest.version}, which is here already.`,
    );
    return cached;
  }

  let publication: Publication | undefined;
  if (origin.kind === 'published') {
    try {
      publication = await readPublication(origin, cacheFolder(options.cacheDirectory, entry), options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!cached || !(error instanceof KilnError) || error.code !== 'DownloadFailed') throw error;
      options.report?.(`${error.message} Using version ${cached.manifest.version}, which is here already.`);
      return cached;
    }
  }
  const offered = offeredVersion(origin, publication) ?? (await nextOf(origin, there));
  if (version !== 'latest' && version !== offered) throw noSuchVersion(entry, version, there, offered);

  return makeOnce(options.cacheDirectory, entry, options, async now => {
    if (origin.kind === 'bootstrap') return now[0] ?? bootstrapped(entry, origin, now, options);
    if (origin.kind === 'file') return copyOf(entry, origin, now, options);
    const what = publication ?? (origin as Origin & { kind: 'url' });
    const from = `${origin.kind} ${publication ? publication.digest : what.sha256}`;
    const same = now.find(({ manifest }) => manifest.from === from);
    if (same) return same;
    const series = publication?.series ?? `0.${compactDay(new Date())}`;
    const fill = (directory: string, disk: string) =>
      downloadDisk(what, { ...options, directory, disk, folder: cacheFolder(options.cacheDirectory, entry) });
    const taken = publication && now.some(({ manifest }) => manifest.version === offered);
    return { version: taken ? laterVersion(publication!, now) : (offered ?? nextVersion(series, now)), from, fill };
  });
}

const canWrite = (directory: string): Promise<boolean> =>
  access(directory, constants.W_OK).then(
    () => true,
    error => !['EROFS', 'EACCES'].includes(error.code),
  );

/** The one version that an origin has, where it says so. */
function offeredVersion(origin: Origin, publication: Publication | undefined): string | undefined {
  if (publication) return publication.version;
  return 'version' in origin ? origin.version : undefined;
}

/**
 * The version that a disk without one of its own would get if it were made now: of a bootstrapped image that is not there yet, and of a local file that has
 * changed. undefined where nothing new would be made, or nobody knows.
 */
export async function nextOf(origin: Origin, there: readonly CachedSource[]): Promise<string | undefined> {
  if (origin.kind === 'bootstrap' && there.length === 0) return nextVersion(`0.${compactDay(new Date())}`, there);
  if (origin.kind !== 'file' || origin.version !== undefined) return undefined;
  const file = await stat(origin.path).catch(() => undefined);
  if (!file || there.some(({ manifest }) => manifest.from === fileOrigin(origin, file))) return undefined;
  return nextVersion(`0.${compactDay(new Date(file.mtimeMs))}`, there);
}

/** What tells one state of a file from another. */
function fileOrigin(
  { path, sha256 }: Origin & { kind: 'file' },
  { size, mtimeMs, ino }: { readonly size: number; readonly mtimeMs: number; readonly ino: number },
): string {
  return `file ${path} ${size} ${mtimeMs} ${ino} ${sha256 ?? ''}`.trimEnd();
}

/** A publisher replaced its disk twice on one day: 22.04.20260301 is followed by 22.04.202603012, 0.20260301.0 by 0.20260301.1. */
export function laterVersion({ version, series }: Publication, there: readonly CachedSource[]): string {
  if (version.endsWith('.0')) return nextVersion(series, there);
  const used = new Set(there.map(({ manifest }) => manifest.version));
  for (let n = 2; ; n++) if (!used.has(`${version}${n}`)) return `${version}${n}`;
}

function bootstrapped(
  entry: CatalogueEntry,
  origin: Origin & { kind: 'bootstrap' },
  there: readonly CachedSource[],
  options: CatalogueOptions,
): Making {
  const version = nextVersion(`0.${compactDay(new Date())}`, there);
  const { distribution, release } = origin;
  const { title } = DISTRIBUTIONS[distribution];
  options.report?.(
    `Making ${formatName(entry)}:${version} from packages of ${title} ${release}; this takes a minute or two, once.`,
  );
  const logPath = join(cacheFolder(options.cacheDirectory, entry), 'bootstrap.log');
  return {
    version,
    from: `bootstrap ${distribution} ${release}`,
    fill: (_directory, disk) => bootstrap({ ...options, distribution, release, disk, logPath }),
  };
}

async function copyOf(
  entry: CatalogueEntry,
  origin: Origin & { kind: 'file' },
  there: readonly CachedSource[],
  options: CatalogueOptions,
): Promise<CachedSource | Making> {
  const { path, sha256: expected } = origin;
  const info = await inspectUntrusted(path, undefined, options.signal);
  const file = await stat(path);
  const from = fileOrigin(origin, file);
  const same = there.find(({ manifest }) => manifest.from === from);
  if (same) return same;
  const version = origin.version ?? nextVersion(`0.${compactDay(new Date(file.mtimeMs))}`, there);
  const signal = options.signal && { signal: options.signal };
  const { onProgress } = options;
  return {
    version,
    from,
    fill: async (_directory, disk) => {
      options.report?.(`Copying ${path} as ${formatName(entry)}:${version}.`);
      if (expected !== undefined) {
        const found = await sha256File(path, signal);
        if (found !== expected)
          throw new KilnError(
            'ChecksumMismatch',
            `${path} is not what the catalogue says: SHA256 is ${found}, expected ${expected}.`,
            { target: path },
          );
      }
      if (info.format === 'qcow2') await cloneOrCopy(path, disk, signal);
      else
        await convertDisk(
          { path, format: info.format },
          {
            to: disk,
            format: 'qcow2',
            ...signal,
            ...(onProgress && {
              onProgress: done =>
                onProgress({ label: 'copying', done: done * info.virtualSize, total: info.virtualSize, unit: 'bytes' }),
            }),
          },
        );
    },
  };
}

function noSuchVersion(
  entry: CatalogueEntry,
  version: string,
  there: readonly CachedSource[],
  offered: string | undefined,
): KilnError {
  const known = [...new Set([...(offered ? [offered] : []), ...there.map(({ manifest }) => manifest.version)])];
  return new KilnError('SourceNotFound', `${formatName(entry)} has no version ${version} here.`, {
    target: `${formatName(entry)}:${version}`,
    hint: known.length > 0 ? `Versions: ${known.join(', ')}, or latest.` : 'Use the version latest.',
  });
}
