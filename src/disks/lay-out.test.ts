import assert from 'node:assert/strict';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../processes/process.ts';
import { accessOrder, coldRead } from './access-order.ts';
import { chainOf } from './chain.ts';
import { layOut } from './lay-out.ts';
import { convertDisk, createOverlay, inspect, MIB } from './qemu-img.ts';

let directory: string;
const at = (name: string) => join(directory, name);
const mapOf = async (name: string) => (await chainOf({ path: at(name), format: 'qcow2' }))!;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln,order:-'));
  const handle = await open(at('image.raw'), 'w');
  await handle.truncate(64 * MIB);
  for (const [start, length] of [
    [0, 10],
    [20, 12],
    [50, 14],
  ] as const)
    for (let mib = start; mib < start + length; mib++)
      await handle.write(Buffer.alloc(MIB, mib + 1), 0, MIB, mib * MIB);
  await handle.close();
  await convertDisk({ path: at('image.raw'), format: 'raw' }, { to: at('image.qcow2'), format: 'qcow2' });
});
after(() => rm(directory, { recursive: true, force: true }));

test('what a copy-on-read overlay was read of lies at the beginning afterwards, in that order, and the disk is the same', async () => {
  await createOverlay({ backing: { path: at('image.qcow2'), format: 'qcow2' }, path: at('trace.qcow2') });
  const used = ['read 57M 1M', 'read 3M 128k', 'write -P 9 35M 64k', 'read 25M 6M', 'read 57M 64k', 'read 12M 1M'];
  await run('qemu-io', ['-C', '-f', 'qcow2', at('trace.qcow2')], { input: `${used.join('\n')}\n` });
  const image = await mapOf('image.qcow2');
  const order = accessOrder(await mapOf('trace.qcow2'), image);
  assert.deepEqual(order, [
    { start: 57 * MIB, length: MIB },
    { start: 3 * MIB, length: MIB / 8 },
    { start: 25 * MIB, length: 6 * MIB },
  ]);
  const shares: number[] = [];
  await layOut(at('image.qcow2'), order, { to: at('laid.qcow2'), onProgress: share => shares.push(share) });
  await run('qemu-img', ['check', '-q', at('laid.qcow2')]);
  await run('qemu-img', ['compare', '-q', at('laid.qcow2'), at('image.raw')]);
  const info = await inspect(at('laid.qcow2'), 'qcow2');
  assert.equal(info.backingFile, undefined);
  assert.equal(info.virtualSize, 64 * MIB);
  assert.ok(info.allocatedSize <= (await inspect(at('image.qcow2'), 'qcow2')).allocatedSize + MIB);
  assert.equal(shares.at(-1), 1);

  const laid = await mapOf('laid.qcow2');
  const offsets = order.map(({ start }) => {
    const extent = laid.extents.find(one => one.start <= start && start < one.start + one.length)!;
    return extent.at!.offset + start - extent.start;
  });
  assert.deepEqual(
    offsets,
    offsets.toSorted((a, b) => a - b),
  );
  const [before, after] = [coldRead(order, image), coldRead(order, laid)];
  assert.ok(before.end > 28 * MIB && after.end < 8 * MIB, JSON.stringify({ before, after }));
  assert.ok(after.requests <= 8 && before.requests >= 9, JSON.stringify({ before, after }));
});

test('an image of which nothing was read is only written anew; an abort ends it', async () => {
  await layOut(at('image.qcow2'), [], { to: at('same.qcow2') });
  await run('qemu-img', ['compare', '-q', at('same.qcow2'), at('image.raw')]);
  const signal = AbortSignal.abort(new Error('enough'));
  await assert.rejects(layOut(at('image.qcow2'), [], { to: at('never.qcow2'), signal }), /enough/);
});
