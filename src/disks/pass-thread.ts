/** A thread's share of a pass over a disk (pass.ts). It reads by itself, which has its priority; writing goes on beside the hashing. */
import { readlinkSync, readSync, writeSync } from 'node:fs';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { setPriority, constants as system } from 'node:os';
import { basename } from 'node:path';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { DiskExtent } from './chain.ts';
import { CHECKSUM_BLOCK, checksumPart } from './checksum.ts';
import { CHUNK, endOf, type PassedChunk, type PassJob, type PassMessage } from './pass.ts';
import { isKept, PIECE } from './pieces.ts';
import { verityPart } from './verity.ts';

/** Chunks that are read, hashed or written at once. More is memory that the host has to find first. */
const SLOTS = 2;
const ZEROS = Buffer.alloc(PIECE);
const WASM_PAGE = 64 * 1024;

/** TypeScript knows it from browsers alone. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};

async function passInThread({ files, extents, to, chunks, taken, verity, pieces, idle }: PassJob): Promise<void> {
  // Of this thread alone: Linux has priorities for each.
  if (idle) setPriority(Number(basename(readlinkSync('/proc/thread-self'))), system.priority.PRIORITY_LOW);
  const sources = await Promise.all(
    files.map(async path => {
      const file = await open(path, 'r');
      return { file, size: (await file.stat()).size };
    }),
  );
  // Few at a time, which the page cache takes at once.
  const changes = pieces !== undefined && pieces.origin > 1;
  const target = to && (changes ? await open(to.path, 'r+') : await openDirect(to.path));
  const end = endOf(extents);
  const post = (message: PassMessage) => parentPort!.postMessage(message);
  let first = 0;

  /** The extents that a chunk has bytes in; none when nothing but zeros is there. To be asked in the order of chunks. */
  function dataIn(start: number): DiskExtent[] {
    const data: DiskExtent[] = [];
    while (first < extents.length && extents[first]!.start + extents[first]!.length <= start) first++;
    for (let index = first; index < extents.length && extents[index]!.start < start + CHUNK; index++)
      if (extents[index]!.at) data.push(extents[index]!);
    return data;
  }

  function read(start: number, data: readonly DiskExtent[], buffer: Buffer): Buffer {
    const chunk = buffer.subarray(0, Math.min(CHUNK, end - start)).fill(0);
    for (const { start: begin, length, at } of data) {
      const from = Math.max(begin, start);
      const to = Math.min(begin + length, start + chunk.length);
      const { file, size } = sources[at!.file]!;
      const offset = at!.offset + from - begin;
      // Clusters that reach beyond the end of their file are zeros there, for QEMU and so for the guest.
      const there = Math.min(to - from, size - offset);
      if (there > 0) readAll(file, chunk.subarray(from - start, from - start + there), offset);
    }
    return chunk;
  }

  async function write(start: number, chunk: Buffer): Promise<void> {
    const size = Math.min(chunk.length, to!.end - start);
    const writes: Promise<void>[] = [];
    const isLeftOut = (at: number) =>
      isZero(chunk, at) ||
      (pieces !== undefined && isKept(pieces, (start + at) / PIECE, chunk.subarray(at, at + PIECE)));
    for (let at = 0; at < size; ) {
      let next = at;
      while (next < size && !isLeftOut(next)) next += PIECE;
      const bytes = chunk.subarray(at, next);
      if (changes) writeNow(target!, bytes, start + at);
      else if (bytes.length > 0) writes.push(writeAll(target!, bytes, start + at));
      at = next + PIECE;
    }
    await Promise.all(writes);
  }

  /** The next chunk that nobody has, when what was in the buffer is written; undefined when all are taken. */
  function bring(buffer: Buffer, written?: Promise<void>) {
    const index = chunks[Atomics.add(taken, 0, 1)];
    const start = index === undefined ? end : index * CHUNK;
    const data = index === undefined ? [] : dataIn(start);
    const coming = (async () => {
      await written;
      return index === undefined ? undefined : { index, start, chunk: read(start, data, buffer) };
    })();
    // An error is seen by who awaits it; until then it is nobody's.
    coming.catch(() => {});
    return coming;
  }

  // Page-aligned, as O_DIRECT demands: the only such memory that JavaScript can ask for.
  const memory = Buffer.from(new WebAssembly.Memory({ initial: (SLOTS * CHUNK) / WASM_PAGE }).buffer);
  const slots = Array.from({ length: SLOTS }, (_, slot) => {
    const buffer = memory.subarray(slot * CHUNK, (slot + 1) * CHUNK);
    return { buffer, coming: bring(buffer) };
  });
  for (let turn = 0; ; turn++) {
    const slot = slots[turn % SLOTS]!;
    const brought = await slot.coming;
    if (!brought) break;
    const { index, start, chunk } = brought;
    const written = target ? write(start, chunk) : undefined;
    written?.catch(() => {});
    post({ index, ...(verity && { verity: verityPart(chunk) }), checksum: checksumOf(start, chunk) });
    slot.coming = bring(slot.buffer, written);
  }
  // The last writes.
  await Promise.all(slots.map(({ coming }) => coming));
  await Promise.all([...sources.map(({ file }) => file), ...(target ? [target] : [])].map(file => file.close()));
  post('done');
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

function readAll({ fd }: FileHandle, into: Buffer, offset: number): void {
  for (let at = 0; at < into.length; ) {
    const bytesRead = readSync(fd, into, at, into.length - at, offset + at);
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

function writeNow({ fd }: FileHandle, bytes: Buffer, offset: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
}

if (!isMainThread && (workerData as Partial<PassJob> | null)?.kilnPass) await passInThread(workerData as PassJob);
