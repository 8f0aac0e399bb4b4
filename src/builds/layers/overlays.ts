/** The files of a run's disk: overlays on overlays on the source, each of which names the one below it by its file name. */
import { link, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { SourceDataDisk, SourceImage } from '../../images/source.ts';
import type { MachineMemory } from '../../machines/machine.ts';

/**
 * @param depth 1: what boot writes; 2: what the first customizer writes, when boot's was kept; …
 * @param lun of a data disk; missing: the system's disk
 */
export const overlayName = (depth: number, lun?: number): string => `${ofDisk(lun)}layer-${depth}.qcow2`;

export const overlayOf = (directory: string, depth: number, lun?: number): string =>
  join(directory, overlayName(depth, lun));

/** The names of what a machine remembers, behind the step that the overlay of this depth is of. */
export const memoryNames = (depth: number): MachineMemory => ({
  ...{ ram: `memory-${depth}`, pieces: `pieces-${depth}`, devices: `devices-${depth}` },
});

export function memoryOf(directory: string, depth: number): MachineMemory {
  const { ram, pieces, devices } = memoryNames(depth);
  return { ram: join(directory, ram), pieces: join(directory, pieces), devices: join(directory, devices) };
}

const ofDisk = (lun: number | undefined): string => (lun === undefined ? '' : `lun${lun}-`);

/**
 * A name of the run's own for a disk of the source, the same in every run: an image that is published anew or removed while something is built from it would
 * otherwise change under the overlays. Source images on other file systems are never replaced: there a symbolic link does. What a run that died has left under
 * that name goes: it may be another disk, since `latest` moves on.
 */
export async function pinSource<Disk extends { readonly path: string }>(
  disk: Disk,
  directory: string,
  lun?: number,
): Promise<Disk> {
  const path = join(directory, `${ofDisk(lun)}source.qcow2`);
  if (disk.path === path) return disk;
  await rm(path, { force: true });
  await link(disk.path, path).catch(async (error: NodeJS.ErrnoException) => {
    if (!['EXDEV', 'EPERM', 'EMLINK'].includes(error.code ?? '')) throw error;
    await symlink(disk.path, path);
  });
  return { ...disk, path };
}

/** The same of all disks of a source. */
export async function pinDisks(source: SourceImage, directory: string): Promise<SourceImage> {
  const dataDisks: SourceDataDisk[] = [];
  for (const one of source.dataDisks ?? [])
    dataDisks.push({ ...one, disk: await pinSource(one.disk, directory, one.lun) });
  const disk = await pinSource(source.disk, directory);
  return { ...source, disk, ...(dataDisks.length > 0 && { dataDisks }) };
}
