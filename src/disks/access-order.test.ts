import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accessOrder, COLD_BLOCK, coldRead } from './access-order.ts';
import type { DiskChain, DiskExtent } from './chain.ts';

const MIB = 1024 * 1024;
const part = (start: number, length: number, file?: number, offset?: number): DiskExtent => ({
  ...{ start, length },
  ...(file !== undefined && { at: { file, offset: offset! } }),
});
const chain = (...extents: DiskExtent[]): DiskChain => ({ virtualSize: 100, files: ['a', 'b'], extents });

test('the order of access is that of the overlay, as far as the image has data there', () => {
  const image = chain(part(0, 40, 0, 1000), part(40, 20), part(60, 40, 0, 1040));
  const overlay = chain(
    part(0, 10, 1, 1000),
    part(10, 10, 0, 500),
    part(20, 10, 1, 1020),
    // Reaches into what the image has nothing of: the guest wrote that.
    part(30, 35, 0, 100),
    part(65, 25, 1, 1045),
    part(90, 10, 0, 300),
  );
  assert.deepEqual(accessOrder(overlay, image), [
    { start: 30, length: 10 },
    { start: 60, length: 5 },
    { start: 90, length: 10 },
    { start: 10, length: 10 },
  ]);
  assert.deepEqual(accessOrder(chain(part(0, 100, 1, 0)), image), []);
});

test('a cold read counts each block of the file once, and how far into the file it goes', () => {
  assert.equal(COLD_BLOCK, MIB);
  const image = chain(part(0, 4 * MIB, 0, 10 * MIB), part(4 * MIB, MIB), part(5 * MIB, 2 * MIB, 0, MIB / 2));
  // Over the border of two blocks; once more into one of them; and beyond the hole.
  const ranges = [
    { start: 6 * MIB, length: 10 },
    { start: MIB - 5, length: 10 },
    { start: 10, length: 10 },
  ];
  assert.deepEqual(coldRead(ranges, image), { requests: 3, end: 11 * MIB + 5 });
  assert.deepEqual(coldRead([{ start: 0, length: 7 * MIB }], image), { requests: 7, end: 14 * MIB });
  assert.deepEqual(coldRead([], image), { requests: 0, end: 0 });
});
