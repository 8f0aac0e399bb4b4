/** A VHD from outside becomes a disk of Kiln's own: sparse qcow2, which QEMU takes as a backing file. */
import { rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ContentDigest } from './content.ts';
import { type FilePart, joinParts, wholeFile } from './file-parts.ts';
import { passOverFile } from './pass.ts';
import { convertDisk } from './qemu-img.ts';
import { requireRoom } from './room.ts';

export interface ImportOptions {
  /** The file to make, in a directory that is the caller's: what is on the way lies beside it. */
  readonly to: string;
  readonly signal: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

export interface ImportedDisk extends ContentDigest {
  readonly path: string;
  readonly format: 'qcow2';
  readonly virtualSize: number;
  readonly allocatedSize: number;
}

/** For what `readForeignVhd` found to be one. Complete under `to`, or not there. Errors: DiskFull; those of qemu-img and the file system; the signal's reason. */
export async function importVhd(parts: readonly FilePart[], options: ImportOptions): Promise<ImportedDisk> {
  const { to, signal, onProgress } = options;
  const joined = `${to}.vhd`;
  try {
    const whole = await wholeFile(parts);
    if (whole === undefined) await joinParts(parts, joined, signal);
    const path = whole ?? joined;
    await requireRoom(dirname(to), (await stat(path)).blocks * 512);
    const { virtualSize, allocatedSize } = await convertDisk(
      { path, format: 'vhd' },
      { to, format: 'qcow2', signal, ...(onProgress && { onProgress }) },
    );
    const { fsverity } = await passOverFile(to, { signal });
    return { path: to, format: 'qcow2', virtualSize, allocatedSize, fsverity };
  } finally {
    await rm(joined, { force: true });
  }
}
