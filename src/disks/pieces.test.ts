import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodePieces, encodePieces, extentsOfPieces, isKept, noPieces, PIECE } from './pieces.ts';

/** Memories of the same few pieces, one after the other; each number is a content, 0 is zeros. */
const moments = fc
  .integer({ min: 1, max: 12 })
  .chain(count => fc.array(fc.array(fc.nat({ max: 3 }), { minLength: count, maxLength: count }), { minLength: 1 }));

/** What a memory is noted as when it is kept after `before`. */
function keep(memory: readonly number[], before: ReturnType<typeof noPieces>, origin: number) {
  const pieces = { before, after: noPieces(memory.length * PIECE), origin };
  const written = memory.map((content, number) => content !== 0 && !isKept(pieces, number, Buffer.alloc(8, content)));
  return { table: pieces.after, written };
}

test('what is put together from the files is the memory at that moment, and only what changed was written', () => {
  fc.assert(
    fc.property(moments, memories => {
      const files: number[][] = [];
      let before = noPieces(memories[0]!.length * PIECE);
      for (const [index, memory] of memories.entries()) {
        const { table, written } = keep(memory, before, index + 1);
        files.push(memory.map((content, number) => (written[number] ? content : 0)));
        const last = memories[index - 1];
        for (const [number, content] of memory.entries())
          assert.equal(written[number], content !== 0 && content !== last?.[number]);
        const read = extentsOfPieces(table).flatMap(({ start, length, at }) =>
          Array.from({ length: length / PIECE }, (_, n) => (at ? files[at.file]![start / PIECE + n]! : 0)),
        );
        assert.deepEqual(read, memory);
        before = table;
      }
    }),
  );
});

test('a table is read as it was written; for another memory, or of other files, it is refused', () => {
  fc.assert(
    fc.property(moments, memories => {
      const size = memories[0]!.length * PIECE;
      let table = noPieces(size);
      for (const [index, memory] of memories.entries()) table = keep(memory, table, index + 1).table;
      const bytes = encodePieces(table, '0123abcd');
      assert.deepEqual(decodePieces(bytes, size, memories.length), { table, checksum: '0123abcd' });
      const most = Math.max(...table.origins);
      const last = table.origins.findLastIndex(origin => origin !== 0);
      if (most === 0) return;
      assert.throws(() => decodePieces(bytes, size, most - 1), /is damaged: file/);
      assert.throws(() => decodePieces(bytes, last * PIECE, most), /is damaged: piece/);
      assert.throws(() => decodePieces(bytes.subarray(0, -1), size, most), /is damaged: its form/);
    }),
  );
});
