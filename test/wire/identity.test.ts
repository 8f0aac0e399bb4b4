/** Managed identities over HTTP: who they are, the tokens that they get, and what becomes of templates whose identity has rights, has none, or is gone. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { LOCAL_TENANT } from '../../src/arm/ids.ts';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { openKeys } from '../../src/directory/keys.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround } from './ground.ts';
import { ended } from './samples.ts';

const VERSION = '2023-01-31';
const AUTHORIZATION = 'providers/Microsoft.Authorization';

// biome-ignore lint/suspicious/noExplicitAny: what comes over the wire has no type; every field is asserted.
type Wire = any;

let server: TestServer;
let ground: Ground;
let outside: Ground;
before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Identities');
  outside = await makeGround(server, 'Outside');
});
after(() => server?.close());

const identityId = (name: string) =>
  `${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${name}`;

async function ask(
  status: number,
  method: string,
  path: string,
  options: Parameters<TestServer['request']>[2] = {},
): Promise<Wire> {
  const answer = await server.request(method, path, { apiVersion: VERSION, ...options });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer.body;
}

const make = (name: string) => ask(201, 'PUT', identityId(name), { body: { location: 'westus' } });

async function assign(principalId: string, role: string, scope: string): Promise<string> {
  const path = `${scope}/${AUTHORIZATION}/roleAssignments/${randomUUID()}`;
  const properties = { principalId, roleDefinitionId: role, principalType: 'ServicePrincipal' };
  await ask(201, 'PUT', path, { apiVersion: '2022-04-01', body: { properties } });
  return path;
}

/** As `kiln env --identity` sets it up. */
async function identityToken(principalId: string, more = ''): Promise<Answer> {
  const header = (await openKeys(server.service.home)).identityHeader(principalId);
  const query = `api-version=2019-08-01&resource=${encodeURIComponent('https://management.local/')}${more}`;
  return await server.request('GET', `/msi/token?${query}`, { token: null, headers: { 'x-identity-header': header } });
}

