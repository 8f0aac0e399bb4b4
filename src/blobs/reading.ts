/** Bytes of blobs on their way out: a span, read as far as it is asked for, never all at once. */
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { BlobRow } from '../database/schema.ts';
import { pieces, type Span } from './extents.ts';
import { type BlobAddress, blobWithExtents } from './rows.ts';
import type { BlobStore } from './store.ts';

/** Bytes of a file, or zeros. */
export interface FilePiece {
  /** undefined: zeros. */
  readonly path: string | undefined;
  readonly offset: number;
  readonly length: number;
}

export interface OpenBlob {
  readonly blob: BlobRow;
  /** In order: the span that was asked for. */
  readonly pieces: readonly FilePiece[];
  /** The files may go. */
  release(): void;
}

const CHUNK = 256 * 1024;
const ZEROS = Buffer.alloc(CHUNK);

/**
 * What a blob is now, and the files of a span of it, which stay until they are released, whatever becomes of the blob. `spanOf` may throw. undefined: there is no
 * such blob.
 */
export async function openBlob(
  store: Pick<BlobStore, 'database' | 'files' | 'readers'>,
  address: BlobAddress,
  spanOf: (blob: BlobRow) => Span,
): Promise<OpenBlob | undefined> {
  const { found, release } = await store.readers.hold(
    async () => {
      let span: Span = { start: 0, end: 0 };
      const blob = await blobWithExtents(store.database, address, row => {
        span = spanOf(row);
        return span;
      });
      return blob && { blob: blob.blob, pieces: pieces(blob.extents, span) };
    },
    opened => opened?.pieces.flatMap(({ file }) => file ?? []) ?? [],
  );
  if (!found) {
    release();
    return undefined;
  }
  return {
    blob: found.blob,
    release,
    pieces: found.pieces.map(({ file, offset, length }) => ({
      path: file === undefined ? undefined : store.files.pathOf(file),
      offset,
      length,
    })),
  };
}

/** Errors: a file that is missing, or shorter than it is said to be. */
export async function* bytesOf(parts: readonly FilePiece[]): AsyncGenerator<Buffer> {
  for (const { path, offset, length } of parts) {
    if (path === undefined) {
      for (let left = length; left > 0; left -= CHUNK) yield left < CHUNK ? ZEROS.subarray(0, left) : ZEROS;
      continue;
    }
    const file = await open(path);
    try {
      for (let done = 0; done < length; ) {
        const wanted = Math.min(CHUNK, length - done);
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(wanted), 0, wanted, offset + done);
        if (bytesRead === 0) throw new Error(`${path} is shorter than its blob says`);
        yield buffer.subarray(0, bytesRead);
        done += bytesRead;
      }
    } finally {
      await file.close();
    }
  }
}

/** As a stream that lets the files go when it ends, however it does. */
export function streamOf(parts: readonly FilePiece[], release: () => void = () => undefined): Readable {
  const stream = Readable.from(bytesOf(parts), { objectMode: false, highWaterMark: CHUNK });
  stream.once('close', release);
  return stream;
}
