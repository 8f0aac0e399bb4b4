/** The bytes of one file that lie in several: a blob that was put together from blocks, or a part of a larger file. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from './durable.ts';
import { requireRoom } from './room.ts';

export interface FilePart {
  /** undefined: zeros. */
  readonly path: string | undefined;
  /** Where it begins in that file. */
  readonly offset: number;
  readonly size: number;
}

export const sizeOf = (parts: readonly FilePart[]): number => parts.reduce((sum, { size }) => sum + size, 0);

/** The bytes from `position` on, at most `length` of them; fewer at the end. Errors: those of the file system; Error when a part is shorter than it says. */
export async function readParts(parts: readonly FilePart[], position: number, length: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let start = 0;
  for (const part of parts) {
    const from = Math.max(position, start);
    const to = Math.min(position + length, start + part.size);
    if (from < to) pieces.push(await readPart(part, from - start, to - from));
    start += part.size;
  }
  return Buffer.concat(pieces);
}

async function readPart({ path, offset }: FilePart, from: number, length: number): Promise<Buffer> {
  if (path === undefined) return Buffer.alloc(length);
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
      const { bytesRead } = await handle.read(buffer, at, length - at, offset + from + at);
      if (bytesRead === 0) throw new Error(`${path} is shorter than it was`);
      at += bytesRead;
    }
    return buffer;
  } finally {
    await handle.close();
  }
}

/** The path of the one file that they all are; undefined when they have to be put together first. */
export async function wholeFile(parts: readonly FilePart[]): Promise<string | undefined> {
  const [only, ...others] = parts;
  if (only?.path === undefined || others.length > 0 || only.offset !== 0) return undefined;
  return (await stat(only.path)).size === only.size ? only.path : undefined;
}

const CHUNK = 1024 * 1024;

/** Writes them as one file, leaving holes where nothing but zeros is; complete and flushed under `to`, or not there at all. Errors: DiskFull. */
export async function joinParts(parts: readonly FilePart[], to: string, signal?: AbortSignal): Promise<void> {
  await writeDurably(to, async temporary => {
    const target = await open(temporary, 'wx', 0o600);
    try {
      const buffer = Buffer.alloc(CHUNK);
      let position = 0;
      for (const part of parts) {
        // Parts may be one and the same file, many times.
        if (part.path !== undefined) await requireRoom(dirname(to), part.size);
        await copyPart(part, target, position, buffer, signal);
        position += part.size;
      }
      await target.truncate(position);
    } finally {
      await target.close();
    }
  });
}

async function copyPart(
  { path, offset, size }: FilePart,
  target: FileHandle,
  position: number,
  buffer: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (path === undefined) return;
  const source = await open(path, 'r');
  try {
    for (let at = 0; at < size; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, size - at), offset + at);
      if (bytesRead === 0) throw new Error(`${path} is shorter than it was`);
      const piece = buffer.subarray(0, bytesRead);
      if (!isZero(piece)) await writeAll(target, piece, position + at);
      at += bytesRead;
    }
  } finally {
    await source.close();
  }
}

async function writeAll(target: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await target.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

const isZero = (bytes: Buffer): boolean =>
  bytes.length === 0 || (bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0);
