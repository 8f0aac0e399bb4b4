/** The data disks of a build: those that come with its source, and those that the template adds. */
import { rm } from 'node:fs/promises';
import { KilnError } from '../arm/errors.ts';
import { createDisk, createOverlay } from '../disks/qemu-img.ts';
import type { SourceImage } from '../images/source.ts';
import type { DataDisk } from '../machines/machine.ts';
import { overlayOf, pinSource } from './layers/overlays.ts';
import type { PhaseContext } from './phase.ts';

const GIB = 1024 ** 3;

/** What Azure's largest machines take (lun 0 to 63). */
export const MOST_DATA_DISKS = 64;

/** Units for so many further disks, beside those that are taken: the lowest that are free, in order. */
export function freeUnits(taken: readonly number[], count: number): number[] {
  const free = Array.from({ length: taken.length + count }, (_, lun) => lun).filter(lun => !taken.includes(lun));
  return free.slice(0, count);
}

/**
 * Makes what the machine writes first: overlays on the source's disks, which keep their units, and an empty disk for each of the sizes (GiB), in order, at the units
 * that are free. Errors: ValidationFailed, for more than a machine takes.
 */
export async function openDataDisks(
  source: SourceImage,
  sizes: readonly number[],
  { directory, log }: Pick<PhaseContext, 'directory' | 'log'>,
): Promise<DataDisk[]> {
  const brought = source.dataDisks ?? [];
  if (brought.length + sizes.length > MOST_DATA_DISKS)
    throw new KilnError(
      'ValidationFailed',
      `The source has ${brought.length} data disks and the template adds ${sizes.length}: a machine has at most ${MOST_DATA_DISKS}.`,
      { target: 'properties.additionalDataDisks' },
    );
  const disks: DataDisk[] = [];
  const open = async (lun: number, make: (path: string) => Promise<unknown>) => {
    const path = overlayOf(directory, 1, lun);
    await rm(path, { force: true });
    await make(path);
    disks.push({ lun, disk: { path, format: 'qcow2' } });
  };
  for (const { lun, disk, virtualSize } of brought) {
    const backing = await pinSource(disk, directory, lun);
    await open(lun, path => createOverlay({ backing, path, beside: true }));
    log.say(`The data disk at LUN ${lun} comes with the source: ${(virtualSize / GIB).toFixed(0)} GiB.`);
  }
  const taken = brought.map(({ lun }) => lun);
  for (const [index, lun] of freeUnits(taken, sizes.length).entries()) {
    const sizeGB = sizes[index]!;
    await open(lun, path => createDisk(path, sizeGB * GIB));
    log.say(`An empty data disk of ${sizeGB} GiB is at LUN ${lun} (/dev/disk/azure/scsi1/lun${lun}).`);
  }
  return disks.sort((a, b) => a.lun - b.lun);
}