test('an identity is who it is: ids stay, tags change', async () => {
  const made = await make('lasting');
  const { principalId, clientId, tenantId } = made.properties;
  assert.equal(tenantId, LOCAL_TENANT);
  assert.notEqual(principalId, clientId);
  assert.match(made.id, /^\/subscriptions\/[^/]+\/resourcegroups\/Identities\//);
  assert.deepEqual(made.tags, {});
  const same = { principalId, clientId, tenantId };
  const again = await ask(200, 'PUT', identityId('lasting'), {
    body: { location: 'West US', tags: { a: '1' }, properties: { principalId: randomUUID(), clientId: 'mine' } },
  });
  assert.deepEqual([again.properties, again.tags], [same, { a: '1' }]);
  const patched = await ask(200, 'PATCH', identityId('lasting'), { body: { tags: { b: '2' } } });
  assert.deepEqual([patched.properties, patched.tags, patched.location], [same, { b: '2' }, 'westus']);
  const moved = await ask(409, 'PUT', identityId('lasting'), { body: { location: 'eastus' } });
  assert.equal(moved.error.code, 'InvalidResourceLocation');
  for (const name of ['ab', '-abc', 'a.b.c', 'x'.repeat(129)])
    assert.equal(
      (await ask(400, 'PUT', identityId(name), { body: { location: 'westus' } })).error.code,
      'InvalidParameter',
    );
  assert.equal((await ask(400, 'PUT', identityId('nowhere'), { body: {} })).error.code, 'LocationRequired');
  const type = 'providers/Microsoft.ManagedIdentity/userAssignedIdentities';
  for (const [scope, hidden] of [
    [ground.group, outside.identityId],
    [`/subscriptions/${SUBSCRIPTION}`, undefined],
  ] as const) {
    const ids = (await ask(200, 'GET', `${scope}/${type}`)).value.map((one: Wire) => one.id.toLowerCase());
    assert.ok(ids.includes(made.id.toLowerCase()));
    assert.equal(ids.includes(outside.identityId.toLowerCase()), hidden === undefined);
  }
});

test('federated identity credentials obey their rules and go with their identity', async () => {
  await make('federated');
  const path = (name: string) => `${identityId('federated')}/federatedIdentityCredentials/${name}`;
  const trust = (subject: string, more: object = {}) => ({
    body: {
      properties: { issuer: 'https://issuer.example/', subject, audiences: ['api://AzureADTokenExchange'], ...more },
    },
  });
  const made = await ask(201, 'PUT', path('first'), trust('a'));
  assert.deepEqual(made.properties, trust('a').body.properties);
  assert.equal(made.type, 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials');
  assert.equal((await ask(200, 'PUT', path('first'), trust('b'))).properties.subject, 'b');
  const refused = async (status: number, code: string, target: string, name: string, options: object) => {
    const { error } = await ask(status, 'PUT', path(name), options);
    assert.deepEqual([error.code, error.target], [code, target], JSON.stringify(error));
  };
  await refused(409, 'Conflict', 'properties', 'second', trust('b'));
  await refused(
    400,
    'InvalidParameter',
    'properties.issuer',
    'second',
    trust('c', { issuer: 'http://issuer.example' }),
  );
  await refused(400, 'InvalidParameter', 'properties.issuer', 'second', trust('c', { issuer: 'x' }));
  await refused(400, 'InvalidParameter', 'properties.subject', 'second', trust(''));
  await refused(400, 'InvalidParameter', 'properties.audiences', 'second', trust('c', { audiences: ['a', 'b'] }));
  await refused(400, 'InvalidParameter', 'properties.audiences', 'second', trust('c', { audiences: [] }));
  await refused(400, 'InvalidParameter', 'properties.issuer', 'second', { body: {} });
  await refused(400, 'InvalidParameter', 'name', 'x', trust('c'));
  const early = await server.request('PUT', path('early'), { apiVersion: '2018-11-30', ...trust('c') });
  assert.equal(early.status, 400, early.text);
  await ask(404, 'PUT', path('first').replace('federated/', 'nobody/'), trust('a'));
  for (let number = 1; number < 20; number += 1) await ask(201, 'PUT', path(`more-${number}`), trust(`more-${number}`));
  await ask(400, 'PUT', path('one-too-many'), trust('one too many'));
  assert.equal((await ask(200, 'GET', path('').replace(/\/$/, ''))).value.length, 20);
  assert.equal((await ask(200, 'GET', path('FIRST'))).properties.subject, 'b');
  assert.equal((await server.request('DELETE', path('more-1'), { apiVersion: VERSION })).status, 200);
  assert.equal((await server.request('DELETE', path('more-1'), { apiVersion: VERSION })).status, 204);
  assert.equal((await server.request('DELETE', identityId('federated'), { apiVersion: VERSION })).status, 200);
  await make('federated');
  assert.deepEqual((await ask(200, 'GET', path('').replace(/\/$/, ''))).value, []);
});

test('an identity gets tokens, which do what its roles allow, until it is deleted', async () => {
  const { principalId, clientId } = (await make('caller')).properties;
  const issued = (await identityToken(principalId)).body as Wire;
  assert.deepEqual(
    [issued.client_id, issued.token_type, issued.resource],
    [clientId, 'Bearer', 'https://management.local/'],
  );
  const token: string = issued.access_token;
  const group = (status: number) => ask(status, 'GET', ground.group, { apiVersion: '2021-04-01', token });
  const { error } = await group(403);
  assert.match(error.message, new RegExp(`The client '${clientId}' with object id '${principalId}'`));
  const assignment = await assign(principalId, READER, ground.group);
  await group(200);
  assert.equal((await identityToken(principalId, `&mi_res_id=${identityId('caller').toUpperCase()}`)).status, 200);
  assert.equal((await identityToken(principalId, `&client_id=${randomUUID()}`)).status, 400);
  assert.equal((await identityToken(randomUUID())).status, 401);
  const own = `principalId eq '${principalId}'`;
  const assignments = async () =>
    (
      await ask(200, 'GET', `${ground.group}/${AUTHORIZATION}/roleAssignments?$filter=${encodeURIComponent(own)}`, {
        apiVersion: '2022-04-01',
      })
    ).value.length;
  assert.equal(await assignments(), 1);
  const mine = await ask(200, 'GET', `${ground.group}/${AUTHORIZATION}/permissions`, {
    apiVersion: '2022-04-01',
    token,
  });
  assert.deepEqual(mine.value, [{ actions: ['*/read'], notActions: [], dataActions: [], notDataActions: [] }]);
  const denied = await ask(200, 'GET', `${ground.group}/${AUTHORIZATION}/denyAssignments`, {
    apiVersion: '2022-04-01',
    token,
  });
  assert.deepEqual(denied.value, []);

  assert.equal((await server.request('DELETE', identityId('caller'), { apiVersion: VERSION })).status, 200);
  for (let tries = 0; ; tries += 1) {
    const answer = await server.request('GET', ground.group, { apiVersion: '2021-04-01', token });
    if (answer.status === 401) break;
    assert.ok(tries < 200, `A deleted identity is still answered: ${answer.status}`);
  }
  assert.equal((await identityToken(principalId)).status, 401);
  assert.equal(await assignments(), 0);
  await ask(404, 'GET', assignment, { apiVersion: '2022-04-01' });
  // One of that name that is made later is another.
  const next = (await make('caller')).properties;
  assert.notEqual(next.principalId, principalId);
  const fresh = ((await identityToken(next.principalId)).body as Wire).access_token;
  await ask(403, 'GET', ground.group, { apiVersion: '2021-04-01', token: fresh });
});

const GALLERY_VERSION = '2024-02-01';

/** Publishes into the definition of `outside`, whose group the identity has nothing to do with unless somebody says so. */
async function template(name: string, identity: string): Promise<Wire> {
  const made = await server.request('PUT', ground.template(name), {
    apiVersion: GALLERY_VERSION,
    body: {
      location: 'westus',
      identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } },
      properties: {
        source: {
          type: 'PlatformImage',
          publisher: 'Canonical',
          offer: 'UbuntuServer',
          sku: '18.04-LTS',
          version: 'latest',
        },
        customize: [{ type: 'Shell', inline: ['true'] }],
        distribute: [
          {
            type: 'SharedImage',
            runOutputName: 'out',
            galleryImageId: outside.definitionId,
            replicationRegions: ['westus'],
          },
        ],
      },
    },
  });
  assert.equal(made.status, 201, made.text);
  const { body } = await server.settled(made);
  return { operation: body, ...(await ask(200, 'GET', ground.template(name), { apiVersion: GALLERY_VERSION })) };
}

