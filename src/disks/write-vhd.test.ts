import assert from 'node:assert/strict';
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { fill, fsverity, inDirectory, type Piece, pieces, sparse, writeAsGuest } from '../../test/disk-pieces.ts';
import { run } from '../processes/process.ts';
import { chainOf } from './chain.ts';
import { checksumFile } from './checksum.ts';
import { passOverFile } from './pass.ts';
import { convertDisk, createOverlay, MIB } from './qemu-img.ts';
import { FOOTER_SIZE, readFooter } from './vhd.ts';
import { writeVhd } from './write-vhd.ts';

/** Sectors: less than one MiB, just beside a whole number of them, more than the copy has in hand at once. */
const sectors = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 2047, max: 2049 }),
  fc.nat({ max: 18_000 }).map(n => n + 1),
);

test('a chain of overlays becomes a VHD with the same bytes, and digests of that very file', async () => {
  await inDirectory(async directory => {
    await fc.assert(
      fc.asyncProperty(sectors, pieces, pieces, async (count, below, above) => {
        const size = count * 512;
        const disk = Buffer.alloc(size);
        for (const part of below) fill(disk, part);
        const [raw, top, vhd] = ['base.raw', 'top.qcow2', 'image.vhd'].map(name => join(directory, name)) as [
          string,
          string,
          string,
        ];
        await sparse(raw, size, disk, below);
        await createOverlay({ backing: { path: raw, format: 'raw' }, path: top });
        await writeAsGuest(top, disk, above);
        const written = await writeVhd({ path: top, format: 'qcow2' }, { to: vhd });
        const bytes = await readFile(vhd);
        assert.equal(written.virtualSize, Math.ceil(size / MIB) * MIB);
        assert.equal(bytes.length, written.virtualSize + FOOTER_SIZE);
        assert.ok(bytes.subarray(0, size).equals(disk));
        assert.ok(bytes.subarray(size, -FOOTER_SIZE).every(byte => byte === 0));
        assert.deepEqual((await readFooter(vhd)).violations, []);
        assert.equal(written.fsverity, fsverity(bytes));
        assert.equal(written.checksum, await checksumFile(vhd));
        assert.equal(written.allocatedSize, (await stat(vhd)).blocks * 512);
        await Promise.all([raw, top, vhd].map(path => rm(path, { force: true })));
      }),
      { numRuns: 25 },
    );
  });
});

test('a pass over any file gives its digests', async () => {
  await inDirectory(async directory => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: 9 * MIB }),
        pieces,
        fc.integer({ min: 1, max: 3 }),
        async (size, parts, threads) => {
          const path = join(directory, 'file');
          const bytes = Buffer.alloc(size);
          for (const part of parts) fill(bytes, part);
          await sparse(path, size, bytes, parts);
          const digests = await passOverFile(path, { threads });
          assert.deepEqual(digests, { fsverity: fsverity(bytes), checksum: await checksumFile(path) });
        },
      ),
      { numRuns: 25 },
    );
  });
});

test('threads that take turns write the same VHD', async () => {
  await inDirectory(async directory => {
    const [raw, vhd] = [join(directory, 'disk.raw'), join(directory, 'image.vhd')];
    const parts: Piece[] = [
      { at: 0, length: 21 * MIB, byte: 3 },
      { at: 30 * MIB + 512, length: 17 * MIB, byte: 4 },
      { at: 60 * MIB, length: 4096, byte: 5 },
    ];
    const data = Buffer.alloc(64 * MIB);
    for (const part of parts) fill(data, part);
    await sparse(raw, data.length, data, parts);
    const written = await writeVhd({ path: raw, format: 'raw' }, { to: vhd });
    const bytes = await readFile(vhd);
    assert.ok(bytes.subarray(0, data.length).equals(data));
    assert.equal(written.fsverity, fsverity(bytes));
    assert.equal(written.checksum, await checksumFile(vhd));
  });
});

test('holes stay holes, and zeros become some', async () => {
  await inDirectory(async directory => {
    const [raw, vhd] = [join(directory, 'disk.raw'), join(directory, 'image.vhd')];
    const data = Buffer.alloc(16 * MIB);
    data.fill(7, 5 * MIB, 5 * MIB + 100);
    await writeFile(raw, data);
    const { allocatedSize } = await writeVhd({ path: raw, format: 'raw' }, { to: vhd });
    assert.ok(allocatedSize <= 128 * 1024, `${allocatedSize}`);
  });
});

