/** What az 2.74 sends for `az role` and `az ad`, request by request (az-wire, sequences of 2.74): Graph to find out who is meant, then Resource Manager. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { CONTRIBUTOR } from '../../src/arm/role-ids.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround } from './ground.ts';

const DEFINITIONS = '2022-05-01-preview';
const ASSIGNMENTS = '2022-04-01';
const AUTHORIZATION = 'providers/Microsoft.Authorization';

let server: TestServer;
let ground: Ground;
let identity: { principalId: string; clientId: string };
before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Graph');
  const path = `${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/maker`;
  const made = await server.request('PUT', path, { apiVersion: '2023-01-31', body: { location: 'westus' } });
  identity = (made.body as { properties: typeof identity }).properties;
});
after(() => server?.close());

// biome-ignore lint/suspicious/noExplicitAny: what comes over the wire has no type; every field is asserted.
type Wire = any;

async function ask(status: number, method: string, path: string, body?: object): Promise<Wire> {
  const answer = await server.request(method, path, body && { body });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer.body;
}

const filtered = (path: string, filter: string, more = '') => `${path}?$filter=${encodeURIComponent(filter)}${more}`;
const servicePrincipals = (filter: string, status = 200) =>
  ask(status, 'GET', filtered('/v1.0/servicePrincipals', filter));

test('az role assignment create --assignee CLIENT --role NAME, list, delete', async () => {
  const found = await servicePrincipals(`servicePrincipalNames/any(c:c eq '${identity.clientId}')`);
  assert.deepEqual(
    found.value.map((one: Wire) => one.id),
    [identity.principalId],
  );
  const role = 'Azure Image Builder Service Image Creation Role';
  // The quickstart's JSON, filled in by sed, in the envelope that az makes of it.
  const name = randomUUID();
  const definition = await ask(
    201,
    'PUT',
    `${ground.group}/${AUTHORIZATION}/roleDefinitions/${name}?api-version=${DEFINITIONS}`,
    {
      properties: {
        roleName: role,
        description:
          'Image Builder access to create resources for the image build, you should delete or split out as appropriate',
        type: 'CustomRole',
        assignableScopes: [ground.group],
        permissions: [
          {
            actions: ['Microsoft.Compute/galleries/read', 'Microsoft.Compute/images/write'],
            notActions: [],
            dataActions: [],
            notDataActions: [],
          },
        ],
      },
    },
  );
  assert.deepEqual(
    [definition.name, definition.type, definition.properties.roleName, definition.properties.type],
    [name, 'Microsoft.Authorization/roleDefinitions', role, 'CustomRole'],
  );
  const all = await ask(
    200,
    'GET',
    `/subscriptions/${SUBSCRIPTION}/${AUTHORIZATION}/roleDefinitions?api-version=${DEFINITIONS}`,
  );
  const custom = all.value.filter((one: Wire) => one.properties.type === 'CustomRole');
  assert.deepEqual(
    custom.map((one: Wire) => one.properties.roleName),
    [role],
  );

  const roles = `${ground.group}/${AUTHORIZATION}/roleDefinitions`;
  const named = await ask(200, 'GET', filtered(roles, `roleName eq '${role}'`, `&api-version=${DEFINITIONS}`));
  assert.deepEqual(
    named.value.map((one: Wire) => one.id),
    [definition.id],
  );
  assert.deepEqual(
    (await ask(200, 'GET', filtered(roles, "roleName eq 'No such role'", `&api-version=${DEFINITIONS}`))).value,
    [],
  );
  const assignments = `${ground.group}/${AUTHORIZATION}/roleAssignments`;
  const properties = {
    roleDefinitionId: definition.id,
    principalId: identity.principalId,
    principalType: 'ServicePrincipal',
  };
  const made = await ask(201, 'PUT', `${assignments}/${randomUUID()}?api-version=${ASSIGNMENTS}`, { properties });
  const again = await ask(409, 'PUT', `${assignments}/${randomUUID()}?api-version=${ASSIGNMENTS}`, { properties });
  // az swallows this one, by its text.
  assert.match(again.error.message, /role assignment already exists/i);
  // az 2.45 takes nothing but 201 in its older version, for one that is there as well.
  await ask(201, 'PUT', `${made.id}?api-version=2020-04-01-preview`, { properties });
  await ask(200, 'PUT', `${made.id}?api-version=${ASSIGNMENTS}`, { properties });

  const listed = await ask(200, 'GET', filtered(assignments, 'atScope()', `&api-version=${ASSIGNMENTS}`));
  const own = listed.value.filter((one: Wire) => one.properties.principalId === identity.principalId);
  assert.deepEqual(
    own.map((one: Wire) => one.id),
    [made.id],
  );
  const assigned = `atScope() and assignedTo('${identity.principalId}')`;
  assert.equal((await ask(200, 'GET', filtered(assignments, assigned, `&api-version=${ASSIGNMENTS}`))).value.length, 1);
  const names = await ask(200, 'POST', '/v1.0/directoryObjects/getByIds', {
    ids: listed.value.map((one: Wire) => one.properties.principalId),
    types: ['user', 'group', 'servicePrincipal', 'directoryObjectPartnerReference'],
  });
  const maker = names.value.find((one: Wire) => one.id === identity.principalId);
  assert.deepEqual(
    [maker['@odata.type'], maker.displayName, maker.appId, maker.servicePrincipalType],
    ['#microsoft.graph.servicePrincipal', 'maker', identity.clientId, 'ManagedIdentity'],
  );

  const refused = await ask(400, 'DELETE', `${definition.id}?api-version=${DEFINITIONS}`);
  assert.equal(refused.error.code, 'RoleDefinitionHasAssignments');
  await ask(200, 'DELETE', `${made.id}?api-version=${ASSIGNMENTS}`);
  assert.equal((await server.request('DELETE', `${made.id}?api-version=${ASSIGNMENTS}`)).status, 204);
  await ask(200, 'DELETE', `${definition.id}?api-version=${DEFINITIONS}`);
});

test('--assignee-object-id without a type, and names of nobody', async () => {
  const types = ['user', 'group', 'servicePrincipal', 'directoryObjectPartnerReference'];
  const byIds = (ids: string[], types_: unknown = types) =>
    ask(200, 'POST', '/v1.0/directoryObjects/getByIds', { ids, types: types_ });
  assert.equal((await byIds([identity.principalId.toUpperCase()])).value.length, 1);
  assert.deepEqual((await byIds([identity.principalId], ['user', 'group'])).value, []);
  assert.equal((await byIds([identity.principalId], ['directoryObject'])).value.length, 1);
  assert.deepEqual((await byIds([randomUUID(), 'x'])).value, []);
  assert.deepEqual((await servicePrincipals("servicePrincipalNames/any(c:c eq 'nosuch')")).value, []);
  assert.deepEqual((await ask(200, 'GET', filtered('/v1.0/users', "userPrincipalName eq 'a@b.c'"))).value, []);
  await ask(400, 'POST', '/v1.0/directoryObjects/getByIds', { ids: 'all' });
  await ask(400, 'POST', '/v1.0/directoryObjects/getByIds', { ids: [], types: 'user' });

  const nobody = randomUUID();
  const assignment = `${ground.group}/${AUTHORIZATION}/roleAssignments/${randomUUID()}?api-version=${ASSIGNMENTS}`;
  const missing = await ask(400, 'PUT', assignment, {
    properties: { roleDefinitionId: CONTRIBUTOR, principalId: nobody },
  });
  assert.equal(missing.error.code, 'PrincipalNotFound');
  // With its type it may be on its way: so az says, and Azure believes it.
  await ask(201, 'PUT', assignment, {
    properties: { roleDefinitionId: CONTRIBUTOR, principalId: nobody, principalType: 'ServicePrincipal' },
  });
});

test('az ad sp list and show, users, groups, me', async () => {
  const shown = await ask(200, 'GET', `/v1.0/servicePrincipals/${identity.principalId}`);
  assert.deepEqual(
    [shown.appId, shown.displayName, shown.accountEnabled, shown.servicePrincipalType],
    [identity.clientId, 'maker', true, 'ManagedIdentity'],
  );
  assert.match(shown.alternativeNames.join(' '), /isExplicit=True .*\/userassignedidentities\/maker$/);
  const ids = async (filter: string) => (await servicePrincipals(filter)).value.map((one: Wire) => one.id);
  for (const filter of [
    `appId eq '${identity.clientId}'`,
    `id eq '${identity.principalId}'`,
    "displayName eq 'MAKER'",
    "startswith(displayName,'mak')",
    "startswith(displayName,'ma') and servicePrincipalType eq 'ManagedIdentity'",
    `appId eq '${randomUUID()}' or (servicePrincipalNames/any(x: x eq '${identity.clientId}'))`,
  ])
    assert.deepEqual(await ids(filter), [identity.principalId], filter);
  assert.deepEqual(await ids("servicePrincipalType eq 'Application' and displayName eq 'maker'"), []);
  for (const filter of ["color eq 'red'", 'endswith(displayName)', "displayName gt 'a'", "displayName eq 'a"]) {
    const { error } = await servicePrincipals(filter, 400);
    assert.ok(error.code && error.message, filter);
  }

  const everybody = (await ask(200, 'GET', '/v1.0/servicePrincipals')).value.map((one: Wire) => one.id);
  assert.ok(everybody.length >= 3);
  const paged: string[] = [];
  for (let next: string | undefined = '/v1.0/servicePrincipals?$top=2&$select=id'; next !== undefined; ) {
    const page: Wire = await ask(200, 'GET', next);
    assert.ok(page.value.length <= 2 && page.value.every((one: object) => Object.keys(one).join() === 'id'));
    paged.push(...page.value.map((one: Wire) => one.id));
    next = page['@odata.nextLink'];
  }
  assert.deepEqual(paged, everybody);
  for (const query of ['$top=0', '$top=1000', '$top=x', '$skiptoken=x'])
    await ask(400, 'GET', `/v1.0/servicePrincipals?${query}`);

  assert.deepEqual((await ask(200, 'GET', '/v1.0/users')).value, []);
  assert.deepEqual((await ask(200, 'GET', filtered('/v1.0/groups', "startswith(displayName,'a')"))).value, []);
  for (const path of ['users', 'groups', 'servicePrincipals', 'directoryObjects'])
    assert.equal((await ask(404, 'GET', `/v1.0/${path}/${randomUUID()}`)).error.code, 'Request_ResourceNotFound');
  assert.equal((await ask(200, 'GET', `/v1.0/directoryObjects/${identity.principalId}`)).appId, identity.clientId);
  // Nobody here is a person.
  assert.match((await ask(400, 'GET', '/v1.0/me')).error.message, /delegated authentication flow/);
  assert.match((await ask(405, 'POST', '/v1.0/applications', { displayName: 'x' })).error.message, /kiln principal/);
  assert.match((await ask(404, 'GET', '/v1.0/applications')).error.message, /kiln principal/);
});

test('nobody reads the directory without a token for it', async () => {
  for (const path of ['/v1.0/servicePrincipals', '/v1.0/me', '/v1.0/anything'])
    assert.equal((await server.request('GET', path, { token: null })).status, 401);
});

test('nothing failed inside', () => assert.deepEqual(server.errors, []));