async function run(name: string): Promise<Wire> {
  const started = await server.request('POST', `${ground.template(name)}/run`, { apiVersion: GALLERY_VERSION });
  assert.ok(started.status === 202 || started.status === 200, started.text);
  return (await server.settled(started)).body;
}

const UNAUTHORIZED = (resource: string) =>
  `Not authorized to access the resource: ${resource}. Please check the user assigned identity has the correct permissions. For more details, go to https://aka.ms/azvmimagebuilderts.`;

test('a template’s identity needs rights on the gallery, when it is made and at each run', async () => {
  const { principalId } = (await make('publisher')).properties;
  const gallery = outside.definitionId.slice(0, outside.definitionId.indexOf('/images/'));
  const refused = await template('unauthorized', identityId('publisher'));
  assert.equal(refused.operation.status, 'Failed');
  assert.deepEqual(
    [refused.operation.error.code, refused.operation.error.message],
    ['Unauthorized', UNAUTHORIZED(gallery)],
  );
  assert.equal(refused.properties.provisioningState, 'Failed');
  assert.equal(refused.properties.provisioningError.message, UNAUTHORIZED(gallery));

  // The quickstart's role, on the gallery's group.
  const role = randomUUID();
  const actions = [
    ...['galleries/read', 'galleries/images/read', 'galleries/images/versions/read', 'galleries/images/versions/write'],
    ...['images/write', 'images/read', 'images/delete'],
  ].map(action => `Microsoft.Compute/${action}`);
  await ask(201, 'PUT', `${outside.group}/${AUTHORIZATION}/roleDefinitions/${role}`, {
    apiVersion: '2022-04-01',
    body: { properties: { roleName: `makes ${role}`, permissions: [{ actions }], assignableScopes: [outside.group] } },
  });
  const assignment = await assign(principalId, role, outside.group);
  const allowed = await template('authorized', identityId('publisher'));
  assert.equal(allowed.operation.status, 'Succeeded', JSON.stringify(allowed.operation));
  assert.equal((await run('authorized')).status, 'Succeeded');

  await ask(200, 'DELETE', assignment, { apiVersion: '2022-04-01' });
  const denied = await run('authorized');
  assert.deepEqual(
    [denied.status, denied.error.code, denied.error.message],
    ['Failed', 'Unauthorized', UNAUTHORIZED(gallery)],
  );
  await assign(principalId, CONTRIBUTOR, outside.group);
  assert.equal((await run('authorized')).status, 'Succeeded');
  assert.equal(
    (await ask(200, 'GET', ground.template('authorized'), { apiVersion: GALLERY_VERSION })).properties.lastRunStatus
      .runState,
    'Succeeded',
  );

  // Azure lets an identity go that a template uses; the next run says so.
  assert.equal((await server.request('DELETE', identityId('publisher'), { apiVersion: VERSION })).status, 200);
  const orphan = await run('authorized');
  assert.equal(orphan.status, 'Failed');
  assert.equal(orphan.error.code, 'Unauthorized');
  assert.match(orphan.error.message, /^The assigned managed identity cannot be used\. Please remove the existing one/);
  // Whoever makes it again has made another one.
  await make('publisher');
  assert.equal((await run('authorized')).error.code, 'Unauthorized');
  await ended(server, await server.request('DELETE', ground.template('authorized'), { apiVersion: GALLERY_VERSION }));
});

test('nothing that was answered breaks the contract', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
