/** A disk as the fixed VHD that Azure takes, made in one pass that also gives its digests. */
import { randomUUID } from 'node:crypto';
import { rm, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { run } from '../processes/process.ts';
import { chainOf, type DiskChain } from './chain.ts';
import { writeDurably } from './durable.ts';
import { type Digests, type PassSource, passOver } from './pass.ts';
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
  const virtualSize = vhdSize(chain.virtualSize);
  const digests = await writeDurably(resolve(to), async temporary => {
    await createVhd(temporary, virtualSize, signal);
    const file = { path: temporary, end: virtualSize };
    return await passOver(asVhd(chain, temporary), {
      to: file,
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
    });
  });
  return await written(to, digests, virtualSize);
}

/** Bytes of a disk as Azure takes it: a whole number of MiB. */
export const vhdSize = (virtualSize: number): number => Math.ceil(virtualSize / MIB) * MIB;

/** Holes and a footer; QEMU knows the footer that other programs understand. */
export async function createVhd(path: string, virtualSize: number, signal?: AbortSignal): Promise<void> {
  const options = ['-f', 'vpc', '-o', 'subformat=fixed,force_size=on', path, String(virtualSize)];
  await run('qemu-img', ['create', '-q', ...options], signal ? { signal } : {});
}

/** What the VHD at `path`, which has nothing but its footer so far, will consist of. */
export function asVhd({ files, extents, virtualSize }: DiskChain, path: string): PassSource {
  const end = vhdSize(virtualSize);
  return {
    files: [...files, path],
    extents: [
      ...extents,
      { start: virtualSize, length: end - virtualSize },
      { start: end, length: FOOTER_SIZE, at: { file: files.length, offset: end } },
    ],
  };
}

export const written = async (path: string, digests: Digests, virtualSize: number): Promise<WrittenDisk> => ({
  ...digests,
  virtualSize,
  allocatedSize: (await stat(path)).blocks * 512,
});
