/**
 * The fs-verity digest of a file, as Linux and `fsverity digest FILE` compute it: a tree of SHA-256 over blocks of 4 KiB, and over a descriptor that has its root and
 * the size of the file. Unlike a hash of the whole, what is known to be zeros costs nothing, however long it is. Format: "Merkle tree" and "fs-verity descriptor" in
 * the kernel's Documentation/filesystems/fsverity.rst; no salt.
 */
import { hash } from 'node:crypto';

/** Bytes: the default of `fsverity`, and the largest that every kernel takes. */
export const VERITY_BLOCK = 4096;

const HASH = 32;
const HASHES = VERITY_BLOCK / HASH;
/** Bytes below one block of hashes. */
const BRANCH = HASHES * VERITY_BLOCK;
const ZEROS = Buffer.alloc(VERITY_BLOCK);
/** SHA-256 as a string of 32 characters: in Node a third cheaper than a buffer of its own. */
const sha256 = (block: Buffer): string => hash('sha256', block, 'binary');

/** The hash of a subtree over nothing but zeros, by its level. */
const zeroHashes = [sha256(ZEROS)];
function zeroHash(level: number): string {
  while (zeroHashes.length <= level) zeroHashes.push(sha256(Buffer.from(zeroHashes.at(-1)!.repeat(HASHES), 'binary')));
  return zeroHashes[level]!;
}

/** One level of the tree: its block that is being filled, with hashes of what lies below. */
interface Level {
  readonly block: Buffer;
  /** Hashes so far, in all blocks of the level. */
  count: number;
}

/** What some of the bytes add to the tree: computed by whoever has them, wherever, and added in order. */
export interface VerityPart {
  /** Bytes. */
  readonly size: number;
  /** Hashes of the blocks of hashes that are full, and of the blocks behind them: 32 characters each. */
  readonly branches: string;
  readonly leaves: string;
}

/** @param bytes at most 32 MiB, which begin at a multiple of 512 KiB in the file; a whole number of blocks, unless they are the last */
export function verityPart(bytes: Buffer): VerityPart {
  const digest = new VerityDigest();
  digest.add(bytes);
  return digest.part();
}

/** For who has the bytes in hand anyway. */
export class VerityDigest {
  readonly #levels: Level[] = [];
  /** Bytes so far. */
  #size = 0;

  /** What comes next. A whole number of blocks, unless it is the last. */
  add(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += VERITY_BLOCK) {
      const block = bytes.subarray(at, at + VERITY_BLOCK);
      if (block.equals(ZEROS.subarray(0, block.length))) this.#push(0, zeroHash(0));
      else this.#push(0, sha256(block.length === VERITY_BLOCK ? block : padded(block)));
    }
    this.#size += bytes.length;
  }

  /** So many zeros come next, at the price of a few hashes. A whole number of blocks, unless they are the last. */
  addZeros(length: number): void {
    this.#pushZeros(0, Math.ceil(length / VERITY_BLOCK));
    this.#size += length;
  }

  /** What comes next, at a multiple of 512 KiB. */
  addPart({ size, branches, leaves }: VerityPart): void {
    if (this.#size % BRANCH !== 0) throw new RangeError(`a part cannot be added behind ${this.#size} bytes`);
    for (let at = 0; at < branches.length; at += HASH) {
      this.#level(0).count += HASHES;
      this.#push(1, branches.slice(at, at + HASH));
    }
    for (let at = 0; at < leaves.length; at += HASH) this.#push(0, leaves.slice(at, at + HASH));
    this.#size += size;
  }

  /** Of all bytes so far. */
  part(): VerityPart {
    const [leaves, branches] = [this.#level(0), this.#level(1)];
    if (branches.count >= HASHES) throw new RangeError(`${this.#size} bytes are too many for a part`);
    const hashesOf = ({ block, count }: Level) => block.toString('binary', 0, (count % HASHES) * HASH);
    return { size: this.#size, branches: hashesOf(branches), leaves: hashesOf(leaves) };
  }

  /** `sha256:` and lower-case hex, as `fsverity digest` prints it. Ends the digest. */
  digest(): string {
    const descriptor = Buffer.alloc(256);
    descriptor.set([1, 1, Math.log2(VERITY_BLOCK)]);
    descriptor.writeBigUInt64LE(BigInt(this.#size), 8);
    if (this.#size > 0) descriptor.write(this.#root(), 16, 'binary');
    return `sha256:${hash('sha256', descriptor)}`;
  }

  #root(): string {
    for (let level = 0; ; level++) {
      const { block, count } = this.#levels[level]!;
      if (count === 1) return block.toString('binary', 0, HASH);
      const used = count % HASHES;
      if (used > 0) this.#push(level + 1, sha256(block.fill(0, used * HASH)));
    }
  }

  #push(level: number, sum: string): void {
    const at = this.#level(level);
    at.block.write(sum, (at.count % HASHES) * HASH, 'binary');
    at.count++;
    if (at.count % HASHES === 0) this.#push(level + 1, sha256(at.block));
  }

  /** Whole blocks of hashes of zeros are one hash of the level above. */
  #pushZeros(level: number, number: number): void {
    let left = number;
    for (; left > 0 && this.#level(level).count % HASHES > 0; left--) this.#push(level, zeroHash(level));
    const blocks = Math.floor(left / HASHES);
    if (blocks > 0) {
      this.#level(level).count += blocks * HASHES;
      this.#pushZeros(level + 1, blocks);
    }
    for (left %= HASHES; left > 0; left--) this.#push(level, zeroHash(level));
  }

  #level(level: number): Level {
    this.#levels[level] ??= { block: Buffer.alloc(VERITY_BLOCK), count: 0 };
    return this.#levels[level];
  }
}

function padded(bytes: Buffer): Buffer {
  const block = Buffer.alloc(VERITY_BLOCK);
  bytes.copy(block);
  return block;
}
