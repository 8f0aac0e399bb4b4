/**
 * Which pieces of a memory lie in which of several files: each file, of the memory's size, has what had changed when it was written, at its own place. So a memory that was
 * kept a minute ago, and is kept again, costs what has changed since.
 */
import { hash } from 'node:crypto';
import type { DiskExtent } from './chain.ts';

/** Bytes. Of a guest that has run a small step a tenth of such pieces has changed; of pieces of 1 MiB a third. */
export const PIECE = 64 * 1024;

const HASH_BYTES = 32;
const MAGIC = 'KILNMEM1';
const HEADER_BYTES = 16;
const ENTRY_BYTES = 4 + 2 + HASH_BYTES;

/** By the number of each piece, in memory that threads share. */
export interface PieceTable {
  /** Which file it lies in, from 1; 0 for nothing but zeros. */
  readonly origins: Uint16Array;
  /** SHA-256: what a guest could choose must not be taken for what it was before. */
  readonly hashes: Uint8Array;
}

/** Of a memory of so many bytes, whole pieces, that is all zeros. */
export function noPieces(size: number): PieceTable {
  const count = size / PIECE;
  if (!Number.isInteger(count)) throw new RangeError(`${size} bytes are not whole pieces`);
  return {
    origins: new Uint16Array(new SharedArrayBuffer(count * 2)),
    hashes: new Uint8Array(new SharedArrayBuffer(count * HASH_BYTES)),
  };
}

/** Pieces that are about to be kept. */
export interface KeptPieces {
  readonly before: PieceTable;
  /** Of the same size; filled by whoever passes over the memory. */
  readonly after: PieceTable;
  /** The file that changed pieces go into, from 1. */
  readonly origin: number;
}

/** Notes where a piece that is not all zeros is kept. @returns whether it was kept before, and need not be written */
export function isKept({ before, after, origin }: KeptPieces, number: number, piece: Buffer): boolean {
  const at = number * HASH_BYTES;
  const digest = hash('sha256', piece, 'buffer');
  const kept = before.origins[number] !== 0 && digest.equals(before.hashes.subarray(at, at + HASH_BYTES));
  after.origins[number] = kept ? before.origins[number]! : origin;
  after.hashes.set(digest, at);
  return kept;
}

/** Where the bytes of the memory lie: in order and without gaps; files by their index, from 0. */
export function extentsOfPieces({ origins }: PieceTable): DiskExtent[] {
  const extents: DiskExtent[] = [];
  for (let first = 0; first < origins.length; ) {
    let next = first + 1;
    while (next < origins.length && origins[next] === origins[first]) next++;
    const [start, length] = [first * PIECE, (next - first) * PIECE];
    extents.push({ start, length, ...(origins[first] !== 0 && { at: { file: origins[first]! - 1, offset: start } }) });
    first = next;
  }
  return extents;
}

/** A table, with the checksum of the whole memory (eight hex digits), as bytes of a file. */
export function encodePieces({ origins, hashes }: PieceTable, checksum: string): Buffer {
  const kept = [...origins.keys()].filter(number => origins[number] !== 0);
  const bytes = Buffer.alloc(HEADER_BYTES + kept.length * ENTRY_BYTES);
  bytes.write(MAGIC + checksum, 'latin1');
  for (const [index, number] of kept.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    bytes.writeUInt32LE(number, at);
    bytes.writeUInt16LE(origins[number]!, at + 4);
    bytes.set(hashes.subarray(number * HASH_BYTES, (number + 1) * HASH_BYTES), at + 6);
  }
  return bytes;
}

/** Rejects by throwing an Error what is none of a memory of `size` bytes in `files` files. */
export function decodePieces(
  bytes: Buffer,
  size: number,
  files: number,
): { readonly table: PieceTable; readonly checksum: string } {
  const bad = (what: string) => new Error(`the list of a memory's pieces is damaged: ${what}`);
  const count = (bytes.length - HEADER_BYTES) / ENTRY_BYTES;
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC || !Number.isInteger(count)) throw bad('its form');
  const table = noPieces(size);
  for (let at = HEADER_BYTES, before = -1; at < bytes.length; at += ENTRY_BYTES) {
    const [number, origin] = [bytes.readUInt32LE(at), bytes.readUInt16LE(at + 4)];
    if (number <= before || number >= table.origins.length) throw bad(`piece ${number} behind ${before}`);
    if (origin < 1 || origin > files) throw bad(`file ${origin} of ${files}`);
    table.origins[number] = origin;
    table.hashes.set(bytes.subarray(at + 6, at + ENTRY_BYTES), number * HASH_BYTES);
    before = number;
  }
  return { table, checksum: bytes.toString('latin1', MAGIC.length, HEADER_BYTES) };
}
