/** A thread's share of a pass over a disk (pass.ts): reading and writing go on beside the hashing. */
import { constants, type FileHandle, open } from 'node:fs/promises';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { DiskExtent } from './chain.ts';
import { CHECKSUM_BLOCK, checksumPart } from './checksum.ts';
import { CHUNK, type PassedChunk, type PassJob, type PassMessage } from './pass.ts';
import { verityPart } from './verity.ts';

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

/** Posts chunks, the fraction done now and then, and 1 at last. */
async function passInThread({ files, extents, to, thread, threads }: PassJob): Promise<void> {
  const sources = await Promise.all(
    files.map(async path => {
      const file = await open(path, 'r');
      return { file, size: (await file.stat()).size };
    }),
  );
  const target = to && (await openDirect(to.path));
  const end = extents.reduce((sum, { length }) => sum + length, 0);
  const post = (message: PassMessage) => parentPort!.postMessage(message);
  const step = threads * CHUNK;
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
    return { buffer, coming: bring(thread * CHUNK + slot * step, buffer) };
  });
  for (let index = thread, turn = 0; index * CHUNK < end; index += threads, turn++) {
    const start = index * CHUNK;
    const slot = slots[turn % SLOTS]!;
    const chunk = await slot.coming;
    const written = chunk && target ? write(start, chunk) : undefined;
    if (chunk) post({ index, verity: verityPart(chunk), checksum: checksumOf(start, chunk) });
    slot.coming = bring(start + SLOTS * step, slot.buffer, written);
    if (turn % 16 === 15) post(start / end);
  }
  // The last writes.
  await Promise.all(slots.map(({ coming }) => coming));
  await Promise.all([...sources.map(({ file }) => file), ...(target ? [target] : [])].map(file => file.close()));
  post(1);
}

function checksumOf(start: number, chunk: Buffer): PassedChunk['checksum'] {
  return Array.from({ length: Math.ceil(chunk.length / CHECKSUM_BLOCK) }, (_, n) =>
    checksumPart(start / CHECKSUM_BLOCK + n, chunk.subarray(n * CHECKSUM_BLOCK, (n + 1) * CHECKSUM_BLOCK)),
  );
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

if (!isMainThread && (workerData as Partial<PassJob> | null)?.kilnPass) await passInThread(workerData as PassJob);
