import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { subnetViolations } from './address-space.ts';
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
        const [violation] = subnetViolations('v', SPACE, one, taken);
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
