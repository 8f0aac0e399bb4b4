import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkApiVersion, isSince } from './api-versions.ts';
import { KilnError } from './errors.ts';
import { formatId, idKey, isIdOf, parentId, parseId, resourceId, sameId, tryParseId } from './ids.ts';
import { formatPath, parsePath } from './json-path.ts';
import { findRegion, REGIONS, requireRegion } from './locations.ts';

const SUBSCRIPTION = '11111111-2222-3333-4444-555555555555';

test('a nested id is read and keeps its case', () => {
  const id = parseId(
    `/subscriptions/${SUBSCRIPTION}/resourcegroups/MyGroup/providers/Microsoft.Compute/galleries/G/images/D`,
  );
  assert.equal(id.type, 'Microsoft.Compute/galleries/images');
  assert.deepEqual(id.names, ['G', 'D']);
  assert.equal(id.resourceGroup, 'MyGroup');
  assert.equal(formatId(id), resourceId(SUBSCRIPTION, 'MyGroup', 'Microsoft.Compute/galleries/images', 'G', 'D'));
  assert.equal(formatId(parentId(id)!), resourceId(SUBSCRIPTION, 'MyGroup', 'Microsoft.Compute/galleries', 'G'));
  assert.equal(parentId(parentId(id)!), undefined);
});

test('groups and subscriptions have ids, too', () => {
  assert.equal(parseId(`/subscriptions/${SUBSCRIPTION}/resourceGroups/g`).type, 'Microsoft.Resources/resourceGroups');
  assert.equal(
    formatId(parseId(`/subscriptions/${SUBSCRIPTION}/RESOURCEGROUPS/g/`)),
    `/subscriptions/${SUBSCRIPTION}/resourceGroups/g`,
  );
  assert.equal(parseId(`/subscriptions/${SUBSCRIPTION}`).name, SUBSCRIPTION);
});

test('ids are equal without regard to case', () => {
  const id = resourceId(SUBSCRIPTION, 'Group', 'Microsoft.Compute/images', 'Name');
  assert.ok(sameId(id, id.toUpperCase()));
  assert.ok(isIdOf(id.toUpperCase(), 'microsoft.compute/IMAGES'));
  assert.equal(idKey(id), id.toLowerCase());
});

test('a malformed id is refused in the words of Azure, with its path', () => {
  for (const text of [
    '',
    'x',
    '/',
    '/subscriptions',
    `/subscriptions/${SUBSCRIPTION}/resourceGroups`,
    '/subscriptions/<sub>/resourceGroups/g',
    `/subscriptions/${SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/galleries`,
    `/subscriptions/${SUBSCRIPTION}/resourceGroups//providers/A/b/c`,
  ])
    assert.throws(
      () => parseId(text, 'properties.source.imageId'),
      (error: unknown) =>
        error instanceof KilnError &&
        error.code === 'LinkedInvalidPropertyId' &&
        error.target === 'properties.source.imageId' &&
        error.message.startsWith(
          `Property id '${text}' at path 'properties.source.imageId' is invalid. Expect fully qualified resource Id`,
        ),
    );
});

test('any text is read as an id or not, never with another error; what is read round-trips', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9][\w.()-]{0,20}$/);
  fc.assert(fc.property(fc.string(), text => void tryParseId(text)));
  fc.assert(
    fc.property(
      name,
      name,
      fc.array(fc.tuple(name, name), { minLength: 1, maxLength: 4 }),
      (subscription, group, pairs) => {
        const text = resourceId(
          subscription,
          group,
          ['Microsoft.X', ...pairs.map(pair => pair[0])].join('/'),
          ...pairs.map(pair => pair[1]),
        );
        assert.equal(formatId(parseId(text)), text);
      },
    ),
  );
});

test('paths of JSON documents round-trip', () => {
  assert.equal(formatPath(['properties', 'distribute', 0, 'runOutputName']), 'properties.distribute[0].runOutputName');
  assert.deepEqual(parsePath("tags['a b'][3].c"), ['tags', 'a b', 3, 'c']);
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.nat())), path => {
      assert.deepEqual(parsePath(formatPath(path)), path);
    }),
  );
});

test('locations are found by either name; others are refused with the list', () => {
  assert.equal(findRegion('East US 2')?.name, 'eastus2');
  assert.equal(findRegion('WESTEUROPE')?.displayName, 'West Europe');
  assert.equal(new Set(REGIONS.map(region => region.name)).size, REGIONS.length);
  assert.throws(() => requireRegion('atlantis', 'Microsoft.Compute/images'), /'atlantis'.*eastus,.*westeurope/);
  assert.throws(() => requireRegion(undefined, 'Microsoft.Compute/images'), { code: 'LocationRequired' });
});

test('api-versions: order, spelling, the two errors', () => {
  assert.ok(isSince('2020-02-14', '2019-05-01-preview'));
  assert.ok(isSince('2020-02-14', '2020-02-14'));
  assert.ok(!isSince('2019-05-01-preview', '2020-02-14'));
  assert.ok(!isSince('2020-02-14-preview', '2020-02-14'));
  const known = ['2020-02-14', '2019-05-01-preview'];
  assert.equal(checkApiVersion('2019-05-01-PREVIEW', known, 'N/t'), '2019-05-01-preview');
  assert.throws(() => checkApiVersion('2020', known, 'N/t'), { code: 'InvalidApiVersionParameter' });
  assert.throws(() => checkApiVersion('2021-01-01', known, 'N/t', 'eastus'), {
    code: 'NoRegisteredProviderFound',
    message:
      "No registered resource provider found for location 'eastus' and API version '2021-01-01' for type 't'. The supported api-versions are '2020-02-14, 2019-05-01-preview'.",
  });
  assert.throws(() => checkApiVersion('2021-01-01', known, 'N/t'), {
    message: /^No registered resource provider found for API version '2021-01-01' for type 't'\./,
  });
});
