/**
 * One pass over a disk, off the main thread: each byte is read once, and hashed, checksummed and written while it is at hand. Hashing takes one core its time, but
 * not for holes; reading and writing go on beside it. What is written goes past the page cache where the file system lets it: nobody waits for it to be flushed, and
 * other files keep their place in there.
 */
import { constants, type FileHandle, open, stat } from 'node:fs/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { DiskExtent } from './chain.ts';
import { BlockChecksum, CHECKSUM_BLOCK } from './checksum.ts';
import { extentsOfFile } from './holes.ts';
import { VerityDigest } from './verity.ts';

export interface PassSource {
  readonly files: readonly string[];
  /** In order and without gaps, from 0. */
  readonly extents: readonly DiskExtent[];
}

export interface PassOptions {
  /** An existing file, all holes, that gets the bytes below `end` (a multiple of 64 KiB) where they are not zeros. On the disk when the pass is over. */
  readonly to?: { readonly path: string; readonly end: number };
  readonly signal?: AbortSignal;
  /** Fraction done, 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

export interface Digests {
  /** As `VerityDigest` gives. */
  readonly fsverity: string;
  /** As `checksumFile` gives. */
  readonly checksum: string;
}

interface Job extends PassSource {
  readonly kilnPass: true;
  readonly to: PassOptions['to'];
}

const CHUNK = 4 * 1024 * 1024;
/** Chunks that are read, hashed or written at once. */
const SLOTS = 4;
/** What is left out when it is zero. */
const PIECE = 64 * 1024;
const ZEROS = Buffer.alloc(PIECE);
const WASM_PAGE = 64 * 1024;

