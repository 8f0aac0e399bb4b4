/**
 * A checksum over what a file holds, to find damage, not malice: CRC-32 over its blocks that are not all zero, each with its number. Holes cost nothing and mean
 * the same as zeros, so a copy that has its holes elsewhere has the same checksum.
 */
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { combineCrc32 } from './crc.ts';
import { extentsOfFile } from './holes.ts';

/** Bytes. */
export const CHECKSUM_BLOCK = 1024 * 1024;

const BLOCK = CHECKSUM_BLOCK;
const ZEROS = Buffer.alloc(BLOCK);

/** What a block adds to the checksum: computed by whoever has it, wherever, and added in order. */
export interface ChecksumPart {
  readonly sum: number;
  /** Bytes that it is of. */
  readonly size: number;
}

/** @param bytes the whole block, unless it is the file's last; nothing is added when all of them are zero */
export function checksumPart(block: number, bytes: Buffer): ChecksumPart | undefined {
  if (bytes.equals(ZEROS.subarray(0, bytes.length))) return undefined;
  const number = Buffer.alloc(8);
  number.writeBigUInt64LE(BigInt(block));
  return { sum: crc32(bytes, crc32(number)), size: number.length + bytes.length };
}

/** For who has the blocks in hand anyway. */
export class BlockChecksum {
  #sum = 0;

  /** Blocks come in order; those that are nothing but zeros may be left out. */
  add(part: ChecksumPart | undefined): void {
    if (part) this.#sum = combineCrc32(this.#sum, part.sum, part.size);
  }

  /** Eight hex digits. */
  digest(): string {
    return this.#sum.toString(16).padStart(8, '0');
  }
}

/** @returns eight hex digits. Errors: the file system's; the signal's reason. */
export async function checksumFile(path: string, signal?: AbortSignal): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { size, blocks } = await file.stat();
    const whole = [{ start: 0, length: size, zero: false }];
    const extents = size > BLOCK && blocks * 512 < size ? await extentsOfFile(path, size, signal) : whole;
    const buffer = Buffer.alloc(BLOCK);
    const sum = new BlockChecksum();
    let next = 0;
    for (const { start, length, zero } of extents) {
      if (zero || length === 0) continue;
      // An extent that begins within a block that was read already needs the rest only.
      for (let block = Math.max(next, Math.floor(start / BLOCK)); block * BLOCK < start + length; block++) {
        signal?.throwIfAborted();
        const at = block * BLOCK;
        const wanted = Math.min(BLOCK, size - at);
        let got = 0;
        while (got < wanted) {
          const { bytesRead } = await file.read(buffer, got, wanted - got, at + got);
          if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`);
          got += bytesRead;
        }
        next = block + 1;
        sum.add(checksumPart(block, buffer.subarray(0, wanted)));
      }
    }
    return sum.digest();
  } finally {
    await file.close();
  }
}
