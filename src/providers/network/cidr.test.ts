import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contains, formatCidr, overlap, parseAddress, parseCidr, type Range } from './cidr.ts';

const BITS = { 4: 32, 6: 128 } as const;

/** A range, and an address in it that need not be its first. */
const ranges = fc.constantFrom(4 as const, 6 as const).chain(family =>
  fc
    .record({
      length: fc.integer({ min: 0, max: BITS[family] }),
      address: fc.bigInt({ min: 0n, max: (1n << BigInt(BITS[family])) - 1n }),
    })
    .map(({ length, address }) => {
      const host = (1n << BigInt(BITS[family] - length)) - 1n;
      const range: Range = { family, length, first: address & ~host, last: address | host };
      return { range, address };
    }),
);

test('a range that is written is read as it was', () => {
  fc.assert(
    fc.property(ranges, ({ range }) => {
      assert.deepEqual(parseCidr(formatCidr(range)), { range, exact: true });
    }),
  );
});

test('bits behind the prefix are seen, and left out', () => {
  fc.assert(
    fc.property(ranges, ({ range, address }) => {
      const whole = { ...range, first: address };
      assert.deepEqual(parseCidr(formatCidr(whole)), { range, exact: address === range.first });
    }),
  );
});

test('two ranges are apart, or one holds the other', () => {
  fc.assert(
    fc.property(ranges, ranges, ({ range: a }, { range: b }) => {
      assert.equal(overlap(a, b), contains(a, b) || contains(b, a));
      assert.equal(overlap(a, b), overlap(b, a));
      if (contains(a, b) && contains(b, a)) assert.deepEqual(a, b);
      if (contains(a, b)) assert.ok(a.length <= b.length);
    }),
  );
});

test('every address of a range is in it, and no other', () => {
  fc.assert(
    fc.property(ranges, ({ range, address }) => {
      const { family } = range;
      const one = (value: bigint): Range => ({ family, length: BITS[family], first: value, last: value });
      for (const inside of [range.first, range.last, address]) assert.ok(contains(range, one(inside)));
      if (range.first > 0n) assert.ok(!contains(range, one(range.first - 1n)));
      assert.ok(!overlap(range, one(range.last + 1n)));
    }),
  );
});

test('what is written in different ways is the same', () => {
  const same = ['fd00::/48', 'FD00:0:0::/48', 'fd00:0000:0000:0:0:0:0:0/48'];
  for (const text of same) assert.deepEqual(parseCidr(text), parseCidr(same[0]!));
  assert.deepEqual(parseCidr('::ffff:10.0.0.1/128')?.range.first, (0xffffn << 32n) | 0x0a000001n);
  assert.equal(formatCidr(parseAddress('10.1.2.3')!), '10.1.2.3/32');
});

test('what is no range is none, whatever it is', () => {
  const wrong = [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0/8',
    '10.0.0.0/',
    '10.0.0.0/08',
    '010.0.0.0/8',
    '256.0.0.0/8',
    '::/129',
    'a::b::c/64',
  ];
  for (const text of [...wrong, '10.0.0.0/8 ', '/8', '10.0.0.0./16', '10.0.0.0/-1', '1:2:3:4:5:6:7:8:9/64'])
    assert.equal(parseCidr(text), undefined, text);
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), text => {
      const found = parseCidr(text);
      if (found) assert.ok(found.range.first <= found.range.last);
    }),
  );
});
