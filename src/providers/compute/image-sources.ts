/** What a caller's managed image is made from: one VHD for each disk. Machines, managed disks and snapshots are no resources of Kiln, so they are not there. */
import { KilnError } from '../../arm/errors.ts';
import { parseId, type ResourceId } from '../../arm/ids.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';
import { notFoundError } from '../life.ts';
import type { Store } from '../store.ts';
import type { ImageDisk, ImageProperties, StorageProfile } from './images.ts';

export interface ImageDiskSource {
  /** Missing: the disk of the operating system. */
  readonly lun?: number;
  readonly uri: string;
  /** Where the body names it. */
  readonly path: string;
  /** What `diskSizeGB` says. */
  readonly sizeGB?: number;
}

const AT = 'properties.storageProfile';

interface NamedDisk {
  readonly disk: ImageDisk;
  readonly path: string;
}

function disksOf({ storageProfile }: Partial<ImageProperties>): NamedDisk[] {
  if (!isObject(storageProfile)) return [];
  const { osDisk, dataDisks } = storageProfile as Partial<StorageProfile>;
  return [
    ...(osDisk ? [{ disk: osDisk, path: `${AT}.osDisk` }] : []),
    ...(dataDisks ?? []).map((disk, index) => ({ disk, path: `${AT}.dataDisks[${index}]` })),
  ];
}

/** Rules that are for callers only: what was built has no source to name. Of a body whose shape is right. */
export function sourceViolations(properties: Partial<ImageProperties>): Violation[] {
  if (properties.sourceVirtualMachine) return [];
  const disks = disksOf(properties);
  if (disks.length === 0) return [{ path: AT, message: `Required parameter 'image.${AT}' is missing (null).` }];
  const violations: Violation[] = [];
  const units = new Set<number>();
  for (const { disk, path } of disks) {
    const named = [disk.blobUri, disk.managedDisk, disk.snapshot].filter(source => source !== undefined);
    if (named.length !== 1)
      violations.push({
        path,
        message: `The value of parameter image.${path} is invalid.`,
        hint: 'Exactly one of blobUri, managedDisk and snapshot says where the disk comes from.',
      });
    if ('osState' in disk && disk.osState !== 'Generalized')
      violations.push({
        path: `${path}.osState`,
        message: `The value of parameter image.${path}.osState is invalid.`,
        hint: "A managed image is generalized: its osState is 'Generalized'.",
      });
    if (disk.lun === undefined) continue;
    if (units.has(disk.lun))
      violations.push({ path: `${path}.lun`, message: `A disk at LUN ${disk.lun} already exists.` });
    units.add(disk.lun);
  }
  return violations;
}

/** Errors: LinkedInvalidPropertyId, NotFound, ResourceNotFound for what is none of Kiln's resources. */
export async function imageDiskSources(store: Store, properties: Partial<ImageProperties>): Promise<ImageDiskSource[]> {
  const machine = properties.sourceVirtualMachine;
  if (machine) {
    const { name } = parseId(machine.id, 'properties.sourceVirtualMachine.id');
    const message = `Source Virtual Machine '${name}' specified in the request does not exist in this Azure location.`;
    throw new KilnError('NotFound', message, { target: 'properties.sourceVirtualMachine.id' });
  }
  const sources: ImageDiskSource[] = [];
  for (const { disk, path } of disksOf(properties)) {
    for (const field of ['managedDisk', 'snapshot'] as const) {
      const id = disk[field]?.id;
      if (id !== undefined) throw await missing(store, parseId(id, `${path}.${field}.id`), `${path}.${field}.id`);
    }
    sources.push({
      ...(disk.lun !== undefined && { lun: disk.lun }),
      ...{ uri: disk.blobUri!, path: `${path}.blobUri` },
      ...(disk.diskSizeGB !== undefined && { sizeGB: disk.diskSizeGB }),
    });
  }
  return sources;
}

async function missing(store: Store, id: ResourceId, target: string): Promise<KilnError> {
  const { code, message } = await notFoundError(store, id);
  return new KilnError(code, message, { target, hint: 'Kiln makes managed images from VHDs: name one with blobUri.' });
}
