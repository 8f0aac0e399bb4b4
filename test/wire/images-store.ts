/** Managed images of the wire tests, as a build leaves them: a row, and a small real disk in the store of its region. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { passOverFile } from '../../src/disks/pass.ts';
import { inspect, MIB } from '../../src/disks/qemu-img.ts';
import { addImage, type StoredImage } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { images } from '../../src/providers/compute/images.ts';
import { putValidated } from '../../src/providers/life.ts';
import type { Service } from '../../src/service.ts';
import { temporaryHome } from '../kiln.ts';

export interface StoredImageOptions {
  readonly id: string;
  readonly location: string;
  readonly hyperVGeneration?: 'V1' | 'V2';
  readonly osType?: 'Linux' | 'Windows';
  /** Random bytes at its beginning. */
  readonly bytes?: number;
}

type Stores = Pick<Service, 'home' | 'database'>;

/** A disk of 64 MiB, or as large as its bytes are, in the store alone. */
export async function storeDisk(
  { home }: Pick<Stores, 'home'>,
  { id, location, hyperVGeneration = 'V1', osType = 'Linux', bytes = 4096 }: StoredImageOptions,
): Promise<StoredImage> {
  const directory = await temporaryHome();
  try {
    const raw = join(directory.path, 'disk.raw');
    const disk = join(directory.path, 'disk.qcow2');
    await writeFile(raw, randomBytes(bytes));
    await run('truncate', ['--size', String(Math.max(64 * MIB, bytes)), raw]);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, disk]);
    const { virtualSize, allocatedSize } = await inspect(disk, 'qcow2');
    const { fsverity } = await passOverFile(disk);
    const name = id.split('/').at(-1)!;
    return await addImage(home.root, disk, {
      ...{ schema: 1, id, kind: 'ManagedImage', name, location, format: 'qcow2', file: 'disk.qcow2' },
      ...{ virtualSize, allocatedSize, fsverity, createdAt: new Date().toISOString(), operationId: 'test' },
      ...{ source: { name: 'random' }, osType, hyperVGeneration, firmware: 'bios', tags: {} },
    });
  } finally {
    await directory.remove();
  }
}

export async function storeManagedImage(stores: Stores, options: StoredImageOptions): Promise<StoredImage> {
  const { id, location, hyperVGeneration = 'V1', osType = 'Linux' } = options;
  const stored = await storeDisk(stores, options);
  await putValidated(stores.database.kysely, images, {
    id,
    apiVersion: images.apiVersions[0]!,
    body: {
      location,
      properties: { hyperVGeneration, storageProfile: { osDisk: { osType, osState: 'Generalized', diskSizeGB: 1 } } },
    },
    known: { provisioningState: 'Succeeded' },
  });
  return stored;
}