test('compressed clusters are read through QEMU', async () => {
  await inDirectory(async directory => {
    const [raw, packed, vhd] = ['disk.raw', 'packed.qcow2', 'image.vhd'].map(name => join(directory, name));
    const disk = Buffer.alloc(3 * MIB);
    fill(disk, { at: 70_000, length: 2 * MIB, byte: 3 });
    await writeFile(raw!, disk);
    await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw!, packed!]);
    assert.equal(await chainOf({ path: packed!, format: 'qcow2' }), undefined);
    const { fsverity: digest } = await writeVhd({ path: packed!, format: 'qcow2' }, { to: vhd! });
    const bytes = await readFile(vhd!);
    assert.ok(bytes.subarray(0, disk.length).equals(disk));
    assert.equal(digest, fsverity(bytes));
    assert.deepEqual((await readdir(directory)).sort(), ['disk.raw', 'image.vhd', 'packed.qcow2']);
  });
});

test('a copy that is called off leaves nothing', async () => {
  await inDirectory(async directory => {
    const [raw, vhd] = [join(directory, 'disk.raw'), join(directory, 'image.vhd')];
    await writeFile(raw, Buffer.alloc(64 * MIB, 1));
    const off = new AbortController();
    const copying = writeVhd({ path: raw, format: 'raw' }, { to: vhd, signal: off.signal });
    setTimeout(() => off.abort(new Error('called off')), 60);
    await assert.rejects(copying, /called off/);
    assert.deepEqual(await readdir(directory), ['disk.raw']);
  });
});

test('an overlay on a VHD shows the disk without its footer', async () => {
  await inDirectory(async directory => {
    const [raw, vhd, top, back] = ['disk.raw', 'image.vhd', 'top.qcow2', 'back.raw'].map(name => join(directory, name));
    const disk = Buffer.alloc(5 * MIB);
    fill(disk, { at: 4 * MIB, length: MIB, byte: 9 });
    await writeFile(raw!, disk);
    await writeVhd({ path: raw!, format: 'raw' }, { to: vhd! });
    const { virtualSize } = await createOverlay({ backing: { path: vhd!, format: 'vhd' }, path: top! });
    assert.equal(virtualSize, disk.length);
    await convertDisk({ path: top!, format: 'qcow2' }, { to: back!, format: 'raw' });
    assert.ok((await readFile(back!)).equals(disk));
    await assert.rejects(
      createOverlay({ backing: { path: vhd!, format: 'vhd' }, path: top!, virtualSize: 6 * MIB }),
      /does not grow/,
    );
  });
});

test('a qcow2 file that ends within its last cluster has zeros there, as QEMU reads it', async () => {
  await inDirectory(async directory => {
    const [disk, raw, vhd] = ['disk.qcow2', 'disk.raw', 'image.vhd'].map(name => join(directory, name)) as [
      string,
      string,
      string,
    ];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk, String(2 * MIB)]);
    // Enough for QEMU not to take it for a file that was given its clusters ahead of time: it looks closer at those.
    await run('qemu-io', ['-f', 'qcow2', '-c', `write -q -P 7 0 ${2 * MIB}`, disk]);
    const file = await open(disk, 'r+');
    await file.truncate((await file.stat()).size - 60 * 1024);
    await file.close();
    await convertDisk({ path: disk, format: 'qcow2' }, { to: raw, format: 'raw' });
    await writeVhd({ path: disk, format: 'qcow2' }, { to: vhd });
    assert.equal((await readFile(raw)).lastIndexOf(7), 2 * MIB - 60 * 1024 - 1);
    assert.ok((await readFile(vhd)).subarray(0, 2 * MIB).equals(await readFile(raw)));
  });
});

test('zeros of several kinds that take turns are one extent, and so are clusters that lie one after the other', async () => {
  await inDirectory(async directory => {
    const [base, top] = [join(directory, 'base.qcow2'), join(directory, 'top.qcow2')];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(16 * MIB)]);
    await createOverlay({ backing: { path: base, format: 'qcow2' }, path: top });
    const turns = [...Array(60).keys()].flatMap(n => ['-c', `write -q -z ${n * 128 * 1024} ${64 * 1024}`]);
    await run('qemu-io', ['-f', 'qcow2', ...turns, '-c', `write -q -P 7 ${8 * MIB} ${256 * 1024}`, top]);
    const { extents } = (await chainOf({ path: top, format: 'qcow2' }))!;
    assert.deepEqual(
      extents.map(({ start, length, at }) => [start, length, at?.file]),
      [
        [0, 8 * MIB, undefined],
        [8 * MIB, 256 * 1024, 0],
        [8 * MIB + 256 * 1024, 8 * MIB - 256 * 1024, undefined],
      ],
    );
  });
});
