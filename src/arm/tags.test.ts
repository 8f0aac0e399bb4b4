import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from './errors.ts';
import { brokenTags, requireTags } from './tags.ts';

const codes = (tags: Record<string, string>) => brokenTags(tags).map(({ code }) => code);

test('tags within the limits are whole, those beyond are named', () => {
  const name = fc.stringMatching(/^[\w .:@=+-]{1,512}$/);
  const value = fc.string({ maxLength: 256 });
  fc.assert(
    fc.property(fc.dictionary(name, value, { maxKeys: 50, noNullPrototype: true }), tags => {
      assert.deepEqual(brokenTags(tags), []);
      assert.deepEqual(requireTags(tags), tags);
    }),
  );
  fc.assert(
    fc.property(name, fc.constantFrom(...'<>%&\\?/\u0007'), value, (word, sign, text) => {
      if (/^(hidden|link):|^hidden-/i.test(word)) return;
      assert.ok(codes({ [`${word}${sign}`]: text }).includes('InvalidTagNameCharacters'));
    }),
  );
});

test('each limit has its code', () => {
  assert.deepEqual(codes({ ['n'.repeat(513)]: 'v'.repeat(257) }), ['InvalidTagName', 'InvalidTagValueLength']);
  const many = Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`t${index}`, '']));
  assert.deepEqual(codes(many), ['InvalidTagCount']);
  assert.deepEqual(codes({ 'hidden-link:/subscriptions/S': '' }), []);
});

test('what is no map of texts is refused; null is no tag', () => {
  assert.deepEqual(requireTags({ a: 'b', c: null }), { a: 'b' });
  assert.deepEqual(requireTags(null), {});
  for (const value of ['a', 1, ['a'], { a: 1 }, { a: {} }])
    assert.throws(
      () => requireTags(value),
      error => error instanceof KilnError && error.code === 'InvalidParameter',
    );
});
