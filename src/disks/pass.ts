/**
 * One pass over a disk, off the main thread: each byte is read once, and hashed, checksummed and written while it is at hand. Hashing is what takes longest, so as
 * many threads as there are processors take one chunk after the other; holes cost nothing. What is written goes past the page cache where the file system lets it:
 * nobody waits for it to be flushed, and other files keep their place in there.
 */
import { open, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { DiskExtent } from './chain.ts';
import { BlockChecksum, type ChecksumPart } from './checksum.ts';
import { extentsOfFile } from './holes.ts';
import type { KeptPieces } from './pieces.ts';
import { VerityDigest, type VerityPart } from './verity.ts';

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
  /** Missing: as many as pay for themselves here. */
  readonly threads?: number;
}

export interface Digests {
  /** As `VerityDigest` gives. */
  readonly fsverity: string;
  /** As `checksumFile` gives. */
  readonly checksum: string;
}

/** Bytes. A multiple of what a part of the digest, and a block of the checksum, begin at. */
export const CHUNK = 4 * 1024 * 1024;

/** Of a chunk that has data. */
export interface PassedChunk {
  readonly index: number;
  /** Missing where nobody wants it. */
  readonly verity?: VerityPart;
  readonly checksum: readonly (ChecksumPart | undefined)[];
}

/** Of each thread. */
export interface PassJob extends PassSource {
  readonly kilnPass: true;
  readonly to: PassOptions['to'];
  /** Indexes of chunks that have data, in order. */
  readonly chunks: readonly number[];
  /** One number, shared by all threads: how many of `chunks` are taken. */
  readonly taken: Int32Array;
  readonly verity: boolean;
  /** Missing: all that is not zeros is written. */
  readonly pieces?: KeptPieces;
  /** Whether everything else on the host goes first. */
  readonly idle: boolean;
}

/** What a thread posts: a chunk that it is through with, but for its being written; at last, that all of its own are. */
export type PassMessage = PassedChunk | 'done';

/** A pass that goes on. */
export interface Pass {
  /** What it has passed over; complete when it has ended. */
  readonly passed: readonly PassedChunk[];
  /** Resolves when nobody reads or writes any more, and what was written is on the disk. Errors: the file system's; Error when a file becomes shorter meanwhile; the signal's reason. */
  readonly ended: Promise<void>;
  /** No further chunk is begun. */
  stop(): void;
}

/** Beside this file, as source or compiled. */
const THREAD = new URL(`./pass-thread${extname(import.meta.url)}`, import.meta.url);

/** More of them wait for the disk. */
const MOST_THREADS = 4;
/** Chunks that a thread is begun for. */
const WORTH = 4;
/** Chunks between two words about progress. */
const WORD = 16;

/** Errors: as of `Pass.ended`. */
export async function passOver(source: PassSource, options: PassOptions = {}): Promise<Digests> {
  const pass = beginPass(source, chunksWithData(source.extents), options);
  await pass.ended;
  return digestsOf(pass.passed, endOf(source.extents));
}

/**
 * A copy of whole MiB, written past the page cache, and not flushed: memory that the host would first have to find is slower than many a disk. Nothing but
 * the checksum comes of it, of all that was read, as `checksumFile` gives it.
 * @param to as of `PassOptions.to`. Errors: as of `Pass.ended`.
 */
export async function copyAll(
  source: PassSource,
  to: string,
  { signal, pieces }: { readonly signal?: AbortSignal | undefined; readonly pieces?: KeptPieces } = {},
): Promise<string> {
  const options = {
    to: { path: to, end: endOf(source.extents) },
    ...{ verity: false, flushed: false },
    ...(signal && { signal }),
    ...(pieces && { pieces }),
  };
  const pass = beginPass(source, chunksWithData(source.extents), options);
  await pass.ended;
  return checksumOf(pass.passed);
}

/** Of chunks that have data; the others are holes. */
export function chunksWithData(extents: readonly DiskExtent[]): number[] {
  const chunks: number[] = [];
  for (const { start, length, at } of extents) {
    if (!at || length === 0) continue;
    const first = Math.max(Math.floor(start / CHUNK), (chunks.at(-1) ?? -1) + 1);
    for (let chunk = first; chunk * CHUNK < start + length; chunk++) chunks.push(chunk);
  }
  return chunks;
}

