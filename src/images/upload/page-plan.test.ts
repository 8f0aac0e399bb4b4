import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  chunksOf,
  dataSpans,
  joined,
  lacking,
  lengthOf,
  MOST_PAGES,
  PAGE,
  type Span,
  withoutZeros,
} from './page-plan.ts';

const MIB = 1024 * 1024;
const data = (start: number, length: number) => ({ start, length, zero: false });
const hole = (start: number, length: number) => ({ start, length, zero: true });

test('data is written in whole pages, without holes and without the footer', () => {
  const size = 8 * MIB + PAGE;
  assert.deepEqual(dataSpans([data(0, 100), hole(100, 8 * MIB - 100), data(8 * MIB, PAGE)], size), [
    { start: 0, end: PAGE },
  ]);
  assert.deepEqual(dataSpans([hole(0, 4096), data(4096, 4096), hole(8192, size - 8192)], size), [
    { start: 4096, end: 8192 },
  ]);
  assert.deepEqual(dataSpans([data(0, size)], size), [{ start: 0, end: 8 * MIB }]);
  assert.deepEqual(dataSpans([hole(0, size)], size), []);
});

test('requests have 4 MiB at most, and small holes do not make more of them', () => {
  assert.deepEqual(chunksOf([{ start: 3 * MIB, end: 9 * MIB }]), [
    { start: 3 * MIB, end: 4 * MIB },
    { start: 4 * MIB, end: 8 * MIB },
    { start: 8 * MIB, end: 9 * MIB },
  ]);
  assert.equal(
    chunksOf([
      { start: 0, end: 4096 },
      { start: 8192, end: 12288 },
    ]).length,
    1,
  );
  assert.equal(
    chunksOf([
      { start: 0, end: 4096 },
      { start: MIB, end: MIB + 512 },
    ]).length,
    2,
  );
});

test('zero pages at the ends of a chunk are left out', () => {
  const bytes = Buffer.alloc(8 * PAGE);
  assert.equal(withoutZeros({ start: 4096, end: 4096 + bytes.length }, bytes), undefined);
  bytes[3 * PAGE + 7] = 1;
  bytes[5 * PAGE] = 1;
  assert.deepEqual(withoutZeros({ start: 4096, end: 4096 + bytes.length }, bytes), {
    start: 4096 + 3 * PAGE,
    end: 4096 + 6 * PAGE,
  });
});

const spans = fc.array(
  fc.tuple(fc.nat(60), fc.integer({ min: 1, max: 9 })).map(([start, length]): Span => ({ start, end: start + length })),
  { maxLength: 8 },
);
const members = (all: readonly Span[]) =>
  new Set(all.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, at) => start + at)));

test('what is lacking is in the one and not in the other', () => {
  fc.assert(
    fc.property(spans, spans, (all, there) => {
      const others = members(there);
      const wanted = new Set([...members(all)].filter(at => !others.has(at)));
      const found = lacking(all, there);
      assert.deepEqual(members(found), wanted);
      assert.equal(lengthOf(found), wanted.size);
    }),
  );
});

test('joined spans are in order, apart, and hold the same', () => {
  fc.assert(
    fc.property(spans, all => {
      const found = joined(all);
      assert.deepEqual(
        [...members(found)].sort((a, b) => a - b),
        [...members(all)].sort((a, b) => a - b),
      );
      for (const [index, { start }] of found.entries()) if (index > 0) assert.ok(start > found[index - 1]!.end);
    }),
  );
});

test('chunks hold all data, and none is larger than a request', () => {
  const large = fc.array(
    fc
      .tuple(fc.nat(64), fc.integer({ min: 1, max: 40 }))
      .map(([at, length]) => ({ start: at * 300_032, end: at * 300_032 + length * 250_368 })),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(large, all => {
      const chunks = chunksOf(all);
      assert.deepEqual(lacking(all, chunks), []);
      for (const { start, end } of chunks) assert.ok(end > start && end - start <= MOST_PAGES);
    }),
  );
});
