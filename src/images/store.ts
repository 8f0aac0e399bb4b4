/**
 * The region store: finished images as files, HOME/regions/LOCATION/KIND/ID/{disk, manifest.json}. An image is there complete or
 * not at all, whatever happens to the process that publishes it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { cloneOrCopy, linkOrCopy } from '../disks/copy.ts';
import { moveDurably, sync } from '../disks/durable.ts';
import { convertDisk, type DiskFormat } from '../disks/qemu-img.ts';
import { dataDiskId, isDataDisk } from './data-disks.ts';
import { type ImageKind, type ImageManifest, makerOf, parseManifest } from './manifest.ts';

/** A finished image and where its disk lies. */
export interface StoredImage {
  readonly manifest: ImageManifest;
  readonly directory: string;
  /** Absolute path of the disk. */
  readonly path: string;
}

/** A private directory in which an image is put together, on the file system of its region. */
export interface Staged {
  readonly directory: string;
  readonly location: string;
  /** Who is at work in it: what `sweepStaged` asks about. */
  readonly owner: string;
}

export interface ExportOptions {
  readonly format: DiskFormat;
  readonly to: string;
  readonly signal?: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

export const IMAGE_FILES: Readonly<Record<DiskFormat, ImageManifest['file']>> = Object.freeze({
  qcow2: 'disk.qcow2',
  vhd: 'image.vhd',
  raw: 'disk.raw',
});

const KINDS: readonly ImageKind[] = ['ManagedImage', 'SharedImage', 'VHD'];
const MANIFEST = 'manifest.json';
const STAGED = '.staged';
const REPLACED = '.replaced-';
const REMOVED = '.removed-';

/** The directory of the images of all regions. */
export function regionsDirectory(home: string): string {
  return join(resolve(home), 'regions');
}

/** Makes a private directory in a region. `owner` (the id of a run or operation) must be fit for a file name and hold no `+`. */
export async function stage(home: string, location: string, owner: string): Promise<Staged> {
  if (!/^[a-z0-9]+$/.test(location) || !/^[A-Za-z0-9._-]+$/.test(owner))
    throw new Error(`${location} or ${owner} is not fit for a file name`);
  const directory = join(regionsDirectory(home), location, STAGED, `${owner}+${randomUUID().slice(0, 8)}`);
  await mkdir(directory, { recursive: true });
  return { directory, location, owner };
}

/**
 * Publishes what was put together: writes the manifest, flushes everything and gives it its place with one rename. Another
 * maker's image of the same resource id stays beside it until `supersede`, so that one that fails to say what it published has destroyed
 * nothing. The staged directory becomes the image's.
 */
export async function publish(home: string, staged: Staged, manifest: ImageManifest): Promise<StoredImage> {
  if (parseManifest(JSON.stringify(manifest)) === undefined)
    throw new Error(`the manifest of ${manifest.id} is not valid`);
  if (manifest.location !== staged.location) throw new Error(`${manifest.id} was staged in ${staged.location}`);
  const disk = join(staged.directory, manifest.file);
  await stat(disk);
  await writeFile(join(staged.directory, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
  for (const path of [disk, join(staged.directory, MANIFEST), staged.directory]) await sync(path);
  const directory = imageDirectory(home, manifest);
  const parent = dirname(directory);
  await mkdir(parent, { recursive: true });
  // Two that publish the same image at once: the one whose rename fails makes room again.
  for (let attempt = 1; ; attempt++) {
    const old = join(parent, `${REPLACED}${basename(directory)}+${randomUUID().slice(0, 8)}`);
    const replaced = await rename(directory, old)
      .then(() => true)
      .catch(unlessMissing);
    try {
      await moveDurably(staged.directory, directory);
      if (replaced) await rm(old, { recursive: true, force: true });
      return { manifest, directory, path: join(directory, manifest.file) };
    } catch (error) {
      if (replaced) await rename(old, directory).catch(() => {});
      const code = (error as NodeJS.ErrnoException).code;
      if (attempt === 5 || (code !== 'ENOTEMPTY' && code !== 'EEXIST')) throw error;
    }
  }
}

/**
 * Publishes a finished disk: `from`, which is never written again, gets a second name where the file system can (and stays), else it is
 * copied. The manifest's maker owns what is staged meanwhile.
 */
export async function addImage(
  home: string,
  from: string,
  manifest: ImageManifest,
  options: { readonly signal?: AbortSignal } = {},
): Promise<StoredImage> {
  const staged = await stage(home, manifest.location, makerOf(manifest));
  try {
    await chmod(from, 0o444);
    await linkOrCopy(from, join(staged.directory, manifest.file), options);
    return await publish(home, staged, manifest);
  } catch (error) {
    await unstage(staged);
    throw error;
  }
}

/** Removes what an image takes the place of: other makers' images of the same resource id, where it is, and their data disks. Call it when the image is recorded. */
export async function supersede(home: string, { manifest }: StoredImage): Promise<void> {
  for (const other of await list(home, { location: manifest.location }))
    if (isPartOf(other.manifest, manifest) && makerOf(other.manifest) !== makerOf(manifest)) await remove(other);
}

/** Gives up what was put together. */
export async function unstage(staged: Staged): Promise<void> {
  await rm(staged.directory, { recursive: true, force: true });
}

/** Gives up all that an owner has put together in a region: what an earlier attempt of its, whose process died, has left. */
export async function unstageAll(home: string, location: string, owner: string): Promise<void> {
  const staged = join(regionsDirectory(home), location, STAGED);
  for (const name of await names(staged))
    if (name.startsWith(`${owner}+`)) await rm(join(staged, name), { recursive: true, force: true });
}

/** All finished images, by location, kind and name. What has no valid manifest or no disk is not listed. */
export async function list(home: string, filter: { readonly location?: string } = {}): Promise<StoredImage[]> {
  const regions = regionsDirectory(home);
  const found: StoredImage[] = [];
  for (const location of filter.location ? [filter.location] : await names(regions))
    for (const kind of KINDS)
      for (const name of await names(join(regions, location, kind))) {
        if (name.startsWith('.')) continue;
        const image = await read(join(regions, location, kind, name));
        if (image) found.push(image);
      }
  const order = ({ manifest }: StoredImage) => `${manifest.location} ${manifest.kind} ${manifest.name} ${manifest.id}`;
  return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

/**
 * Finds one image by what a person types: a resource id, a name, a run output's name, or the beginning of one of them or of the
 * digest, if only one image fits. Data disks are no images of their own. Rejects with NotFound, which lists the candidates.
 */
export async function find(
  home: string,
  text: string,
  filter: { readonly location?: string } = {},
): Promise<StoredImage> {
  const wanted = text.toLowerCase();
  const all = (await list(home, filter)).filter(({ manifest }) => !isDataDisk(manifest));
  const labels = ({ manifest }: StoredImage) => [
    manifest.id,
    manifest.name,
    ...(manifest.runOutputName ? [manifest.runOutputName] : []),
  ];
  const matches = [
    all.filter(image => labels(image).some(label => label.toLowerCase() === wanted)),
    all.filter(
      image =>
        wanted !== '' &&
        (labels(image).some(label => label.toLowerCase().startsWith(wanted)) || digestBegins(image.manifest, wanted)),
    ),
  ].find(found => found.length > 0);
  const [newest, ...others] = (matches ?? []).toSorted((a, b) =>
    b.manifest.createdAt.localeCompare(a.manifest.createdAt),
  );
  if (newest && others.every(({ manifest }) => stands(newest.manifest, manifest))) return newest;
  const several = (matches ?? []).map(({ manifest }) => `${manifest.id} (${manifest.kind}, ${manifest.location})`);
  throw new KilnError(
    'NotFound',
    matches ? `${matches.length} images are called ${text}.` : `No image is called ${text}.`,
    {
      target: text,
      ...(matches && { hint: `Say which: ${several.join(', ')}.` }),
    },
  );
}

const digestBegins = ({ fsverity, sha256 }: ImageManifest, wanted: string): boolean => {
  const begins = wanted.replace(/^sha256:/, '');
  return begins !== '' && [fsverity?.replace('sha256:', ''), sha256].some(digest => digest?.startsWith(begins));
};

/** An image of that id, or a data disk of one. */
const isPartOf = (other: ImageManifest, image: ImageManifest): boolean =>
  sameImage(other, image) ||
  (other.kind === image.kind && other.id.toLowerCase().startsWith(dataDiskId(image.id, '').toLowerCase()));

const sameImage = (a: ImageManifest, b: ImageManifest): boolean =>
  a.kind === b.kind && a.id.toLowerCase() === b.id.toLowerCase();

/** Whether the newer image is meant when both answer to a name: replicas of one image, and what the same distributor made earlier. */
const stands = (newer: ImageManifest, other: ImageManifest): boolean =>
  sameImage(newer, other) ||
  (newer.kind === other.kind &&
    newer.templateId !== undefined &&
    newer.templateId === other.templateId &&
    newer.runOutputName === other.runOutputName);

/** Removes an image. Removing what is gone already is no error. */
export async function remove(image: StoredImage): Promise<void> {
  const gone = join(dirname(image.directory), `${REMOVED}${randomUUID().slice(0, 8)}`);
  const moved = await rename(image.directory, gone)
    .then(() => true)
    .catch(unlessMissing);
  if (moved) await rm(gone, { recursive: true, force: true });
}

/** Writes an image's disk to a file of the user's: complete, or not there at all. Replaces an existing file. */
export async function exportImage({ manifest, path }: StoredImage, options: ExportOptions): Promise<void> {
  if (manifest.format === options.format) {
    await cloneOrCopy(path, options.to, options.signal && { signal: options.signal });
    options.onProgress?.(1);
  } else await convertDisk({ path, format: manifest.format }, options);
}

/**
 * Removes what processes that died have left: staged directories whose owner is not alive, images that were being replaced or removed. An image that
 * was moved away for its successor, which never came, is put back.
 */
export async function sweepStaged(home: string, isAlive: (owner: string) => boolean | Promise<boolean>): Promise<void> {
  const regions = regionsDirectory(home);
  for (const location of await names(regions)) {
    let busy = false;
    for (const name of await names(join(regions, location, STAGED))) {
      const owner = name.slice(0, name.lastIndexOf('+'));
      if (await isAlive(owner)) busy = true;
      else await rm(join(regions, location, STAGED, name), { recursive: true, force: true });
    }
    // Somebody alive may stand between the two renames.
    if (busy) continue;
    for (const kind of KINDS)
      for (const name of await names(join(regions, location, kind))) {
        const parent = join(regions, location, kind);
        if (name.startsWith(REPLACED)) {
          const home = name.slice(REPLACED.length, name.lastIndexOf('+'));
          // Fails when the successor is there.
          if (
            await rename(join(parent, name), join(parent, home))
              .then(() => true)
              .catch(() => false)
          )
            continue;
        } else if (!name.startsWith(REMOVED)) continue;
        await rm(join(parent, name), { recursive: true, force: true });
      }
  }
}

/** A directory name for any resource id and maker: readable in front, unique by its hash. */
function imageDirectory(home: string, manifest: ImageManifest): string {
  const { id, kind, name, location } = manifest;
  const hash = createHash('sha256')
    .update(`${id.toLowerCase()}\n${makerOf(manifest)}`)
    .digest('hex')
    .slice(0, 16);
  const readable = name
    .toLowerCase()
    .replace(/[^a-z0-9._-]/g, '-')
    .replace(/^\.+/, '')
    .slice(0, 80);
  return join(regionsDirectory(home), location, kind, `${readable}-${hash}`);
}

async function read(directory: string): Promise<StoredImage | undefined> {
  const text = await readFile(join(directory, MANIFEST), 'utf8').catch(() => undefined);
  const manifest = text === undefined ? undefined : parseManifest(text);
  if (!manifest) return undefined;
  const path = join(directory, manifest.file);
  return (await stat(path).catch(() => undefined)) ? { manifest, directory, path } : undefined;
}

async function names(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(unlessMissing)) || [];
}

/** `false` for what is not there. */
function unlessMissing(error: NodeJS.ErrnoException): false {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
  throw error;
}
