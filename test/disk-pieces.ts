/** Disks of a few pieces, for tests of what reads and writes disks. */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { MIB } from '../src/disks/qemu-img.ts';
import { VerityDigest } from '../src/disks/verity.ts';
import { run } from '../src/processes/process.ts';

export async function inDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-vhd-'));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

export interface Piece {
  readonly at: number;
  readonly length: number;
  readonly byte: number;
}

/** Bytes that a place says of itself; zeros where `byte` is 0. */
export function fill(disk: Buffer, { at, length, byte }: Piece): void {
  for (let n = at; n < Math.min(at + length, disk.length); n++) disk[n] = byte && ((byte + n + (n >> 8)) & 255) | 1;
}

export const pieces = fc.array(
  fc.record({
    at: fc.nat({ max: 9 * MIB }),
    length: fc.oneof(fc.nat({ max: 3000 }), fc.nat({ max: 2 * MIB })),
    byte: fc.nat({ max: 255 }),
  }),
  { maxLength: 6 },
);
export function fsverity(bytes: Buffer): string {
  const digest = new VerityDigest();
  digest.add(bytes);
  return digest.digest();
}

export async function sparse(path: string, size: number, disk: Buffer, parts: readonly Piece[]): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.truncate(size);
    for (const { at, length } of parts) if (at < size) await file.write(disk, at, Math.min(length, size - at), at);
  } finally {
    await file.close();
  }
}

/** Writes pieces into a qcow2 disk, and into `disk`, which has the same bytes; zeros too. */
export async function writeAsGuest(path: string, disk: Buffer, parts: readonly Piece[]): Promise<void> {
  const changed = `${path}.changed`;
  for (const part of parts) {
    fill(disk, part);
    const length = Math.min(part.length, disk.length - part.at);
    if (length <= 0) continue;
    await writeFile(changed, disk.subarray(part.at, part.at + length));
    await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -s ${changed} ${part.at} ${length}`, path]);
  }
  await rm(changed, { force: true });
}
