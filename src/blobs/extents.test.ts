import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Extent, merged, pieces, within, without } from './extents.ts';

const SIZE = 200;
const span = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }));

/** A blob as extents, and which byte of which file each of its bytes is. */
interface Model {
  readonly extents: readonly Extent[];
  readonly bytes: readonly (string | undefined)[];
}

const written = fc.array(fc.tuple(span, fc.boolean()), { maxLength: 20 }).map(writes => {
  let extents: Extent[] = [];
  const bytes: (string | undefined)[] = Array.from({ length: SIZE }, () => undefined);
  for (const [index, [{ start, end }, isClear]] of writes.entries()) {
    extents = without(extents, { start, end });
    if (!isClear && end > start) extents.push({ start, length: end - start, file: `f${index}`, offset: 0 });
    extents.sort((a, b) => a.start - b.start);
    for (let at = start; at < end; at++) bytes[at] = isClear ? undefined : `f${index} ${at - start}`;
  }
  return { extents, bytes } satisfies Model;
});

const bytesOf = (extents: readonly Extent[], from: number, to: number) =>
  pieces(extents, { start: from, end: to }).flatMap(({ file, offset, length }) =>
    Array.from({ length }, (_, index) => (file === undefined ? undefined : `${file} ${offset + index}`)),
  );

test('what is read is what was written last, wherever one reads', () => {
  fc.assert(
    fc.property(written, span, ({ extents, bytes }, { start, end }) => {
      assert.deepEqual(bytesOf(extents, start, end), bytes.slice(start, end));
    }),
  );
});

test('no extent lies over another, and ranges tell the written bytes', () => {
  fc.assert(
    fc.property(written, ({ extents, bytes }) => {
      for (const [index, extent] of extents.entries()) {
        const next = extents[index + 1];
        assert.ok(extent.length > 0 && (!next || extent.start + extent.length <= next.start));
      }
      const ranges = merged(extents.map(({ start, length }) => ({ start, end: start + length })));
      const told = Array.from({ length: SIZE }, (_, at) => ranges.some(({ start, end }) => at >= start && at < end));
      assert.deepEqual(
        told,
        bytes.map(byte => byte !== undefined),
      );
      for (const [index, { end }] of ranges.entries()) assert.ok(!ranges[index + 1] || end < ranges[index + 1]!.start);
    }),
  );
});

test('a part keeps the id of its block', () => {
  const extent = { start: 10, length: 10, file: 'f', offset: 5, blockId: 'YQ==' };
  assert.deepEqual(within([extent], { start: 12, end: 14 }), [{ ...extent, start: 12, length: 2, offset: 7 }]);
});
