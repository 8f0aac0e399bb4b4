import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REGIONS } from '../../arm/locations.ts';
import { isReadyIn, latestVersion, targetRegions } from './latest-version.ts';
import { compareVersions } from './version-numbers.ts';

interface Sketch {
  readonly name: string;
  readonly regions?: readonly (string | object)[];
  readonly state?: string;
  readonly adding?: readonly string[];
  readonly profile?: object;
}

const version = ({ name, regions = ['East US'], state = 'Succeeded', adding = [], profile = {} }: Sketch) => ({
  name,
  properties: {
    provisioningState: state,
    adding,
    publishingProfile: {
      targetRegions: regions.map(one => (typeof one === 'string' ? { name: one } : one)),
      excludeFromLatest: false,
      ...profile,
    },
  },
});

const latest = (location: string, ...sketches: Sketch[]) => latestVersion(sketches.map(version), location)?.name;

test('latest is the highest number, not the youngest or the highest text', () => {
  assert.equal(latest('eastus', { name: '1.9.0' }, { name: '1.10.0' }, { name: '1.2.99' }), '1.10.0');
  assert.equal(latest('eastus'), undefined);
});

test('what is excluded, in general or in the region, is not latest; its end of life does not matter', () => {
  assert.equal(latest('eastus', { name: '1.0.0' }, { name: '2.0.0', profile: { excludeFromLatest: true } }), '1.0.0');
  const excludedThere = { name: '2.0.0', regions: [{ name: 'East US', excludeFromLatest: true }, 'West US 2'] };
  const everywhere = { name: '1.0.0', regions: ['East US', 'West US 2'] };
  assert.equal(latest('eastus', everywhere, excludedThere), '1.0.0');
  assert.equal(latest('westus2', everywhere, excludedThere), '2.0.0');
  const old = { name: '2.0.0', profile: { endOfLifeDate: '2001-01-01T00:00:00Z' } };
  assert.equal(latest('eastus', { name: '1.0.0' }, old), '2.0.0');
});

test('only what is made counts, and only where its replica is complete', () => {
  for (const state of ['Creating', 'Failed', 'Deleting', 'Migrating'])
    assert.equal(latest('eastus', { name: '1.0.0' }, { name: '2.0.0', state }), '1.0.0', state);
  const growing = { name: '2.0.0', state: 'Updating', regions: ['East US', 'UK South'], adding: ['uksouth'] };
  assert.equal(latest('eastus', { name: '1.0.0' }, growing), '2.0.0');
  assert.equal(latest('uksouth', { name: '1.0.0', regions: ['UK South'] }, growing), '1.0.0');
  assert.equal(latest('japaneast', { name: '1.0.0' }), undefined);
  assert.equal(latestVersion([{ name: '1.0.0', properties: {} }], 'eastus'), undefined);
});

/** A region's name as people write it: display name or not, any case, with spaces. */
const spelling = (name: string, display: string) =>
  fc
    .tuple(fc.constantFrom(name, display), fc.infiniteStream(fc.boolean()))
    .map(([text, upper]) =>
      [...text].map(letter => (upper.next().value ? letter.toUpperCase() : letter.toLowerCase())).join(''),
    );

const anyRegion = fc
  .constantFrom(...REGIONS)
  .chain(({ name, displayName }) =>
    fc.tuple(fc.constant(name), spelling(name, displayName), spelling(name, displayName)),
  );

test('regions are the same in every spelling', () => {
  fc.assert(
    fc.property(anyRegion, ([name, written, asked]) => {
      const one = version({ name: '1.0.0', regions: [written] });
      assert.deepEqual(targetRegions(one), [{ region: name, excludeFromLatest: false }]);
      assert.ok(isReadyIn(one, asked));
      assert.equal(latestVersion([one], asked), one);
    }),
  );
});

test('of any versions none that counts is newer than the latest', () => {
  const part = fc.integer({ min: 0, max: 30 });
  const sketch = fc.record({
    name: fc.tuple(part, part, part).map(parts => parts.join('.')),
    regions: fc.subarray(['East US', 'UK South', 'Japan East']),
    state: fc.constantFrom('Succeeded', 'Updating', 'Creating', 'Failed'),
    adding: fc.subarray(['eastus', 'uksouth']),
    profile: fc.record({ excludeFromLatest: fc.boolean() }),
  });
  fc.assert(
    fc.property(fc.array(sketch), fc.constantFrom('eastus', 'uksouth', 'japaneast'), (sketches, location) => {
      const all = sketches.map(version);
      const found = latestVersion(all, location);
      const counts = all.filter(
        one =>
          isReadyIn(one, location) &&
          !(one.properties.publishingProfile as { excludeFromLatest: boolean }).excludeFromLatest,
      );
      assert.equal(found === undefined, counts.length === 0);
      if (found) assert.ok(counts.includes(found) && counts.every(one => compareVersions(one.name, found.name) <= 0));
    }),
  );
});
