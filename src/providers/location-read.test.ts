import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { locationType, matchPath } from './location-read.ts';

const PATTERN = 'publishers/{publisher}/artifacttypes/vmimage/offers';

test('a path gives its names as they were written, its words in any case', () => {
  assert.deepEqual(matchPath(PATTERN, ['Publishers', 'Canonical', 'artifactTypes', 'VMIMAGE', 'offers']), {
    publisher: 'Canonical',
  });
  assert.equal(matchPath(PATTERN, ['publishers', 'Canonical']), undefined);
  assert.equal(matchPath(PATTERN, ['publishers', 'Canonical', 'artifacttypes', 'vmextension', 'offers']), undefined);
  assert.equal(locationType({ path: PATTERN } as never), 'locations/publishers/artifacttypes/vmimage/offers');
});

test('whatever stands in the place of a name is that name', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), name => {
      const names = matchPath('a/{x}', ['A', name]);
      assert.deepEqual(Object.entries(names ?? {}), [['x', name]]);
    }),
  );
});
