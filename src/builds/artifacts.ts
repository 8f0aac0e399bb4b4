/** The files that distributors publish, each made once however many targets want it, in one pass over the machine's disk. */
import { join } from 'node:path';
import { passOverFile } from '../disks/pass.ts';
import { convertDisk, type DiskFile, inspect } from '../disks/qemu-img.ts';
import type { VhdAhead } from '../disks/vhd-ahead.ts';
import { writeVhd } from '../disks/write-vhd.ts';

export type ArtifactFormat = 'qcow2' | 'vhd';

/** Where they are in the run's directory. */
export const ARTIFACT_FILES: Readonly<Record<ArtifactFormat, string>> = Object.freeze({
  qcow2: 'image.qcow2',
  vhd: 'image.vhd',
});

export interface Artifact {
  readonly path: string;
  readonly format: ArtifactFormat;
  /** Of the file: what it is published under. */
  readonly fsverity: string;
  /** What the layer store knows it by; missing when that is where it comes from. */
  readonly checksum?: string;
  readonly virtualSize: number;
  readonly allocatedSize: number;
}

/** A data disk of the image. */
export interface DataArtifact extends Artifact {
  readonly lun: number;
}

export const dataArtifactFile = (lun: number): string => `image-lun${lun}.qcow2`;

export interface ArtifactOptions {
  readonly directory: string;
  /** The VHD of this disk, as far as it was copied before. */
  readonly ahead?: VhdAhead;
  /** What the file is called there; missing: as ARTIFACT_FILES says. */
  readonly name?: string;
  readonly signal: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress: (fraction: number) => void;
}

/** @param disk with all that it stands on; nobody writes to it. Errors: DiskFull; the signal's reason. */
export async function makeArtifact(
  disk: DiskFile,
  format: ArtifactFormat,
  { directory, name = ARTIFACT_FILES[format], ahead, signal, onProgress }: ArtifactOptions,
): Promise<Artifact> {
  const path = join(directory, name);
  if (format === 'vhd') {
    const options = { to: path, signal, onProgress };
    return { path, format, ...((await ahead?.finish(disk, options)) ?? (await writeVhd(disk, options))) };
  }
  await convertDisk(disk, { to: path, format, signal, onProgress });
  return await qcow2Artifact(path, signal);
}

/** Of a finished file: reads all of it. */
export async function qcow2Artifact(path: string, signal: AbortSignal): Promise<Artifact> {
  const { virtualSize, allocatedSize } = await inspect(path, 'qcow2', signal);
  return { path, format: 'qcow2', ...(await passOverFile(path, { signal })), virtualSize, allocatedSize };
}

/** What boots. */
export const bootable = (artifacts: readonly Artifact[]): Artifact =>
  artifacts.find(({ format }) => format === 'qcow2') ?? artifacts[0]!;