/** Bytes. */
export const endOf = (extents: readonly DiskExtent[]): number => extents.reduce((sum, { length }) => sum + length, 0);

interface FurtherOptions extends PassOptions {
  /** Default: true. */
  readonly verity?: boolean;
  readonly idle?: boolean;
  readonly pieces?: KeptPieces;
  /** Whether what was written is on the disk at the end. Default: true. */
  readonly flushed?: boolean;
}

/**
 * @param chunks indexes, in order, of those to be passed over
 * @param options those that a thread's job has mean the same here
 */
export function beginPass(
  { files, extents }: PassSource,
  chunks: readonly number[],
  options: FurtherOptions = {},
): Pass {
  const { signal, onProgress, to, verity = true, pieces, idle = false, flushed = true } = options;
  const taken = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const passed: PassedChunk[] = [];
  const threads = options.threads ?? Math.min(availableParallelism(), MOST_THREADS, Math.ceil(chunks.length / WORTH));
  const job: PassJob = { kilnPass: true, files, extents, to, chunks, taken, verity, idle, ...(pieces && { pieces }) };
  const ended = (async () => {
    signal?.throwIfAborted();
    if (chunks.length === 0) return;
    const running = Array.from({ length: threads }, () =>
      inThread(job, signal, chunk => {
        passed.push(chunk);
        if (passed.length % WORD === 0) onProgress?.(passed.length / chunks.length);
      }),
    );
    // Nobody still writes when this ends.
    await Promise.allSettled(running);
    await Promise.all(running);
    onProgress?.(1);
    if (to && flushed) await flush(to.path);
  })();
  // An error is seen by who awaits it; until then it is nobody's.
  ended.catch(() => {});
  return { passed, ended, stop: () => void Atomics.store(taken, 0, chunks.length) };
}

async function inThread(
  job: PassJob,
  signal: AbortSignal | undefined,
  onChunk: (chunk: PassedChunk) => void,
): Promise<void> {
  const worker = new Worker(THREAD, { workerData: job });
  const stop = () => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on('message', (message: PassMessage) => {
        if (message === 'done') resolve();
        else onChunk(message);
      });
      worker.once('error', reject);
      worker.once('exit', () => reject(signal?.reason ?? new Error(`the pass over ${job.files[0]} ended early`)));
    });
  } finally {
    signal?.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** @param chunks in any order: all of a disk of `end` bytes that have data */
export function digestsOf(chunks: readonly PassedChunk[], end: number): Digests {
  const verity = new VerityDigest();
  let next = 0;
  for (const chunk of inOrder(chunks)) {
    verity.addZeros(chunk.index * CHUNK - next);
    verity.addPart(chunk.verity!);
    next = chunk.index * CHUNK + chunk.verity!.size;
  }
  verity.addZeros(end - next);
  return { fsverity: verity.digest(), checksum: checksumOf(chunks) };
}

function checksumOf(chunks: readonly PassedChunk[]): string {
  const checksum = new BlockChecksum();
  for (const chunk of inOrder(chunks)) for (const part of chunk.checksum) checksum.add(part);
  return checksum.digest();
}

const inOrder = (chunks: readonly PassedChunk[]) => chunks.toSorted((a, b) => a.index - b.index);

/** Over a file as it is, but for its holes. */
export async function passOverFile(path: string, options: Omit<PassOptions, 'to'> = {}): Promise<Digests> {
  const { size } = await stat(path);
  return await passOver({ files: [path], extents: await sparseExtents(path, size, options.signal) }, options);
}

/** Where a file of so many bytes has data. */
export async function sparseExtents(path: string, size: number, signal?: AbortSignal): Promise<DiskExtent[]> {
  return (await extentsOfFile(path, size, signal)).map(({ start, length, zero }) => ({
    ...{ start, length },
    ...(!zero && { at: { file: 0, offset: start } }),
  }));
}
