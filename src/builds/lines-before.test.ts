import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { linesBefore } from './lines-before.ts';

/** Cuts a text at these places. */
const pieces = (text: string, cuts: readonly number[]) => {
  const at = [0, ...[...new Set(cuts.map(cut => cut % (text.length + 1)))].sort((a, b) => a - b), text.length];
  return at.slice(1).map((end, index) => Buffer.from(text.slice(at[index], end)));
};

test('lines before the mark are taken, all that follows is left, however it comes', () => {
  const line = fc.stringMatching(/^[a-z0-9 -]{0,9}$/).filter(text => text !== '--');
  fc.assert(
    fc.property(fc.array(line), fc.array(line), fc.array(fc.nat()), (before, after, cuts) => {
      const head = linesBefore('--');
      const text = [...before, '--', ...after].map(each => `${each}\n`).join('');
      const rest = pieces(text, cuts).map(piece => head.take(piece));
      assert.equal(Buffer.concat(rest).toString(), after.map(each => `${each}\n`).join(''));
      assert.deepEqual(
        head.lines(),
        before
          .map(each => `${each}\n`)
          .join('')
          .trim()
          .split('\n'),
      );
    }),
  );
});

test('without the mark nothing is taken; a flood is let through', () => {
  const silent = linesBefore('--');
  assert.equal(silent.take(Buffer.from('id\n')).length, 0);
  assert.deepEqual(silent.lines(), []);
  const flood = linesBefore('--', 10);
  assert.equal(flood.take(Buffer.from('x'.repeat(20))).length, 20);
});
