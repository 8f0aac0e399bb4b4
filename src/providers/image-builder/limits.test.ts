/** What a large wrong template may cost: an answer of a bounded size, whatever is wrong how often. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MOST_FINDINGS } from '../../arm/findings.ts';
import { violationError } from '../../arm/resource-type.ts';
import { readPatch } from './patch.ts';
import { validateTemplate } from './validate.ts';

const many = <Value>(count: number, make: (index: number) => Value): Value[] =>
  Array.from({ length: count }, (_, index) => make(index));
const keyed = (count: number, value: unknown) => Object.fromEntries(many(count, index => [`key${index}`, value]));
const GALLERY = {
  type: 'SharedImage',
  runOutputName: 'a',
  galleryImageId: 'x',
  replicationRegions: many(300, index => `r${index}`),
};
const WRONG: readonly (readonly [what: string, body: object])[] = [
  ['unknown properties', { properties: keyed(20_000, 1) }],
  ['a list of wrong regions', { properties: { distribute: [GALLERY] } }],
  [
    'many distributors of one name',
    { properties: { distribute: many(300, () => ({ type: 'VHD', runOutputName: 'a' })) } },
  ],
  ['malformed scripts', { properties: { customize: many(20_000, () => ({ type: 'Shell', scriptUri: 5 })) } }],
  ['wrong tags', { tags: keyed(300, 5) }],
  ['long tags', { tags: keyed(300, 'x'.repeat(300)) }],
  ['wrong identities', { identity: { type: 'UserAssigned', userAssignedIdentities: keyed(300, {}) } }],
];

for (const [what, body] of WRONG)
  test(`an error about ${what} is short, and says that there is more`, () => {
    const { violations } = validateTemplate({ location: 'eastus', ...body }, { apiVersion: '2024-02-01' });
    const error = violationError('ValidationFailed', violations);
    assert.equal(error.details.length, MOST_FINDINGS);
    assert.match(error.details.at(-1)!.message, /^\d+ more violations are left out\.$/);
    assert.ok(
      JSON.stringify(error.details.map(({ message, hint, target }) => [message, hint, target])).length < 500_000,
    );
  });

test('unknown properties that are ignored hide nothing that is wrong', () => {
  const { violations, warnings } = validateTemplate(
    { location: 'eastus', ...keyed(500, 1), properties: { ...keyed(500, 1), distribute: [] } },
    { apiVersion: '2020-02-14' },
  );
  assert.ok(violations.some(({ path }) => path === 'properties.source'));
  assert.ok(violations.some(({ path }) => path === 'properties.distribute'));
  assert.equal(warnings.length, MOST_FINDINGS + 1);
  assert.equal(warnings.at(-1), '900 more are not known and are ignored.');
});

test('a long key is cut in what is said of what it holds', () => {
  const identities = { ['k'.repeat(100_000)]: keyed(200, 1) };
  const { violations } = validateTemplate(
    { location: 'eastus', identity: { type: 'UserAssigned', userAssignedIdentities: identities }, properties: {} },
    { apiVersion: '2024-02-01' },
  );
  assert.ok(JSON.stringify(violations).length < 1_000_000);
});

test('a PATCH of many wrong parts is refused as shortly', () => {
  const stored = {
    id: '/x',
    name: 't',
    type: 't',
    location: 'eastus',
    properties: { distribute: [{ type: 'VHD', runOutputName: 'a' }] },
  };
  for (const body of [
    keyed(500, 1),
    { properties: { distribute: many(500, () => ({ type: 'VHD', runOutputName: 'a' })) } },
  ])
    assert.equal(readPatch(body, stored, '2024-02-01').violations.length, MOST_FINDINGS);
});
