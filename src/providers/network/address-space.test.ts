import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { oneSubnetViolations, subnetViolations } from './address-space.ts';
import { contains, overlap, parseCidr, type Range } from './cidr.ts';

const SPACE = [parseCidr('10.0.0.0/20')!.range];

/** In the space, around it, and far away; of all sizes. */
const subnets = fc
  .record({ length: fc.integer({ min: 18, max: 32 }), offset: fc.integer({ min: 0, max: 2 ** 13 - 1 }) })
  .map(({ length, offset }): Range => parseCidr(`10.0.${offset >> 8}.${offset & 255}/${length}`)!.range);

test('subnets that are let in lie in the network, have room, and keep apart', () => {
  fc.assert(
    fc.property(fc.array(subnets, { maxLength: 12 }), wanted => {
      const taken: { name: string; ranges: Range[]; path: string }[] = [];
      for (const [index, range] of wanted.entries()) {
        const one = { name: `s${index}`, ranges: [range], path: '' };
        const [violation] = oneSubnetViolations('v', SPACE, one, taken);
        const outside = !SPACE.some(space => contains(space, range));
        const meets = taken.some(({ ranges }) => overlap(ranges[0]!, range));
        const expected = outside
          ? 'NetcfgSubnetRangeOutsideVnet'
          : range.length > 29
            ? 'NetcfgInvalidSubnet'
            : meets
              ? 'NetcfgSubnetRangesOverlap'
              : undefined;
        assert.equal(violation?.code, expected);
        if (!violation) taken.push(one);
      }
    }),
  );
});

test('a list of subnets is let in when each one, after those before it, is', () => {
  fc.assert(
    fc.property(fc.array(fc.array(subnets, { minLength: 1, maxLength: 2 }), { maxLength: 10 }), wanted => {
      const all = wanted.map((ranges, index) => ({ name: `s${index}`, ranges, path: String(index) }));
      const together = subnetViolations('v', SPACE, all);
      const single = all.flatMap((one, index) => oneSubnetViolations('v', SPACE, one, all.slice(0, index)));
      assert.equal(together.length > 0, single.length > 0);
      // Whoever is complained of in the list has something to be complained of.
      for (const { path, code } of together) assert.ok(single.some(one => one.path === path && one.code === code));
    }),
  );
});