/** TypeScript knows it from browsers alone. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};

/** Errors: the file system's; Error when a file becomes shorter meanwhile; the signal's reason. */
export async function passOver({ files, extents }: PassSource, options: PassOptions = {}): Promise<Digests> {
  const { signal, onProgress, to } = options;
  signal?.throwIfAborted();
  const job: Job = { kilnPass: true, files, extents, to };
  const worker = new Worker(new URL(import.meta.url), { workerData: job });
  const stop = () => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await new Promise<Digests>((resolve, reject) => {
      worker.on('message', (message: number | Digests) => {
        if (typeof message === 'number') onProgress?.(message);
        else resolve(message);
      });
      worker.once('error', reject);
      worker.once('exit', () => reject(signal?.reason ?? new Error(`the pass over ${files[0]} ended early`)));
    });
  } finally {
    signal?.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

/** Over a file as it is, but for its holes. */
export async function passOverFile(path: string, options: Omit<PassOptions, 'to'> = {}): Promise<Digests> {
  const { size } = await stat(path);
  const extents = (await extentsOfFile(path, size, options.signal)).map(({ start, length, zero }) => ({
    ...{ start, length },
    ...(!zero && { at: { file: 0, offset: start } }),
  }));
  return await passOver({ files: [path], extents }, options);
}

/** The worker's side: posts the fraction done now and then, and the digests at last. */
async function passInWorker({ files, extents, to }: Job): Promise<void> {
  const sources = await Promise.all(
    files.map(async path => {
      const file = await open(path, 'r');
      return { file, size: (await file.stat()).size };
    }),
  );
  const target = to && (await openDirect(to.path));
  const end = extents.reduce((sum, { length }) => sum + length, 0);
  const verity = new VerityDigest();
  const checksum = new BlockChecksum();
  let first = 0;

  /** The extents that a chunk has bytes in; none when nothing but zeros is there. To be asked in the order of chunks. */
  function dataIn(start: number): DiskExtent[] {
    const data: DiskExtent[] = [];
    while (first < extents.length && extents[first]!.start + extents[first]!.length <= start) first++;
    for (let index = first; index < extents.length && extents[index]!.start < start + CHUNK; index++)
      if (extents[index]!.at) data.push(extents[index]!);
    return data;
  }

  async function read(start: number, data: readonly DiskExtent[], buffer: Buffer): Promise<Buffer> {
    const chunk = buffer.subarray(0, Math.min(CHUNK, end - start)).fill(0);
    await Promise.all(
      data.map(async ({ start: begin, length, at }) => {
        const from = Math.max(begin, start);
        const to = Math.min(begin + length, start + chunk.length);
        const { file, size } = sources[at!.file]!;
        const offset = at!.offset + from - begin;
        // Clusters that reach beyond the end of their file are zeros there, for QEMU and so for the guest.
        const there = Math.min(to - from, size - offset);
        if (there > 0) await readAll(file, chunk.subarray(from - start, from - start + there), offset);
      }),
    );
    return chunk;
  }

  async function write(start: number, chunk: Buffer): Promise<void> {
    const size = Math.min(chunk.length, to!.end - start);
    const writes: Promise<void>[] = [];
    for (let at = 0; at < size; ) {
      let next = at;
      while (next < size && !isZero(chunk, next)) next += PIECE;
      if (next > at) writes.push(writeAll(target!, chunk.subarray(at, next), start + at));
      at = next + PIECE;
    }
    await Promise.all(writes);
  }

  /** The chunk at `start`, when what was in its buffer is written; undefined for zeros. */
  function bring(start: number, buffer: Buffer, written?: Promise<void>): Promise<Buffer | undefined> {
    const data = start < end ? dataIn(start) : [];
    const coming = (async () => {
      await written;
      return data.length > 0 ? await read(start, data, buffer) : undefined;
    })();
    // An error is seen by who awaits it; until then it is nobody's.
    coming.catch(() => {});
    return coming;
  }

  // Page-aligned, as O_DIRECT demands: the only such memory that JavaScript can ask for.
  const memory = Buffer.from(new WebAssembly.Memory({ initial: (SLOTS * CHUNK) / WASM_PAGE }).buffer);
  const slots = Array.from({ length: SLOTS }, (_, slot) => {
    const buffer = memory.subarray(slot * CHUNK, (slot + 1) * CHUNK);
    return { buffer, coming: bring(slot * CHUNK, buffer) };
  });
  for (let start = 0; start < end; start += CHUNK) {
    const slot = slots[(start / CHUNK) % SLOTS]!;
    const chunk = await slot.coming;
    const written = chunk && target ? write(start, chunk) : undefined;
    if (chunk) {
      verity.add(chunk);
      for (let at = 0; at < chunk.length; at += CHECKSUM_BLOCK)
        checksum.add((start + at) / CHECKSUM_BLOCK, chunk.subarray(at, at + CHECKSUM_BLOCK));
    } else verity.addZeros(Math.min(CHUNK, end - start));
    slot.coming = bring(start + SLOTS * CHUNK, slot.buffer, written);
    if ((start / CHUNK) % 16 === 15) parentPort!.postMessage(start / end);
  }
  // The last writes.
  await Promise.all(slots.map(({ coming }) => coming));
  await target?.datasync();
  await Promise.all([...sources.map(({ file }) => file), ...(target ? [target] : [])].map(file => file.close()));
  const digests: Digests = { fsverity: verity.digest(), checksum: checksum.digest() };
  parentPort!.postMessage(digests);
}

const isZero = (chunk: Buffer, at: number) => chunk.compare(ZEROS, 0, PIECE, at, at + PIECE) === 0;

async function openDirect(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch (error) {
    // Not every file system can.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    return await open(path, constants.O_WRONLY);
  }
}

async function readAll(file: FileHandle, into: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, into.length - at, offset + at);
    if (bytesRead === 0) throw new Error('a disk became shorter while it was read');
    at += bytesRead;
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at);
    at += bytesWritten;
  }
}

if (!isMainThread && (workerData as Partial<Job> | null)?.kilnPass) await passInWorker(workerData as Job);
