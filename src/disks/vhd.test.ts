import assert from 'node:assert/strict';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { run } from '../processes/process.ts';
import { convertDisk, inspect, MIB } from './qemu-img.ts';
import { checksum, FOOTER_SIZE, parseFooter, readFooter, violations } from './vhd.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-vhd-'));
});
after(() => rm(directory, { recursive: true, force: true }));

/** A correct footer for a disk of so many MiB. */
function footer(mebibytes: number, unique: Uint8Array): Buffer {
  const bytes = Buffer.alloc(FOOTER_SIZE);
  bytes.write('conectix', 'latin1');
  bytes.writeUInt32BE(2, 8);
  bytes.writeUInt32BE(0x10000, 12);
  bytes.writeBigUInt64BE(0xffff_ffff_ffff_ffffn, 16);
  bytes.write('qem2', 28, 'latin1');
  bytes.writeBigUInt64BE(BigInt(mebibytes) * BigInt(MIB), 40);
  bytes.writeBigUInt64BE(BigInt(mebibytes) * BigInt(MIB), 48);
  bytes.writeUInt32BE(2, 60);
  bytes.set(unique, 68);
  bytes.writeUInt32BE(checksum(bytes), 64);
  return bytes;
}

const size = fc.integer({ min: 1, max: 64 * 1024 * 1024 });
const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 });

test('a correct footer has no violations and is read back', () => {
  fc.assert(
    fc.property(size, uuid, (mebibytes, unique) => {
      const bytes = footer(mebibytes, unique);
      assert.deepEqual(violations(bytes, mebibytes * MIB + FOOTER_SIZE), []);
      const read = parseFooter(bytes)!;
      assert.equal(read.currentSize, BigInt(mebibytes) * BigInt(MIB));
      assert.equal(read.type, 'fixed');
      assert.equal(read.uniqueId, Buffer.from(unique).toString('hex'));
    }),
  );
});

test('any changed byte is noticed', () => {
  fc.assert(
    fc.property(
      size,
      uuid,
      fc.nat(FOOTER_SIZE - 1),
      fc.integer({ min: 1, max: 255 }),
      (mebibytes, unique, at, change) => {
        const bytes = footer(mebibytes, unique);
        bytes[at]! ^= change;
        assert.notDeepEqual(violations(bytes, mebibytes * MIB + FOOTER_SIZE), []);
      },
    ),
  );
});

test('any other file size is noticed', () => {
  fc.assert(
    fc.property(size, uuid, fc.integer().filter(Boolean), (mebibytes, unique, more) =>
      assert.notDeepEqual(violations(footer(mebibytes, unique), mebibytes * MIB + FOOTER_SIZE + more), []),
    ),
  );
});

test('arbitrary bytes never throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), bytes => void violations(Buffer.from(bytes), bytes.length)));
});

test('a converted disk is the VHD that Azure wants, and qemu-img agrees', async () => {
  const raw = join(directory, 'odd.raw');
  const vhd = join(directory, 'odd.vhd');
  const handle = await open(raw, 'w');
  await handle.truncate(5 * MIB + 512);
  await handle.write(Buffer.alloc(4096, 7), 0, 4096, 3 * MIB);
  await handle.close();
  const fractions: number[] = [];
  const info = await convertDisk(
    { path: raw, format: 'raw' },
    { to: vhd, format: 'vhd', onProgress: f => fractions.push(f) },
  );
  assert.equal(info.format, 'vhd');
  assert.equal(info.virtualSize, 6 * MIB);
  assert.equal(fractions.at(-1), 1);
  assert.equal((await stat(vhd)).size, 6 * MIB + FOOTER_SIZE);
  assert.ok(info.allocatedSize < MIB, 'sparse');
  const read = await readFooter(vhd);
  assert.deepEqual(read.violations, []);
  assert.equal(read.footer!.currentSize, BigInt(6 * MIB));
  assert.equal((await inspect(vhd, 'vhd')).virtualSize, 6 * MIB);
  // Grown by zeros: the same content otherwise.
  await run('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'vpc', raw, vhd]);
  const back = join(directory, 'back.raw');
  await convertDisk({ path: vhd, format: 'vhd' }, { to: back, format: 'raw' });
  await run('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'vpc', back, vhd]);
});

test('a raw disk is no VHD', async () => {
  const raw = join(directory, 'plain.raw');
  const handle = await open(raw, 'w');
  await handle.truncate(MIB);
  await handle.close();
  assert.deepEqual((await readFooter(raw)).violations, ['the file does not end in a VHD footer']);
});
