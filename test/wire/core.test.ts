/** Resource Manager's own paths over HTTPS, each answer judged by Microsoft's OpenAPI files of its api-version. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { READER } from '../../src/arm/role-ids.ts';
import { SUBSCRIPTION as S, startTestServer, type TestServer } from '../server.ts';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server?.close());

async function answers(status: number, method: string, path: string, apiVersion: string, body?: unknown) {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.equal(answer.status, status, `${method} ${path} ${apiVersion}: ${answer.text}`);
  return answer;
}

test('tenants, subscriptions, locations', async () => {
  for (const version of ['2022-12-01', '2020-01-01', '2019-11-01', '2016-06-01'])
    for (const path of ['/tenants', '/subscriptions', `/subscriptions/${S}`, `/subscriptions/${S}/locations`])
      await answers(200, 'GET', path, version);
});

test('groups, providers, lists of resources', async () => {
  for (const version of ['2024-03-01', '2022-09-01', '2021-04-01']) {
    const group = `/subscriptions/${S}/resourcegroups/g-${version}`;
    await answers(201, 'PUT', group, version, { location: 'westus', tags: { a: 'b' } });
    await answers(200, 'PATCH', group, version, { tags: {} });
    await answers(200, 'GET', group, version);
    await answers(204, 'HEAD', group, version);
    const identity = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ide1`;
    await answers(201, 'PUT', identity, '2023-01-31', { location: 'westus' });
    await answers(200, 'GET', `/subscriptions/${S}/resourcegroups`, version);
    await answers(200, 'GET', `${group}/resources`, version);
    await answers(200, 'GET', `/subscriptions/${S}/resources?$expand=createdTime,provisioningState`, version);
    for (const prefix of ['', `/subscriptions/${S}`]) {
      await answers(200, 'GET', `${prefix}/providers`, version);
      await answers(200, 'GET', `${prefix}/providers/Microsoft.Compute`, version);
    }
    for (const verb of ['unregister', 'register'])
      await answers(200, 'POST', `/subscriptions/${S}/providers/Microsoft.KeyVault/${verb}`, version);
    const deletion = await answers(202, 'DELETE', group, version);
    for (const deadline = Date.now() + 30_000; ; await sleep(20)) {
      const polled = await server.request('GET', deletion.headers.location!);
      if (polled.status === 200) break;
      assert.equal(polled.status, 202);
      assert.ok(Date.now() < deadline, 'The group is still being deleted.');
    }
    await answers(404, 'HEAD', group, version);
  }
});

test('operations and features', async () => {
  const builder = 'Microsoft.VirtualMachineImages';
  for (const version of ['2025-10-01', '2024-02-01', '2022-02-14', '2020-02-14'])
    await answers(200, 'GET', `/providers/${builder}/operations`, version);
  for (const version of ['2021-07-01', '2015-12-01']) {
    const features = `/subscriptions/${S}/providers/Microsoft.Features`;
    await answers(200, 'GET', `${features}/features`, version);
    await answers(200, 'GET', `${features}/providers/${builder}/features`, version);
    for (const verb of ['register', 'unregister'])
      await answers(200, 'POST', `${features}/providers/${builder}/features/Triggers/${verb}`, version);
    await answers(200, 'GET', `${features}/providers/${builder}/features/Triggers`, version);
  }
});

test('roles', async () => {
  const version = '2022-04-01';
  await answers(201, 'PUT', `/subscriptions/${S}/resourcegroups/roles`, '2021-04-01', { location: 'westus' });
  const scope = `/subscriptions/${S}/resourceGroups/roles`;
  const authorization = `${scope}/providers/Microsoft.Authorization`;
  const role = `${authorization}/roleDefinitions/${randomUUID()}`;
  const properties = { roleName: 'Looker', permissions: [{ actions: ['*/read'] }], assignableScopes: [scope] };
  await answers(201, 'PUT', role, version, { properties });
  await answers(200, 'GET', role, version);
  await answers(200, 'GET', `${authorization}/roleDefinitions?$filter=roleName%20eq%20'Looker'`, version);
  const assignment = `${authorization}/roleAssignments/${randomUUID()}`;
  const principal = await server.principal('looker');
  const body = { properties: { roleDefinitionId: role, principalId: principal.objectId } };
  await answers(201, 'PUT', assignment, version, body);
  const asked = { token: principal.token, apiVersion: '2021-04-01' };
  assert.equal((await server.request('GET', scope, asked)).status, 200, 'the role works at once');
  await answers(200, 'GET', assignment, version);
  for (const from of [scope, `/subscriptions/${S}`, ''])
    await answers(200, 'GET', `${from}/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()`, version);
  await answers(200, 'DELETE', assignment, version);
  await answers(200, 'DELETE', role, version);
  const reader = await server.principal('reader', { id: READER, scope });
  const refused = await server.request('PUT', assignment, { token: reader.token, apiVersion: version, body });
  assert.equal(refused.status, 403);
});

/** The files demand one of these two lists; the real service ends them without, and clients would follow an empty one. */
const NO_NEXT_LINK = /GET \/(subscriptions|tenants): 200 the body must have required property 'nextLink'/;

test("every answer was of Microsoft's OpenAPI files, and nothing failed inside", t => {
  assert.deepEqual(server.errors, []);
  assert.deepEqual(
    server.violations.filter(one => !NO_NEXT_LINK.test(one)),
    [],
  );
  if (server.covered.size === 0) t.skip("Microsoft's OpenAPI files are not here.");
});
