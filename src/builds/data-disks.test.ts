import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { inspect } from '../disks/qemu-img.ts';
import type { SourceImage } from '../images/source.ts';
import { run } from '../processes/process.ts';
import { freeUnits, openDataDisks } from './data-disks.ts';
import type { BuildLog } from './log.ts';

test('further disks get units that nobody has, in order, as low as there are', () => {
  assert.deepEqual(freeUnits([], 3), [0, 1, 2]);
  assert.deepEqual(freeUnits([0, 2], 2), [1, 3]);
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(63), { maxLength: 40 }), fc.nat(20), (taken, count) => {
      const units = freeUnits(taken, count);
      assert.equal(new Set([...units, ...taken]).size, taken.length + count);
      assert.deepEqual(
        units,
        units.toSorted((a, b) => a - b),
      );
      const highest = units.at(-1) ?? -1;
      assert.ok(
        Array.from({ length: highest }, (_, lun) => lun).every(lun => units.includes(lun) || taken.includes(lun)),
      );
    }),
  );
});

test("the source's disks keep their units and content, which is not written; new ones are empty, and take no room", async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'kiln-data-'));
  try {
    const [image, directory] = [join(scratch, 'image.qcow2'), join(scratch, 'run')];
    await mkdir(directory);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, '3G']);
    const source = {
      dataDisks: [
        { lun: 1, disk: { path: image, format: 'qcow2' }, sha256: 'a'.repeat(64), virtualSize: 3 * 1024 ** 3 },
      ],
    } as unknown as SourceImage;
    const said: string[] = [];
    const log = { say: (line: string) => void said.push(line) } as BuildLog;
    const disks = await openDataDisks(source, [8, 32_767], { directory, log });
    assert.deepEqual(
      disks.map(({ lun, disk }) => [lun, basename(disk.path)]),
      [
        [0, 'lun0-layer-1.qcow2'],
        [1, 'lun1-layer-1.qcow2'],
        [2, 'lun2-layer-1.qcow2'],
      ],
    );
    const [first, brought, large] = await Promise.all(disks.map(({ disk }) => inspect(disk.path, 'qcow2')));
    assert.deepEqual([first!.virtualSize, first!.backingFile], [8 * 1024 ** 3, undefined]);
    assert.deepEqual([brought!.virtualSize, brought!.backingFile], [3 * 1024 ** 3, 'lun1-source.qcow2']);
    assert.ok(large!.virtualSize === 32_767 * 1024 ** 3 && large!.allocatedSize < 64 * 1024 ** 2);
    assert.equal((await stat(join(directory, 'lun1-source.qcow2'))).ino, (await stat(image)).ino);
    assert.equal((await stat(disks[0]!.disk.path)).mode & 0o077, 0);
    assert.equal(said.length, 3);
  } finally {
    await rm(scratch, { recursive: true });
  }
});
