/** The generator of templates, judged by Microsoft's files where they are; its mutations really change something. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Contract, contractOf, readDocuments, specsDirectory } from './openapi.ts';
import { wrongTypes } from './template-types.ts';
import { API_VERSIONS, mutate, mutation, STRICT_SINCE, validTemplate } from './templates.ts';

const group = '/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g';
const places = {
  group,
  identityId: `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i`,
  definitionId: `${group}/providers/Microsoft.Compute/galleries/a/images/d`,
  files: 'http://127.0.0.1:1',
};
const specs = specsDirectory();
const contract: Contract | undefined = 'path' in specs ? contractOf(readDocuments(specs.path)) : undefined;

const check = (apiVersion: string, body: unknown) =>
  contract?.checkRequest(
    {
      method: 'PUT',
      path: `${group}/providers/Microsoft.VirtualMachineImages/imageTemplates/t?api-version=${apiVersion}`,
      body,
    },
    { closed: apiVersion >= STRICT_SINCE },
  ) ?? [];

for (const apiVersion of API_VERSIONS)
  test(`generated templates of ${apiVersion} are valid`, () => {
    fc.assert(
      fc.property(validTemplate(apiVersion, places), body => {
        assert.deepEqual(wrongTypes(body), []);
        assert.deepEqual(check(apiVersion, body), []);
      }),
      { numRuns: 50 },
    );
  });

test('a mutation leaves the original alone, and what is sent says what was meant', () => {
  fc.assert(
    fc.property(validTemplate('2025-10-01', places), mutation, (body, change) => {
      const before = JSON.stringify(body);
      const changed = mutate(body, change);
      assert.equal(JSON.stringify(body), before);
      assert.ok(JSON.stringify(changed) !== undefined);
    }),
  );
  const add = { place: 0, kind: 'add', key: '__proto__', value: { a: 1 } } as const;
  assert.equal(JSON.stringify(mutate({ x: 1 }, add)), '{"x":1,"__proto__":{"a":1}}');
});

test('wrong types are found by hand-written rules alone', () => {
  const good = { location: 'westus', properties: { customize: [{ type: 'Shell', inline: ['x'], filters: 1 }] } };
  assert.deepEqual(wrongTypes(good), []);
  for (const [body, pattern] of [
    [{ location: 1 }, /location is no string/],
    [{ tags: { a: 1 } }, /tags\.a is no string/],
    [{ properties: [] }, /properties is no object/],
    [{ properties: { customize: {} } }, /customize is no list/],
    [{ properties: { customize: [{ type: 'Shell', inline: 'x' }] } }, /inline is no list/],
    [{ properties: { buildTimeoutInMinutes: '6' } }, /buildTimeoutInMinutes is no integer/],
    [[], /body is no object/],
  ] as const)
    assert.match(wrongTypes(body).join(), pattern);
});
