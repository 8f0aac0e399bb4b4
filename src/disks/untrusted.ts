/** A disk from outside, looked at before QEMU may open it: a qcow2 header can name any file of the host as a part of the disk. */
import { open } from 'node:fs/promises';
import { KilnError } from '../arm/errors.ts';
import { type DiskFormat, type DiskInfo, inspect } from './qemu-img.ts';
import { checksum, FOOTER_SIZE, parseFooter } from './vhd.ts';

export interface DiskLimits {
  /** Bytes that the guest may see. */
  readonly maxVirtualSize: number;
}

/** Azure's own limit for an operating system disk: 4095 GiB. */
export const DEFAULT_LIMITS: DiskLimits = Object.freeze({ maxVirtualSize: 4095 * 1024 ** 3 });

/** First bytes of what people hand over by mistake, with what they should do. */
const MISTAKES: readonly (readonly [offset: number, bytes: string, what: string])[] = [
  [0, '\x1f\x8b', 'compressed with gzip: unpack it'],
  [0, '\xfd7zXZ\0', 'compressed with xz: unpack it'],
  [0, '\x28\xb5\x2f\xfd', 'compressed with zstd: unpack it'],
  [0, 'BZh', 'compressed with bzip2: unpack it'],
  [0, 'PK\x03\x04', 'a zip archive: unpack it'],
  [257, 'ustar', 'a tar archive: unpack it'],
  [0x8001, 'CD001', 'an ISO of an installer, not an installed disk'],
  [0, 'vhdxfile', 'a VHDX: convert it with qemu-img convert -f vhdx -O qcow2'],
  [0, 'KDMV', 'a VMDK: convert it with qemu-img convert -f vmdk -O qcow2'],
  [0, '# Disk DescriptorFile', 'the description of a VMDK: convert the disk with qemu-img convert -f vmdk -O qcow2'],
  [0, 'QED\0', 'a QED disk: convert it with qemu-img convert -f qed -O qcow2'],
  [0, 'LUKS\xba\xbe', 'encrypted with LUKS'],
  [0x40, '\x7f\x10\xda\xbe', 'a VDI: convert it with qemu-img convert -f vdi -O qcow2'],
  [0, '<!DOCTYPE', 'a web page, not a disk'],
  [0, '<html', 'a web page, not a disk'],
];

const QCOW2 = { dataFile: 1n << 2n, corrupt: 1n << 1n, known: 0b11111n };

/**
 * Says what a file from outside is: qcow2 without backing file, data file or encryption; a fixed or dynamic VHD; or a raw disk.
 * Opens no other file than `path`. Rejects with SourceUnusable, which names what is wrong and what to do.
 */
export async function inspectUntrusted(
  path: string,
  limits: DiskLimits = DEFAULT_LIMITS,
  signal?: AbortSignal,
): Promise<DiskInfo & { readonly format: DiskFormat }> {
  const format = await probe(path);
  // Safe now: qemu-img opens only this file, with the format named.
  const info = await inspect(path, format, signal).catch(error => {
    signal?.throwIfAborted();
    if (error instanceof KilnError && error.code === 'ToolMissing') throw error;
    throw unusable(path, `is no ${format} disk that QEMU can read: ${(error as Error).message}`, error);
  });
  if (info.backingFile !== undefined) throw unusable(path, `needs a backing file (${printable(info.backingFile)})`);
  if (info.virtualSize < 1024 * 1024) throw unusable(path, `is a disk of ${info.virtualSize} bytes: too small to boot`);
  if (info.virtualSize > limits.maxVirtualSize)
    throw unusable(path, `is a disk of ${info.virtualSize} bytes; at most ${limits.maxVirtualSize} are allowed`);
  return { ...info, format };
}

async function probe(path: string): Promise<DiskFormat> {
  const handle = await open(path, 'r').catch(error => {
    throw unusable(path, `cannot be read: ${(error as Error).message}`, error);
  });
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw unusable(path, 'is not a file');
    const head = Buffer.alloc(0x9000);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    const start = head.subarray(0, bytesRead);
    if (start.toString('latin1', 0, 4) === 'QFI\xfb') {
      const wrong = qcow2Violation(start);
      if (wrong) throw unusable(path, wrong);
      return 'qcow2';
    }
    const mistake = MISTAKES.find(
      ([offset, bytes]) =>
        start.toString('latin1', offset, offset + bytes.length).toLowerCase() === bytes.toLowerCase(),
    );
    if (mistake) throw unusable(path, `is ${mistake[2]}`);
    const tail = Buffer.alloc(FOOTER_SIZE);
    if (stats.size >= FOOTER_SIZE) await handle.read(tail, 0, FOOTER_SIZE, stats.size - FOOTER_SIZE);
    const footer = parseFooter(tail);
    if (footer) {
      if (footer.checksum !== checksum(tail)) throw unusable(path, 'is a VHD whose footer has a wrong checksum');
      if (footer.type === 'differencing') throw unusable(path, 'is a differencing VHD: it needs a parent disk');
      if (footer.type === undefined) throw unusable(path, 'is a VHD of an unknown type');
      return 'vhd';
    }
    if (parseFooter(start)) throw unusable(path, 'begins as a VHD but does not end as one: it was cut off');
    if (stats.size === 0 || stats.size % 512 !== 0)
      throw unusable(
        path,
        `has ${stats.size} bytes, which is no whole number of sectors: no disk format that Kiln knows`,
      );
    // A raw disk says nothing about itself; one that boots has a partition table or at least a boot sector.
    if (start[510] !== 0x55 || start[511] !== 0xaa)
      throw unusable(path, 'is neither qcow2 nor VHD, and no raw disk with a boot sector or a partition table either');
    return 'raw';
  } finally {
    await handle.close();
  }
}

/** What in a qcow2 header forbids its use; the layout is docs/interop/qcow2.txt of QEMU. */
function qcow2Violation(header: Buffer): string | undefined {
  if (header.length < 72) return 'is a qcow2 file that was cut off';
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) return `is a qcow2 file of version ${version}; versions 2 and 3 are known`;
  if (header.readBigUInt64BE(8) !== 0n) return 'needs a backing file';
  if (header.readUInt32BE(32) !== 0) return 'is encrypted';
  if (version === 2) return undefined;
  if (header.length < 104) return 'is a qcow2 file that was cut off';
  const features = header.readBigUInt64BE(72);
  if (features & QCOW2.dataFile) return 'keeps its data in another file';
  if (features & QCOW2.corrupt) return 'is marked as corrupt';
  if (features & ~QCOW2.known) return 'has features that are unknown here';
  return undefined;
}

function unusable(path: string, what: string, cause?: unknown): KilnError {
  return new KilnError('SourceUnusable', `${path} ${what}.`, {
    target: path,
    hint: 'A plain image works: qemu-img convert -O qcow2 DISK NEW.qcow2 (it takes in a backing file, too).',
    ...(cause !== undefined && { cause }),
  });
}

/** Bytes from a stranger's disk, fit for a message. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
