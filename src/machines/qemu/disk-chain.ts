/** The files behind a disk, opened for QEMU: the overlay for writing, what it stands on for reading. */
import { type FileHandle, open } from 'node:fs/promises';
import { run } from '../../processes/process.ts';
import type { DiskFile } from './disk-nodes.ts';

export interface OpenFile {
  readonly handle: FileHandle;
  readonly format: DiskFile['format'];
}

interface ImageInfo {
  readonly filename: string;
  readonly format: DiskFile['format'];
}

/**
 * Opens a disk of Kiln's own making and its backing files. Formats of backing files are those that the overlay names: nothing is
 * guessed from a guest's bytes. The caller closes the handles.
 */
export async function openDiskChain(path: string, format: DiskFile['format']): Promise<OpenFile[]> {
  const args = ['info', '--force-share', '--backing-chain', '--output=json', '-f', format, path];
  const chain = JSON.parse((await run('qemu-img', args)).stdout) as ImageInfo[];
  const opened: OpenFile[] = [];
  try {
    for (const [index, image] of chain.entries())
      opened.push({ handle: await open(image.filename, index === 0 ? 'r+' : 'r'), format: image.format });
    return opened;
  } catch (error) {
    await Promise.all(opened.map(file => file.handle.close()));
    throw error;
  }
}
