/**
 * The `create` operation of a managed image: its VHDs are looked at, copied into the store of its region, and then the image is there. A worker that dies over it
 * leaves it to the next one, which begins anew.
 */
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import { contentOf } from '../../disks/content.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import { dataDiskId } from '../../images/data-disks.ts';
import type { ImageManifest } from '../../images/manifest.ts';
import {
  IMAGE_FILES,
  list,
  publish,
  remove,
  type Staged,
  type StoredImage,
  stage,
  unstage,
  unstageAll,
} from '../../images/store.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { getResource, lockResource, patchProperties, type StoredResource, waitsFor } from '../store.ts';
import { openDiskSource, takeDisk } from './disk-source.ts';
import { type ImageDiskSource, imageDiskSources } from './image-sources.ts';
import type { ImageProperties, StorageProfile } from './images.ts';

export const IMAGE_CREATE_KIND = 'Microsoft.Compute/images/create';
/** A copy of the largest disk takes less. */
export const IMAGE_CREATE_SECONDS = 6 * 3600;

export interface ImageInput {
  readonly imageId: string;
}

type Environment = Pick<ProviderEnvironment, 'database' | 'home'>;

interface Copied {
  readonly staged: Staged;
  readonly manifest: ImageManifest;
  readonly source: ImageDiskSource;
}

export function createImageHandler(environment: Environment): OperationHandler {
  const { database, home } = environment;
  return {
    kind: IMAGE_CREATE_KIND,
    async run({ id, signal }, input) {
      const { imageId } = input as ImageInput;
      const image = await getResource(database, imageId);
      // A worker has done it, or it is to be deleted.
      if (!waitsFor(image, id, ['Creating'])) return null;
      await unstageAll(home.root, image.location!, id);
      const copied: Copied[] = [];
      const published: StoredImage[] = [];
      try {
        const sources = await imageDiskSources(database, image.properties as Partial<ImageProperties>);
        for (const source of sources) copied.push(await copyDisk(environment, image, source, { id, signal }));
        signal.throwIfAborted();
        // None of them is there before all are.
        for (const { staged, manifest } of copied) published.push(await publish(home.root, staged, manifest));
        const recorded = await whenReachable(
          () => database.transaction().execute(trx => record(trx, imageId, id, copied)),
          signal,
        );
        if (!recorded) for (const disk of published) await remove(disk);
        else await removeDisks(environment, imageId, id);
        return null;
      } catch (error) {
        for (const { staged } of copied) await unstage(staged);
        // Another worker makes the image now; it publishes under the same names.
        if (asKilnError(signal.aborted ? signal.reason : error).code === 'WorkerLost') throw error;
        const failed = await whenReachable(
          () => database.transaction().execute(trx => fail(trx, imageId, id)),
          AbortSignal.timeout(10_000),
        ).catch(() => false);
        // Where it does not wait any more it was recorded with them, or its deletion takes them away.
        if (failed) for (const disk of published) await remove(disk);
        throw error;
      }
    },
    async abandoned(trx, operation) {
      const waited = await fail(trx, operation.resource_id!, operation.id);
      return waited || operation.status !== 'Running' ? undefined : { status: 'Succeeded', output: null };
    },
  };
}

/** Under the lock of the image, while it waits for this operation; undefined when it does not. */
async function whileWaiting<T>(
  trx: Transacting,
  imageId: string,
  operation: string,
  write: (image: StoredResource) => Promise<T>,
): Promise<T | undefined> {
  await lockResource(trx, imageId);
  const image = await getResource(trx, imageId);
  return waitsFor(image, operation, ['Creating']) ? await write(image) : undefined;
}

async function fail(trx: Transacting, imageId: string, operation: string): Promise<boolean> {
  const failed = () => patchProperties(trx, imageId, { provisioningState: 'Failed' });
  return (await whileWaiting(trx, imageId, operation, failed)) !== undefined;
}

/** May be done twice. False when the image does not wait for it any more, and these files are nobody's. */
export async function record(
  trx: Transacting,
  imageId: string,
  operation: string,
  copied: readonly Pick<Copied, 'source' | 'manifest'>[],
): Promise<boolean> {
  const sizes = new Map(
    copied.map(({ source: { lun, sizeGB }, manifest }) => [lun, sizeGB ?? gib(manifest.virtualSize)]),
  );
  const written = await whileWaiting(trx, imageId, operation, async ({ properties }) => {
    const { osDisk, dataDisks = [], ...profile } = properties.storageProfile as StorageProfile;
    const storageProfile = {
      ...profile,
      osDisk: { ...osDisk, diskSizeGB: sizes.get(undefined) },
      dataDisks: dataDisks.map(disk => ({ ...disk, diskSizeGB: sizes.get(disk.lun) })),
    };
    return await patchProperties(trx, imageId, { storageProfile, provisioningState: 'Succeeded' });
  });
  if (written) return true;
  // Done before, when the answer to the commit was lost: these files are the image's.
  return waitsFor(await getResource(trx, imageId), operation, ['Succeeded']);
}

const gib = (bytes: number): number => Math.ceil(bytes / 1024 ** 3);

async function copyDisk(
  environment: Environment,
  image: StoredResource,
  source: ImageDiskSource,
  { id, signal }: { readonly id: string; readonly signal: AbortSignal },
): Promise<Copied> {
  const { lun, uri, path, sizeGB } = source;
  const location = image.location!;
  const opened = await openDiskSource(environment, { uri, path }, { location });
  if (sizeGB !== undefined && sizeGB > 0 && sizeGB < gib(opened.disk.virtualSize))
    throw new KilnError(
      'OperationNotAllowed',
      `Disk with size ${sizeGB}GB, which is smaller than the size ${gib(opened.disk.virtualSize)}GB of corresponding disk in Image, is not allowed.`,
      { target: path.replace(/blobUri$/, 'diskSizeGB') },
    );
  const staged = await stage(environment.home.root, location, id);
  try {
    const disk = await takeDisk(opened.disk, { to: `${staged.directory}/${IMAGE_FILES.qcow2}`, signal });
    const { osDisk } = image.properties.storageProfile as StorageProfile;
    const hyperVGeneration = image.properties.hyperVGeneration === 'V2' ? 'V2' : 'V1';
    const manifest: ImageManifest = {
      schema: 1,
      id: lun === undefined ? image.id : dataDiskId(image.id, lun),
      kind: 'ManagedImage',
      name: lun === undefined ? image.name : `${image.name} (data disk ${lun})`,
      location,
      ...{ format: 'qcow2', file: IMAGE_FILES.qcow2 },
      ...{ virtualSize: disk.virtualSize, allocatedSize: disk.allocatedSize, ...contentOf(disk) },
      createdAt: new Date().toISOString(),
      operationId: id,
      source: { name: opened.id },
      ...{ osType: osDisk.osType, hyperVGeneration, firmware: hyperVGeneration === 'V2' ? 'uefi' : 'bios' },
      tags: { ...image.tags },
    };
    return { staged, manifest, source };
  } catch (error) {
    await unstage(staged);
    throw error;
  }
}

/** The files of an image. `keep`: but for those that this operation made. */
export async function removeDisks({ home }: Pick<Environment, 'home'>, imageId: string, keep?: string): Promise<void> {
  const key = idKey(imageId);
  const dataDisks = idKey(dataDiskId(key, 'any')).slice(0, -'any'.length);
  for (const stored of await list(home.root)) {
    const { id, operationId } = stored.manifest;
    const isOf = idKey(id) === key || idKey(id).startsWith(dataDisks);
    if (isOf && (keep === undefined || operationId !== keep)) await remove(stored);
  }
}
