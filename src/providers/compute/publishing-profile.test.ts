import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REGIONS } from '../../arm/locations.ts';
import { hasZones } from './availability-zones.ts';
import { completedProfile, regionViolations } from './publishing-profile.ts';

const names = (profile: object) =>
  (profile as { targetRegions: { name: string }[] }).targetRegions.map(one => one.name);

test('counts and storage types are filled in, from the profile where a region has none', () => {
  assert.deepEqual(completedProfile(undefined, 'eastus2'), {
    targetRegions: [{ name: 'East US 2', regionalReplicaCount: 1, storageAccountType: 'Standard_LRS' }],
    ...{ replicaCount: 1, excludeFromLatest: false, storageAccountType: 'Standard_LRS' },
  });
  const given = {
    targetRegions: [{ name: 'westus2', regionalReplicaCount: 1 }, { name: 'eastus2' }],
    ...{ replicaCount: 2, storageAccountType: 'Premium_LRS' },
  };
  assert.deepEqual(completedProfile(given, 'eastus2').targetRegions, [
    { name: 'West US 2', regionalReplicaCount: 1, storageAccountType: 'Premium_LRS' },
    { name: 'East US 2', regionalReplicaCount: 2, storageAccountType: 'Premium_LRS' },
  ]);
});

test('a PUT without a profile, or without regions, keeps those that there are', () => {
  const before = completedProfile({ targetRegions: [{ name: 'uksouth' }], replicationMode: 'Full' }, 'uksouth');
  const dated = { ...before, publishedDate: 'then', endOfLifeDate: '2999-01-01', excludeFromLatest: true };
  assert.deepEqual(completedProfile(undefined, 'uksouth', dated), {
    ...before,
    ...{ endOfLifeDate: '2999-01-01', excludeFromLatest: true },
  });
  const changed = completedProfile({ replicaCount: 3 }, 'uksouth', dated);
  assert.deepEqual(names(changed), ['UK South']);
  assert.deepEqual(
    [changed.endOfLifeDate, changed.excludeFromLatest, changed.replicationMode],
    [undefined, false, 'Full'],
  );
});

const region = fc.constantFrom(...REGIONS);
const scrambled = fc
  .tuple(region, fc.boolean(), fc.infiniteStream(fc.boolean()))
  .map(([{ name, displayName }, display, upper]) => ({
    displayName,
    name,
    text: [...(display ? displayName : name)]
      .map(letter => (upper.next().value ? letter.toUpperCase() : letter.toLowerCase()))
      .join(''),
  }));

test('every region in every casing is shown by its display name, and what is two spellings of one is a duplicate', () => {
  fc.assert(
    fc.property(fc.array(scrambled, { minLength: 1, maxLength: 6 }), list => {
      const profile = completedProfile({ targetRegions: list.map(({ text }) => ({ name: text })) }, list[0]!.name);
      assert.deepEqual(
        names(profile),
        list.map(({ displayName }) => displayName),
      );
      const twice = new Set(list.map(({ name }) => name)).size < list.length;
      const messages = regionViolations(profile, list[0]!.name).map(({ message }) => message);
      assert.deepEqual(messages, twice ? ['Duplicate regions are not allowed in target publishing regions.'] : []);
    }),
  );
});

test('the own location must be among the regions', () => {
  fc.assert(
    fc.property(region, region, (there, own) => {
      const profile = completedProfile({ targetRegions: [{ name: there.name }] }, own.name);
      const [violation, ...more] = regionViolations(profile, own.name);
      assert.equal(more.length, 0);
      if (there === own) assert.equal(violation, undefined);
      else
        assert.equal(
          violation!.message,
          `Gallery image version publishing profile regions ${there.displayName} must contain the location of image version ${own.displayName}`,
        );
    }),
  );
});

test('zone-redundant storage is where there are zones', () => {
  fc.assert(
    fc.property(region, ({ name }) => {
      const profile = completedProfile({ storageAccountType: 'Standard_ZRS' }, name);
      const expected = hasZones(name) ? [] : ['ZRS storage account type is not supported in this region.'];
      assert.deepEqual(
        regionViolations(profile, name).map(({ message }) => message),
        expected,
      );
    }),
  );
  assert.ok(hasZones('eastus') && !hasZones('westus'));
});

test('a region that does not exist is named', () => {
  const profile = completedProfile({ targetRegions: [{ name: 'eastus' }, { name: 'atlantis' }] }, 'eastus');
  const [violation] = regionViolations(profile, 'eastus');
  assert.equal(violation!.hint, "No region has the name 'atlantis'.");
});
