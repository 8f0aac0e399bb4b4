/** A disk of a machine with all its files open: what it stands on, what is written, and the overlays that it goes on in behind checkpoints. */
import { type FileHandle, open } from 'node:fs/promises';
import type { MachineDisk } from '../machine.ts';
import { openDiskChain } from './disk-chain.ts';
import type { DiskFile } from './disk-nodes.ts';
import { openOverlays } from './overlays.ts';

export interface OpenDisk {
  /** QEMU's name for what is written before any checkpoint. */
  readonly node: string;
  /** What is written first, then what it stands on. */
  readonly chain: readonly DiskFile[];
  /** What is written behind each checkpoint. */
  readonly overlays: readonly Omit<DiskFile, 'format'>[];
  /** The files that are written, one after the other. */
  readonly written: readonly MachineDisk[];
}

/** @param hand takes over a file, and says under which number QEMU will have it */
export async function openDisk(
  node: string,
  disk: MachineDisk,
  checkpoints: readonly string[],
  hand: (handle: FileHandle) => number,
): Promise<OpenDisk> {
  const opened = await openDiskChain(disk.path, disk.format);
  const chain: DiskFile[] = opened.map(({ handle, format }) => ({ fd: hand(handle), format }));
  if (checkpoints.length > 0) chain[0] = { ...chain[0]!, readFd: hand(await open(disk.path, 'r')) };
  const overlays = (await openOverlays(disk, checkpoints)).map(({ handle, reading }) => ({
    fd: hand(handle),
    readFd: hand(reading),
  }));
  const behind = checkpoints.map(path => ({ path, format: 'qcow2' as const }));
  return { node, chain, overlays, written: [disk, ...behind] };
}
