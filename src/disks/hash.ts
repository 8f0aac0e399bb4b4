/** Digests of files of any size, off the main thread: one core is busy for seconds, and a build has other things to do. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { extentsOfFile, type FileExtent } from './holes.ts';

export interface HashOptions {
  readonly signal?: AbortSignal;
  /** Bytes hashed so far, and of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

interface Job {
  readonly kilnHash: true;
  readonly algorithm: HashAlgorithm;
  readonly path: string;
  readonly extents: readonly FileExtent[];
}

const CHUNK = 4 * 1024 * 1024;

export type HashAlgorithm = 'sha256' | 'sha512';

/** SHA-256 of a file in lower-case hex; see {@link hashFile}. */
export function sha256File(path: string, options: HashOptions = {}): Promise<string> {
  return hashFile('sha256', path, options);
}

/** Digest of a file in lower-case hex. The holes of a sparse file are hashed as zeros without reading them. */
export async function hashFile(algorithm: HashAlgorithm, path: string, options: HashOptions = {}): Promise<string> {
  options.signal?.throwIfAborted();
  const { size, blocks } = statSync(path);
  if (size <= CHUNK)
    return createHash(algorithm)
      .update(await readFile(path))
      .digest('hex');
  const whole = [{ start: 0, length: size, zero: false }];
  const extents = size > CHUNK && blocks * 512 < size ? await extentsOfFile(path, size, options.signal) : whole;
  const job: Job = { kilnHash: true, algorithm, path, extents };
  const worker = new Worker(new URL(import.meta.url), { workerData: job });
  const stop = () => void worker.terminate();
  options.signal?.addEventListener('abort', stop, { once: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      worker.on('message', (message: number | string) => {
        if (typeof message === 'string') resolve(message);
        else options.onProgress?.(message, size);
      });
      worker.once('error', reject);
      worker.once('exit', () => reject(options.signal?.reason ?? new Error(`hashing ${path} ended early`)));
    });
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

/** The worker's side: posts the bytes done now and then, and the digest at last. */
function hashInWorker({ algorithm, path, extents }: Job): void {
  const hash = createHash(algorithm);
  const buffer = Buffer.alloc(CHUNK);
  const zeros = Buffer.alloc(CHUNK);
  const file = openSync(path, 'r');
  let posted = 0;
  try {
    for (const { start, length, zero } of extents) {
      const end = start + length;
      for (let at = start; at < end; ) {
        const wanted = Math.min(CHUNK, end - at);
        const got = zero ? wanted : readSync(file, buffer, 0, wanted, at);
        if (got === 0) throw new Error(`${path} became shorter while it was read`);
        hash.update((zero ? zeros : buffer).subarray(0, got));
        at += got;
        if (at - posted >= 64 * 1024 * 1024) {
          posted = at;
          parentPort!.postMessage(at);
        }
      }
    }
  } finally {
    closeSync(file);
  }
  parentPort!.postMessage(hash.digest('hex'));
}

if (!isMainThread && (workerData as Partial<Job> | null)?.kilnHash) hashInWorker(workerData as Job);
