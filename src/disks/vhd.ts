/** The footer of a fixed VHD: the last 512 bytes of the file, the only thing that makes a raw disk one. */
import { open } from 'node:fs/promises';
import { MIB } from './qemu-img.ts';

export const FOOTER_SIZE = 512;

const COOKIE = 'conectix';
const TYPES: Readonly<Record<number, VhdType>> = { 2: 'fixed', 3: 'dynamic', 4: 'differencing' };
/** Seconds from 1970-01-01 to 2000-01-01 UTC, where VHD's clock starts. */
const EPOCH = 946_684_800;

export type VhdType = 'fixed' | 'dynamic' | 'differencing';

/** The fields of a footer as they stand there; {@link violations} judges them. */
export interface VhdFooter {
  readonly type: VhdType | undefined;
  /** Bytes that a guest sees. */
  readonly currentSize: bigint;
  readonly originalSize: bigint;
  /** All ones for a fixed disk. */
  readonly dataOffset: bigint;
  readonly checksum: number;
  readonly version: number;
  readonly creatorApplication: string;
  readonly createdAt: Date;
  /** 16 bytes in hex. */
  readonly uniqueId: string;
}

/** One's complement of the sum of all bytes of the footer, its checksum field (64 to 67) taken as zero. */
export function checksum(footer: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < FOOTER_SIZE; at++) if (at < 64 || at > 67) sum += footer[at]!;
  return ~sum >>> 0;
}

/** Reads a footer (untrusted bytes). `undefined` when these bytes are none. Layout: "Virtual Hard Disk Image Format Specification" 1.0. */
export function parseFooter(bytes: Buffer): VhdFooter | undefined {
  if (bytes.length < FOOTER_SIZE || bytes.toString('latin1', 0, 8) !== COOKIE) return undefined;
  return {
    version: bytes.readUInt32BE(12),
    dataOffset: bytes.readBigUInt64BE(16),
    createdAt: new Date((bytes.readUInt32BE(24) + EPOCH) * 1000),
    creatorApplication: bytes.toString('latin1', 28, 32),
    originalSize: bytes.readBigUInt64BE(40),
    currentSize: bytes.readBigUInt64BE(48),
    type: TYPES[bytes.readUInt32BE(60)],
    checksum: bytes.readUInt32BE(64),
    uniqueId: bytes.toString('hex', 68, 84),
  };
}

/**
 * What keeps a file from being the VHD that Azure takes: fixed, a whole number of MiB, nothing but disk and footer.
 * Empty when all is well.
 */
export function violations(bytes: Buffer, fileSize: number): string[] {
  const footer = parseFooter(bytes);
  if (!footer) return ['the file does not end in a VHD footer'];
  const found: string[] = [];
  if (footer.checksum !== checksum(bytes)) found.push("the footer's checksum is wrong");
  if (footer.version !== 0x10000) found.push(`the footer has format version ${footer.version.toString(16)}, not 1.0`);
  if (footer.type !== 'fixed') found.push(`the disk is ${footer.type ?? 'of an unknown type'}, not fixed`);
  if (footer.dataOffset !== 0xffff_ffff_ffff_ffffn) found.push('a fixed disk has no dynamic header, but one is named');
  if (footer.currentSize === 0n || footer.currentSize % BigInt(MIB) !== 0n)
    found.push(`its size of ${footer.currentSize} bytes is not a whole number of MiB`);
  if (footer.currentSize + BigInt(FOOTER_SIZE) !== BigInt(fileSize))
    found.push(`the file has ${fileSize} bytes, not ${footer.currentSize + BigInt(FOOTER_SIZE)}`);
  return found;
}

/** Reads the footer of a file, with what is wrong about it. */
export async function readFooter(path: string): Promise<{ footer: VhdFooter | undefined; violations: string[] }> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const bytes = Buffer.alloc(FOOTER_SIZE);
    if (size >= FOOTER_SIZE) await handle.read(bytes, 0, FOOTER_SIZE, size - FOOTER_SIZE);
    return { footer: parseFooter(bytes), violations: violations(bytes, size) };
  } finally {
    await handle.close();
  }
}
