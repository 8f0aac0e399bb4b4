import assert from 'node:assert/strict';
import { open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as later } from 'node:timers/promises';
import fc from 'fast-check';
import { fill, fsverity, inDirectory, pieces, sparse, writeAsGuest } from '../../test/disk-pieces.ts';
import { run } from '../processes/process.ts';
import { checksumFile } from './checksum.ts';
import { createOverlay, inspect, MIB } from './qemu-img.ts';
import { FOOTER_SIZE, readFooter } from './vhd.ts';
import { VhdAhead } from './vhd-ahead.ts';
import { writeVhd } from './write-vhd.ts';

/** What is written before the VHD is begun, before and after a checkpoint; how long it has; by how much the disk was grown. */
const courses = fc.record({
  sectors: fc.oneof(
    fc.integer({ min: 1, max: 300 }),
    fc.integer({ min: 2047, max: 2049 }),
    fc.integer({ min: 1, max: 24_000 }),
  ),
  more: fc.oneof(fc.constant(0), fc.nat({ max: 20_000 })),
  below: pieces,
  above: pieces,
  further: fc.option(pieces, { nil: undefined }),
  wait: fc.constantFrom(0, 30, 400),
});

test('whenever it was begun and however far it got, it is the VHD that the finished disk gives', async () => {
  await inDirectory(async directory => {
    await fc.assert(
      fc.asyncProperty(courses, async ({ sectors, more, below, above, further, wait }) => {
        const size = (sectors + more) * 512;
        const disk = Buffer.alloc(size);
        for (const part of below) if (part.at < sectors * 512) fill(disk.subarray(0, sectors * 512), part);
        const [raw, first, second] = ['base.raw', 'first.qcow2', 'second.qcow2'].map(name => join(directory, name));
        await sparse(raw!, sectors * 512, disk, below);
        await createOverlay({ backing: { path: raw!, format: 'raw' }, path: first!, virtualSize: size, beside: true });
        await using ahead = new VhdAhead({ path: first!, format: 'qcow2' }, directory);
        await later(wait);
        await writeAsGuest(first!, disk, above);
        let top = { path: first!, format: 'qcow2' as const };
        if (further) {
          await createOverlay({ backing: top, path: second!, beside: true });
          top = { path: second!, format: 'qcow2' };
          await writeAsGuest(top.path, disk, further);
        }
        const [early, plain] = [join(directory, 'image.vhd'), join(directory, 'plain.vhd')];
        const finished = await ahead.finish(top, { to: early });
        const { allocatedSize } = await writeVhd(top, { to: plain });
        const bytes = await readFile(early);
        assert.equal(finished!.virtualSize, bytes.length - FOOTER_SIZE);
        assert.equal(finished!.fsverity, fsverity(bytes));
        assert.equal(finished!.checksum, await checksumFile(early));
        // But for the blocks that file systems keep their lists of blocks in.
        assert.ok(
          Math.abs(finished!.allocatedSize - allocatedSize) < 64 * 1024,
          `${finished!.allocatedSize} of ${allocatedSize}`,
        );
        // Each has an id of its own in its footer; all else is the same.
        assert.ok(bytes.subarray(0, -FOOTER_SIZE).equals((await readFile(plain)).subarray(0, -FOOTER_SIZE)));
        assert.ok(bytes.subarray(0, size).equals(disk));
        assert.deepEqual((await readFooter(early)).violations, []);
        await Promise.all((await readdir(directory)).map(name => rm(join(directory, name))));
      }),
      { numRuns: 25 },
    );
  });
});

const MANY = 96 * MIB;

/** A disk that takes a while to pass over, and an overlay on it. */
async function overlayOnFullDisk(directory: string) {
  const disk = Buffer.alloc(MANY);
  fill(disk, { at: 0, length: MANY, byte: 3 });
  const [raw, path] = [join(directory, 'base.raw'), join(directory, 'top.qcow2')];
  await writeFile(raw, disk);
  await createOverlay({ backing: { path: raw, format: 'raw' }, path, beside: true });
  return { raw, disk, top: { path, format: 'qcow2' as const } };
}

test('of what was copied only the chunks that changed are read once more', async () => {
  await inDirectory(async directory => {
    const { raw, disk, top } = await overlayOnFullDisk(directory);
    await using ahead = new VhdAhead(top, directory);
    const copied = async () => (await stat(join(directory, 'ahead.vhd')).catch(() => undefined))?.blocks ?? 0;
    while ((await copied()) * 512 < MANY) await later(20);
    // Its threads have ended once they have flushed it.
    await later(300);
    await writeAsGuest(top.path, disk, [{ at: 50 * MIB, length: 4096, byte: 9 }]);
    // What is not read again may as well be something else.
    const base = await open(raw, 'r+');
    await base.write(Buffer.alloc(MIB), 0, MIB, 20 * MIB);
    await base.close();
    const to = join(directory, 'image.vhd');
    const { fsverity: digest } = (await ahead.finish(top, { to }))!;
    const bytes = await readFile(to);
    assert.ok(bytes.subarray(0, MANY).equals(disk));
    assert.equal(digest, fsverity(bytes));
  });
});

test('one that is not needed leaves nothing, nor does one that is called off', async () => {
  await inDirectory(async directory => {
    const { top } = await overlayOnFullDisk(directory);
    const left = async () => (await readdir(directory)).filter(name => name.endsWith('.vhd'));
    for (const wait of [0, 60]) {
      const ahead = new VhdAhead(top, directory);
      await later(wait);
      await ahead[Symbol.asyncDispose]();
      assert.deepEqual(await left(), []);
      assert.equal(await ahead.finish(top, { to: join(directory, 'image.vhd') }), undefined);
    }
    const off = new AbortController();
    await using ahead = new VhdAhead(top, directory);
    const finishing = ahead.finish(top, { to: join(directory, 'image.vhd'), signal: off.signal });
    setTimeout(() => off.abort(new Error('called off')), 60);
    await assert.rejects(finishing, /called off/);
    await ahead[Symbol.asyncDispose]();
    assert.deepEqual(await left(), []);
  });
});

test('nothing is made of a disk that stands on none, of compressed clusters, or of one that was grown since', async () => {
  await inDirectory(async directory => {
    const [raw, packed, path] = ['base.raw', 'packed.qcow2', 'top.qcow2'].map(name => join(directory, name));
    await writeFile(raw!, Buffer.alloc(MIB, 5));
    const to = join(directory, 'image.vhd');
    const made = async (disk: string) => {
      await using ahead = new VhdAhead({ path: disk, format: 'qcow2' }, directory);
      const [virtualSize] = [(await inspect(disk)).virtualSize];
      await later(100);
      if (disk === path) await run('qemu-img', ['resize', '-q', '-f', 'qcow2', disk, String(virtualSize + MIB)]);
      return await ahead.finish({ path: disk, format: 'qcow2' }, { to });
    };
    await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw!, packed!]);
    assert.equal(await made(packed!), undefined);
    await createOverlay({ backing: { path: packed!, format: 'qcow2' }, path: path! });
    assert.equal(await made(path!), undefined);
    await rm(path!);
    await createOverlay({ backing: { path: raw!, format: 'raw' }, path: path! });
    assert.equal(await made(path!), undefined);
    assert.deepEqual(
      (await readdir(directory)).filter(name => name.endsWith('.vhd')),
      [],
    );
  });
});
