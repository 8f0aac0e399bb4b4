/**
 * A VHD from outside (untrusted bytes), looked at before QEMU may open it: fixed or dynamic, with a footer that is whole and says what the file is. A
 * differencing one names a parent, which would be another file.
 */
import { type FilePart, readParts, sizeOf } from './file-parts.ts';
import { MIB } from './qemu-img.ts';
import { DEFAULT_LIMITS, type DiskLimits } from './untrusted.ts';
import { checksum, FOOTER_SIZE, parseFooter, type VhdFooter } from './vhd.ts';

/** What it is, or why it is none that can be taken. */
export type ForeignVhd =
  | { readonly type: 'fixed' | 'dynamic'; readonly virtualSize: number }
  | {
      /** `cookie`: it has no footer. `size`: no whole number of MiB. `limit`: too small or too large. `damaged`: all else. */
      readonly wrong: 'cookie' | 'size' | 'limit' | 'damaged';
      readonly virtualSize?: number;
      /** Goes on after the name of the file: `is a differencing VHD`. */
      readonly because: string;
    };

const DYNAMIC_HEADER_SIZE = 1024;
const DYNAMIC_COOKIE = 'cxsparse';
/** Of a fixed disk, which has no such header. */
const NOWHERE = 0xffff_ffff_ffff_ffffn;

/** Reads the footer, and of a dynamic disk the header that it names and its table of blocks; no more. */
export async function readForeignVhd(
  parts: readonly FilePart[],
  limits: DiskLimits = DEFAULT_LIMITS,
): Promise<ForeignVhd> {
  const fileSize = sizeOf(parts);
  const bytes = await readParts(parts, Math.max(0, fileSize - FOOTER_SIZE), FOOTER_SIZE);
  const footer = parseFooter(bytes);
  if (!footer) return { wrong: 'cookie', because: 'does not end in the footer of a VHD' };
  if (footer.checksum !== checksum(bytes)) return damaged('has a footer with a wrong checksum');
  if (footer.version !== 0x10000) return damaged(`has a footer of version ${footer.version.toString(16)}, not 1.0`);
  if (footer.type === 'differencing') return damaged('is a differencing VHD: it needs a parent disk');
  if (footer.type === undefined) return damaged('is a VHD of an unknown type');
  if (footer.currentSize > BigInt(Number.MAX_SAFE_INTEGER)) return damaged('is larger than any disk');
  const virtualSize = Number(footer.currentSize);
  // QEMU takes the first sector for the footer where it looks like one.
  const start = await readParts(parts, 0, FOOTER_SIZE);
  if (footer.type === 'fixed' ? parseFooter(start) : !start.equals(bytes))
    return damaged(`is a ${footer.type} VHD whose first sector contradicts its footer`);
  const wrong =
    footer.type === 'fixed' ? fixedProblem(footer, fileSize) : await dynamicProblem(footer, fileSize, parts);
  if (wrong) return wrong;
  if (virtualSize > limits.maxVirtualSize || virtualSize < MIB)
    return { wrong: 'limit', virtualSize, because: `is a disk of ${virtualSize} bytes` };
  if (virtualSize % MIB !== 0) return { wrong: 'size', virtualSize, because: `is a disk of ${virtualSize} bytes` };
  return { type: footer.type, virtualSize };
}

const damaged = (because: string): ForeignVhd => ({ wrong: 'damaged', because });

function fixedProblem({ currentSize, dataOffset }: VhdFooter, fileSize: number): ForeignVhd | undefined {
  if (dataOffset !== NOWHERE) return damaged('is a fixed VHD whose footer names a dynamic header');
  const expected = Number(currentSize) + FOOTER_SIZE;
  return fileSize === expected ? undefined : damaged(`has ${fileSize} bytes; its footer says ${expected}`);
}

/** The header behind the footer's copy: a table with an entry for each block of the disk, which has to lie in the file. */
async function dynamicProblem(
  { currentSize, dataOffset }: VhdFooter,
  fileSize: number,
  parts: readonly FilePart[],
): Promise<ForeignVhd | undefined> {
  const end = BigInt(fileSize - FOOTER_SIZE);
  if (dataOffset < BigInt(FOOTER_SIZE) || dataOffset + BigInt(DYNAMIC_HEADER_SIZE) > end)
    return damaged('is a dynamic VHD whose header lies outside of the file');
  const header = await readParts(parts, Number(dataOffset), DYNAMIC_HEADER_SIZE);
  if (header.toString('latin1', 0, 8) !== DYNAMIC_COOKIE) return damaged('is a dynamic VHD without its header');
  if (header.readUInt32BE(36) !== headerChecksum(header))
    return damaged('is a dynamic VHD whose header has a wrong checksum');
  const table = header.readBigUInt64BE(16);
  const entries = header.readUInt32BE(28);
  const blockSize = header.readUInt32BE(32);
  if (blockSize < 512 || (blockSize & (blockSize - 1)) !== 0 || blockSize > 2 ** 30)
    return damaged(`is a dynamic VHD with blocks of ${blockSize} bytes`);
  if (BigInt(entries) * BigInt(blockSize) < currentSize)
    return damaged(`is a dynamic VHD whose table of ${entries} blocks is too short for its size`);
  if (table < BigInt(FOOTER_SIZE) || table + BigInt(entries) * 4n > end)
    return damaged('is a dynamic VHD whose table of blocks lies outside of the file');
  const used = Number((currentSize + BigInt(blockSize) - 1n) / BigInt(blockSize));
  if (used > MOST_BLOCKS) return damaged(`is a dynamic VHD of ${used} blocks`);
  if ((await countBlocks(parts, Number(table), used)) * blockSize > fileSize)
    return damaged('is a dynamic VHD that has the same bytes in several blocks');
  return undefined;
}

/** Of the usual 2 MiB each they are more than any disk. */
const MOST_BLOCKS = 2 ** 24;
const UNUSED = 0xffff_ffff;

/** Those that have bytes in the file. Each is to have its own: else a small file could become a disk that fills any other. */
async function countBlocks(parts: readonly FilePart[], table: number, entries: number): Promise<number> {
  let found = 0;
  for (let at = 0; at < entries; at += MIB / 4) {
    const bytes = await readParts(parts, table + at * 4, Math.min(MIB / 4, entries - at) * 4);
    for (let entry = 0; entry < bytes.length; entry += 4) if (bytes.readUInt32BE(entry) !== UNUSED) found += 1;
  }
  return found;
}

/** As the footer's, over the header; its own field stands at 36. */
function headerChecksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < DYNAMIC_HEADER_SIZE; at++) if (at < 36 || at > 39) sum += header[at]!;
  return ~sum >>> 0;
}
