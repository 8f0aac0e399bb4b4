/**
 * One pass over a disk, off the main thread: each byte is read once, and hashed, checksummed and written while it is at hand. Hashing is what takes longest, so as
 * many threads as there are processors take turns with chunks; holes cost nothing. What is written goes past the page cache where the file system lets it: nobody
 * waits for it to be flushed, and other files keep their place in there.
 */
import { open, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { DiskExtent } from './chain.ts';
import { BlockChecksum, type ChecksumPart } from './checksum.ts';
import { extentsOfFile } from './holes.ts';
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

/** Of each thread: every `threads`th chunk is its own, beginning with the one of its number. */
export interface PassJob extends PassSource {
  readonly kilnPass: true;
  readonly to: PassOptions['to'];
  readonly thread: number;
  readonly threads: number;
}

/** Bytes. A multiple of what a part of the digest, and a block of the checksum, begin at. */
export const CHUNK = 4 * 1024 * 1024;

/** Of a chunk that has data. */
export interface PassedChunk {
  readonly index: number;
  readonly verity: VerityPart;
  readonly checksum: readonly (ChecksumPart | undefined)[];
}

/** What a thread posts: a chunk that it is through with, or how far it is (a fraction). */
export type PassMessage = PassedChunk | number;

/** Beside this file, as source or compiled. */
const THREAD = new URL(`./pass-thread${extname(import.meta.url)}`, import.meta.url);

/** More of them wait for the disk. */
const MOST_THREADS = 4;
/** Bytes of data that a thread is begun for. */
const WORTH = 4 * CHUNK;

/** Errors: the file system's; Error when a file becomes shorter meanwhile; the signal's reason. */
export async function passOver({ files, extents }: PassSource, options: PassOptions = {}): Promise<Digests> {
  const { signal, onProgress, to } = options;
  signal?.throwIfAborted();
  const end = extents.reduce((sum, { length }) => sum + length, 0);
  const threads = options.threads ?? threadsFor(extents);
  const done = new Array<number>(threads).fill(0);
  const chunks: PassedChunk[] = [];
  const passing = done.map((_, thread) =>
    pass({ kilnPass: true, files, extents, to, thread, threads }, signal, message => {
      if (typeof message !== 'number') return void chunks.push(message);
      done[thread] = message;
      onProgress?.(done.reduce((a, b) => a + b, 0) / threads);
    }),
  );
  // Nobody still writes when this ends.
  await Promise.allSettled(passing);
  await Promise.all(passing);
  if (to) await flush(to.path);
  return digestsOf(chunks, end);
}

function threadsFor(extents: readonly DiskExtent[]): number {
  const data = extents.reduce((sum, { at, length }) => sum + (at ? length : 0), 0);
  return Math.max(1, Math.min(availableParallelism(), MOST_THREADS, Math.floor(data / WORTH)));
}

async function pass(
  job: PassJob,
  signal: AbortSignal | undefined,
  onMessage: (message: PassMessage) => void,
): Promise<void> {
  const worker = new Worker(THREAD, { workerData: job });
  const stop = () => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on('message', (message: PassMessage) => {
        onMessage(message);
        if (message === 1) resolve();
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

function digestsOf(chunks: readonly PassedChunk[], end: number): Digests {
  const verity = new VerityDigest();
  const checksum = new BlockChecksum();
  let next = 0;
  for (const chunk of chunks.toSorted((a, b) => a.index - b.index)) {
    verity.addZeros(chunk.index * CHUNK - next);
    verity.addPart(chunk.verity);
    for (const part of chunk.checksum) checksum.add(part);
    next = chunk.index * CHUNK + chunk.verity.size;
  }
  verity.addZeros(end - next);
  return { fsverity: verity.digest(), checksum: checksum.digest() };
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
