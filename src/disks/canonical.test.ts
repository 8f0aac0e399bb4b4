import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Canonical, canonicalJson, hashCanonical } from './canonical.ts';

const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Canonical>;

/** The same value with the fields of every object in another order. */
function reversed(value: Canonical): Canonical {
  if (Array.isArray(value)) return value.map(reversed);
  if (value === null || typeof value !== 'object') return value;
  const fields = Object.entries(value as Record<string, Canonical>);
  return Object.fromEntries(fields.reverse().map(([key, field]) => [key, reversed(field)]));
}

test('the order of fields does not matter', () => {
  fc.assert(fc.property(json, value => assert.equal(hashCanonical(reversed(value)), hashCanonical(value))));
});

test('the text is JSON for the same value', () => {
  fc.assert(
    fc.property(json, value => assert.deepEqual(JSON.parse(canonicalJson(value)), JSON.parse(JSON.stringify(value)))),
  );
});

test('different values have different hashes', () => {
  fc.assert(
    fc.property(json, json, (a, b) => {
      // JSON.stringify after parsing both back in one order is an independent measure of equality.
      const same = JSON.stringify(JSON.parse(canonicalJson(a))) === JSON.stringify(JSON.parse(canonicalJson(b)));
      assert.equal(hashCanonical(a) === hashCanonical(b), same);
    }),
  );
});

test('any changed field changes the hash', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.string(), { minKeys: 1 }), fc.nat(), fc.string(), (fields, n, text) => {
      const key = Object.keys(fields)[n % Object.keys(fields).length]!;
      fc.pre(fields[key] !== text && key !== '__proto__');
      assert.notEqual(hashCanonical({ ...fields, [key]: text }), hashCanonical(fields));
    }),
  );
});

test('joining does not confuse', () => {
  assert.notEqual(hashCanonical(['a;b', 'c']), hashCanonical(['a', 'b;c']));
  assert.notEqual(hashCanonical(['a,b']), hashCanonical(['a', 'b']));
  assert.notEqual(hashCanonical(['1']), hashCanonical([1]));
  assert.notEqual(hashCanonical({ a: null }), hashCanonical({}));
  assert.equal(hashCanonical({ a: undefined, b: 1 }), hashCanonical({ b: 1 }));
});

test('what JSON cannot say is refused', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, [undefined], new Date(), () => 1, 1n, new Map()])
    assert.throws(() => canonicalJson(value as unknown as Canonical), TypeError);
});
