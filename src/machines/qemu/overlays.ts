/** The overlays that a machine goes on in behind its checkpoints: made and opened before it starts, because QEMU can open nothing later. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { inspect } from '../../disks/qemu-img.ts';
import { run } from '../../processes/process.ts';
import type { MachineDisk } from '../machine.ts';

export interface OpenOverlay {
  readonly handle: FileHandle;
  /** For reading only: what QEMU takes when the overlay is frozen. */
  readonly reading: FileHandle;
}

/**
 * Makes a chain of empty overlays on a disk, each naming what it stands on by its file name alone: the chain stays whole where all of it is linked into another
 * directory. The caller closes the handles.
 */
export async function openOverlays(disk: MachineDisk, paths: readonly string[]): Promise<OpenOverlay[]> {
  if (paths.length === 0) return [];
  const { virtualSize } = await inspect(disk.path, disk.format);
  const opened: OpenOverlay[] = [];
  try {
    let below = disk;
    for (const file of paths) {
      // qemu-img writes into a file that is there, which may be a link to what others read.
      await rm(file, { force: true });
      // Unsafe (-u) as it does not look at the backing file: that one is made right here, and not written yet.
      const backing = ['-u', '-b', path.basename(below.path), '-F', below.format];
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, file, String(virtualSize)]);
      opened.push({ handle: await open(file, 'r+'), reading: await open(file, 'r') });
      below = { path: file, format: 'qcow2' };
    }
    return opened;
  } catch (error) {
    for (const { handle, reading } of opened) await Promise.all([handle.close(), reading.close()]);
    throw error;
  }
}
