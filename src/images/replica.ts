/** Replicas: the files of one image in several regions, each of them its own. An image is its disk and its data disks; it is there when its disk is. */
import { chmod, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sameId } from '../arm/ids.ts';
import { type ContentDigest, contentOf } from '../disks/content.ts';
import { cloneOrCopy, linkOrCopy } from '../disks/copy.ts';
import type { ImageManifest } from './manifest.ts';
import { list, publish, regionsDirectory, remove, type StoredImage, stage, unstage } from './store.ts';

/** Makes the disk file, whole, in a private directory; returns what the manifest is to say of it. */
export type MakeDisk = (
  to: string,
) => Promise<Pick<ImageManifest, 'virtualSize' | 'allocatedSize'> & ContentDigest & { readonly path: string }>;

/**
 * Publishes a disk of one's own in a region. `make` may answer with another's file: that one is copied, or, `shallow`, gets a second name where the file system
 * has such.
 * @param manifest without what only the finished disk tells; its operation owns what is staged meanwhile
 */
export async function placeImage(
  home: string,
  manifest: Omit<ImageManifest, 'virtualSize' | 'allocatedSize' | keyof ContentDigest> & {
    readonly operationId: string;
  },
  make: MakeDisk,
  options: {
    readonly signal: AbortSignal;
    readonly onProgress?: (fraction: number) => void;
    readonly shallow?: boolean;
  },
): Promise<StoredImage> {
  const staged = await stage(home, manifest.location, manifest.operationId);
  try {
    const to = join(staged.directory, manifest.file);
    const { path, virtualSize, allocatedSize, ...disk } = await make(to);
    if (path !== to) await (options.shallow ? linkOrCopy(path, to, options) : cloneOrCopy(path, to, options));
    options.signal.throwIfAborted();
    await chmod(to, 0o444);
    return await publish(home, staged, { ...manifest, virtualSize, allocatedSize, ...contentOf(disk) });
  } catch (error) {
    await unstage(staged);
    throw error;
  }
}

/** All files of an image: those of its own id, and of its data disks below that. */
export async function filesOf(home: string, id: string): Promise<StoredImage[]> {
  const below = `${id.toLowerCase()}/`;
  return (await list(home)).filter(
    ({ manifest }) => sameId(manifest.id, id) || manifest.id.toLowerCase().startsWith(below),
  );
}

/** The disk goes first: without it the image is not there. `keep`: regions where it stays. */
export async function removeFiles(home: string, id: string, keep: readonly string[] = []): Promise<void> {
  const files = await filesOf(home, id);
  const order = (image: StoredImage) => (sameId(image.manifest.id, id) ? 0 : 1);
  for (const image of files.sort((a, b) => order(a) - order(b)))
    if (!keep.includes(image.manifest.location)) await remove(image);
}

/** What an operation has put together and never published: its process died. */
export async function removeStaged(home: string, operationId: string): Promise<void> {
  const regions = regionsDirectory(home);
  for (const location of await readdir(regions).catch(() => [])) {
    const directory = join(regions, location, '.staged');
    for (const name of await readdir(directory).catch(() => []))
      if (name.startsWith(`${operationId}+`)) await rm(join(directory, name), { recursive: true, force: true });
  }
}
