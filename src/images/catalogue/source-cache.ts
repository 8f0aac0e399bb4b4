/** Source images on this host: each made once for all builds, complete or not there. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { KilnError } from '../../arm/errors.ts';
import { moveDurably, sync } from '../../disks/durable.ts';
import { lockFile } from '../../disks/file-lock.ts';
import { sha256File } from '../../disks/hash.ts';
import { inspect } from '../../disks/qemu-img.ts';
import { run } from '../../processes/process.ts';
import type { AcquireOptions, SourceImage } from '../source.ts';
import { type CatalogueEntry, formatName } from './entries.ts';

const Manifest = Type.Object({
  schema: Type.Literal(1),
  publisher: Type.String(),
  offer: Type.String(),
  sku: Type.String(),
  version: Type.String({ pattern: '^\\d+\\.\\d+\\.\\d+$' }),
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  fileSize: Type.Integer({ minimum: 1 }),
  virtualSize: Type.Integer({ minimum: 1 }),
  madeAt: Type.String(),
  /** What it was made from: a release, a digest, a file with its time. Equal text means: nothing new. */
  from: Type.String(),
});

type Manifest = Static<typeof Manifest>;

/** A source image that lies in the cache. */
export interface CachedSource {
  readonly disk: string;
  readonly manifest: Readonly<Manifest>;
}

const DISK = 'disk.qcow2';
const MAKING = '.making-';

/** The folder of one entry's versions. */
export function cacheFolder(cacheDirectory: string, entry: CatalogueEntry): string {
  return join(cacheDirectory, [entry.publisher, entry.offer, entry.sku].join('_'));
}

/** Versions that are there, newest first. A version whose manifest is unreadable or whose disk has another size is not there. */
export async function cachedVersions(cacheDirectory: string, entry: CatalogueEntry): Promise<CachedSource[]> {
  const folder = cacheFolder(cacheDirectory, entry);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const found: CachedSource[] = [];
  for (const name of names.filter(each => /^\d+\.\d+\.\d+$/.test(each))) {
    const source = await readCached(join(folder, name));
    if (source && source.manifest.version === name && formatName(source.manifest) === formatName(entry))
      found.push(source);
  }
  return found.sort((a, b) => compareVersions(b.manifest.version, a.manifest.version));
}

export async function readCached(directory: string): Promise<CachedSource | undefined> {
  try {
    const manifest: unknown = JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8'));
    const disk = join(directory, DISK);
    if (!Value.Check(Manifest, manifest) || (await stat(disk)).size !== manifest.fileSize) return undefined;
    return { disk, manifest };
  } catch {
    return undefined;
  }
}

/** Orders versions of three numbers, which may have more digits than a double. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(BigInt);
  const right = b.split('.').map(BigInt);
  for (let at = 0; at < 3; at++) {
    const [x, y] = [left[at] ?? 0n, right[at] ?? 0n];
    if (x !== y) return x < y ? -1 : 1;
  }
  return 0;
}

/** `0.20261122` → the first version of that day that is free: 0.20261122.0, 0.20261122.1 … */
export function nextVersion(series: string, taken: readonly CachedSource[]): string {
  const used = new Set(taken.map(({ manifest }) => manifest.version));
  for (let patch = 0; ; patch++) if (!used.has(`${series}.${patch}`)) return `${series}.${patch}`;
}

export interface Making {
  readonly version: string;
  readonly from: string;
  /** Fills the empty private directory with `disk.qcow2`. */
  readonly fill: (directory: string, disk: string) => Promise<void>;
}

/**
 * Gives `decide` the versions that are there while no other process makes one of this entry, and makes what it asks for, unless
 * it is content with one that is there. The second of two processes waits, says so, and finds what the first has made.
 */
export async function makeOnce(
  cacheDirectory: string,
  entry: CatalogueEntry,
  options: AcquireOptions,
  decide: (there: readonly CachedSource[]) => Promise<CachedSource | Making>,
): Promise<CachedSource> {
  const folder = cacheFolder(cacheDirectory, entry);
  await mkdir(folder, { recursive: true });
  await using _lock = await lockFile(join(folder, '.lock'), {
    ...(options.signal && { signal: options.signal }),
    onWait: () => options.report?.(`Another kiln process is preparing ${formatName(entry)}; waiting for it.`),
  });
  await sweep(folder);
  const there = await cachedVersions(cacheDirectory, entry);
  const decided = await decide(there);
  if ('disk' in decided) return decided;
  const { version, from } = decided;
  // Never replaced: images and layers are built on it.
  if (there.some(({ manifest }) => manifest.version === version))
    throw new KilnError('Conflict', `${formatName(entry)}:${version} is here already, with other content.`, {
      target: `${formatName(entry)}:${version}`,
      hint: 'Give the catalogue entry a new version, or none: then Kiln counts by itself.',
    });
  const directory = await mkdtemp(join(folder, MAKING));
  try {
    const disk = join(directory, DISK);
    await decided.fill(directory, disk);
    // Builds read it as their backing file, also as another user; nobody may write to it.
    await chmod(disk, 0o444);
    await chmod(directory, 0o755);
    const { virtualSize } = await inspect(disk, 'qcow2', options.signal);
    const progress = options.onProgress;
    const sha256 = await sha256File(disk, {
      ...(options.signal && { signal: options.signal }),
      ...(progress && { onProgress: (done, total) => progress({ label: 'hashing', done, total, unit: 'bytes' }) }),
    });
    const { publisher, offer, sku } = entry;
    const manifest: Manifest = {
      ...{ schema: 1, publisher, offer, sku, version, sha256 },
      ...{ fileSize: (await stat(disk)).size, virtualSize, madeAt: new Date().toISOString(), from },
    };
    await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    for (const name of [DISK, 'manifest.json', '.']) await sync(join(directory, name));
    const home = join(folder, version);
    // A broken leftover of that version (the listing above did not count it) makes room.
    await rm(home, { recursive: true, force: true });
    await moveDurably(directory, home);
    return { disk: join(home, DISK), manifest };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Removes what a process that died has left half-made. Called by the holder of the lock, so nobody is at work in there. */
async function sweep(folder: string): Promise<void> {
  // coreutils' rm stays on this file system, whatever may be mounted in there.
  for (const name of await readdir(folder))
    if (name.startsWith(MAKING)) await run('rm', ['-rf', '--one-file-system', '--', join(folder, name)]);
}

export function toSourceImage(entry: CatalogueEntry, { disk, manifest }: CachedSource): SourceImage {
  return {
    name: `${formatName(entry)}:${manifest.version}`,
    exactVersion: manifest.version,
    disk: { path: disk, format: 'qcow2' },
    sha256: manifest.sha256,
    virtualSize: manifest.virtualSize,
    osType: entry.osType,
    hyperVGeneration: entry.hyperVGeneration,
    firmware: entry.firmware,
    provisioning: entry.provisioning,
  };
}
