/** A disk as the fixed VHD that Azure takes, made in one pass that also gives its digests. */
import { randomUUID } from 'node:crypto';
import { rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { run } from '../processes/process.ts';
import { chainOf, type DiskChain } from './chain.ts';
import { writeDurably } from './durable.ts';
import { type Digests, passOver } from './pass.ts';
import { convertDisk, type DiskFile, MIB } from './qemu-img.ts';
import { FOOTER_SIZE } from './vhd.ts';

export interface WrittenDisk extends Digests {
  /** Bytes that a guest sees. */
  readonly virtualSize: number;
  /** Bytes that the file occupies on the host. */
  readonly allocatedSize: number;
}

export interface WriteOptions {
  readonly to: string;
  readonly signal?: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

/**
 * Writes a disk of Kiln's own, with all its backing files, as a sparse fixed VHD of a whole number of MiB: complete and flushed under `to`, or not at all. The disk
 * grows by less than a MiB where needed.
 */
export async function writeVhd(from: DiskFile, options: WriteOptions): Promise<WrittenDisk> {
  const chain = await chainOf(from, options.signal);
  if (chain) return await write(chain, options);
  // Compressed: QEMU has to read it.
  const flat = { path: `${options.to}.flat-${randomUUID().slice(0, 8)}`, format: 'qcow2' as const };
  try {
    await convertDisk(from, { to: flat.path, format: 'qcow2', ...(options.signal && { signal: options.signal }) });
    const flattened = await chainOf(flat, options.signal);
    if (!flattened) throw new Error(`QEMU does not say where the bytes of ${flat.path} lie`);
    return await write(flattened, options);
  } finally {
    await rm(flat.path, { force: true });
  }
}

async function write(chain: DiskChain, { to, signal, onProgress }: WriteOptions): Promise<WrittenDisk> {
  const virtualSize = Math.ceil(chain.virtualSize / MIB) * MIB;
  const digests = await writeDurably(resolve(to), async temporary => {
    // Holes and a footer; QEMU knows the footer that other programs understand.
    const footer = ['-f', 'vpc', '-o', 'subformat=fixed,force_size=on', temporary, String(virtualSize)];
    await run('qemu-img', ['create', '-q', ...footer], signal ? { signal } : {});
    return await passOver(
      {
        files: [...chain.files, temporary],
        extents: [
          ...chain.extents,
          { start: chain.virtualSize, length: virtualSize - chain.virtualSize },
          { start: virtualSize, length: FOOTER_SIZE, at: { file: chain.files.length, offset: virtualSize } },
        ],
      },
      { to: { path: temporary, end: virtualSize }, ...(signal && { signal }), ...(onProgress && { onProgress }) },
    );
  });
  return { ...digests, virtualSize, allocatedSize: (await stat(to)).blocks * 512 };
}
