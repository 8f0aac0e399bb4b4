/** Resources of types that Kiln does not know, in namespaces that it does: kept and shown with a warning, or refused under --strict. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { putResource } from '../../src/providers/store.ts';
import { KNOWN_TYPES } from '../../src/providers/unmodelled/known-types.ts';
import { UNMODELLED_HEADER } from '../../src/providers/unmodelled/provider.ts';
import { type Answer, SUBSCRIPTION as S, startTestServer, type TestServer } from '../server.ts';

const GROUPS = '2021-04-01';
const SUBSCRIPTION_ID = `/subscriptions/${S}`;
const GROUP = `${SUBSCRIPTION_ID}/resourceGroups/Solution`;
const at = (path: string, group = GROUP) => `${group}/providers/${path}`;

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers; what is not as expected fails where it is looked at.
type Json = any;

let server: TestServer;
before(async () => {
  server = await startTestServer();
  await answers(201, 'PUT', GROUP, { location: 'westus2' }, GROUPS);
});
after(() => server?.close());

async function answers(status: number, method: string, path: string, body?: unknown, apiVersion = '2023-07-01') {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer;
}

async function refused(answer: Answer, status: number, code: string, message: RegExp, hint?: RegExp): Promise<void> {
  assert.equal(answer.status, status, answer.text);
  const { error } = answer.body as Json;
  assert.equal(error.code, code, answer.text);
  assert.match(error.message, message);
  if (hint) assert.match(error.additionalInfo[0].info.hint, hint);
}

const ip = (more: object = {}) => ({
  location: 'West US 2',
  tags: { team: 'images' },
  sku: { name: 'Standard', tier: 'Regional' },
  zones: ['1', '2'],
  properties: { publicIPAllocationMethod: 'Static', dnsSettings: { domainNameLabel: 'kiln' } },
  ...more,
});

test('what is sent is kept and shown, with a warning on every way', async () => {
  const path = at('Microsoft.Network/publicIPAddresses/ip1');
  const made = await answers(201, 'PUT', path, { id: 'x', name: 'y', type: 'z', etag: 'e', ...ip() });
  const shown = {
    zones: ['1', '2'],
    location: 'westus2',
    tags: { team: 'images' },
    sku: { name: 'Standard', tier: 'Regional' },
    properties: {
      publicIPAllocationMethod: 'Static',
      dnsSettings: { domainNameLabel: 'kiln' },
      provisioningState: 'Succeeded',
    },
    id: path,
    name: 'ip1',
    type: 'Microsoft.Network/publicIPAddresses',
  };
  assert.deepEqual(made.body, shown);
  const header =
    'Microsoft.Network/publicIPAddresses is not modelled by Kiln: it is kept as it was sent, and does nothing.';
  assert.equal(made.headers[UNMODELLED_HEADER], header);
  assert.match(
    String(made.headers['azure-asyncoperation']),
    /\/providers\/Microsoft\.Network\/locations\/westus2\/operations\//,
  );
  const operation = (await server.settled(made)).body as Json;
  assert.equal(operation.status, 'Succeeded');
  assert.equal(operation.properties.warnings.length, 1);
  const [warning] = operation.properties.warnings;
  assert.deepEqual([warning.code, warning.target], ['UnmodelledResource', path]);
  assert.match(
    warning.message,
    /'Microsoft\.Network\/publicIPAddresses': the resource is kept and shown as it was sent/,
  );

  const read = await answers(
    200,
    'GET',
    path.toUpperCase().replace('/SUBSCRIPTIONS', '/subscriptions'),
    undefined,
    '2019-01-01-preview',
  );
  assert.deepEqual(read.body, shown);
  assert.equal(read.headers[UNMODELLED_HEADER]?.toString().toLowerCase(), header.toLowerCase());
  assert.equal((await answers(204, 'HEAD', path)).headers.etag, read.headers.etag);
  const listed = await answers(200, 'GET', at('microsoft.network/PUBLICIPADDRESSES'));
  assert.deepEqual((listed.body as Json).value, [shown]);
  assert.equal(listed.headers[UNMODELLED_HEADER], header);
  const everywhere = await answers(200, 'GET', at('Microsoft.Network/publicIPAddresses', SUBSCRIPTION_ID));
  assert.deepEqual((everywhere.body as Json).value, [shown]);
  const generic = (await answers(200, 'GET', `${GROUP}/resources`, undefined, GROUPS)).body as Json;
  assert.deepEqual(
    generic.value.map((one: Json) => [one.name, one.type, one.location, one.sku?.name]),
    [['ip1', 'Microsoft.Network/publicIPAddresses', 'westus2', 'Standard']],
  );

  const patched = await answers(200, 'PATCH', path, {
    tags: { a: 'b' },
    properties: { dnsSettings: null, idleTimeoutInMinutes: 4 },
  });
  assert.deepEqual(patched.body, {
    ...shown,
    tags: { a: 'b' },
    properties: { publicIPAllocationMethod: 'Static', idleTimeoutInMinutes: 4, provisioningState: 'Succeeded' },
  });
  const replaced = await answers(200, 'PUT', path, {
    location: 'westus2',
    kind: 'k',
    plan: { name: 'p' },
    extendedLocation: { name: 'e' },
  });
  assert.deepEqual(replaced.body, {
    location: 'westus2',
    kind: 'k',
    plan: { name: 'p' },
    extendedLocation: { name: 'e' },
    properties: { provisioningState: 'Succeeded' },
    id: path,
    name: 'ip1',
    type: 'Microsoft.Network/publicIPAddresses',
  });
  await refused(
    await answers(409, 'PUT', path, { location: 'eastus' }),
    409,
    'InvalidResourceLocation',
    /already exists in location 'westus2'/,
  );
  const conditional = await server.request('PUT', path, {
    apiVersion: '2023-07-01',
    body: ip(),
    headers: { 'if-none-match': '*' },
  });
  assert.equal(conditional.status, 412);
  await answers(200, 'DELETE', path);
  await answers(204, 'DELETE', path);
  await answers(404, 'GET', path);
});

test('children live below parents, known or not, and go with them', async () => {
  const vault = at('Microsoft.KeyVault/vaults/kv');
  const child = `${vault}/keys/k1`;
  await refused(await answers(404, 'PUT', child, { properties: {} }), 404, 'ParentResourceNotFound', /'kv' not found/);
  await answers(201, 'PUT', vault, { location: 'westus2', properties: { tenantId: 't' } });
  await answers(201, 'PUT', child, { properties: { kty: 'RSA' } });
  const { value } = (await answers(200, 'GET', `${vault}/keys`)).body as Json;
  assert.deepEqual(
    value.map((one: Json) => [one.id, one.type, one.properties.kty]),
    [[child, 'Microsoft.KeyVault/vaults/keys', 'RSA']],
  );
  await refused(
    await answers(404, 'GET', `${at('Microsoft.KeyVault/vaults/nobody')}/keys`),
    404,
    'ResourceNotFound',
    /vaults\/nobody/,
  );
  await answers(200, 'DELETE', vault);
  await answers(404, 'GET', child);

  const network = at('Microsoft.Network/virtualNetworks/v');
  await answers(
    201,
    'PUT',
    network,
    { location: 'westus2', properties: { addressSpace: { addressPrefixes: ['10.0.0.0/16'] } } },
    '2024-01-01',
  );
  const peering = `${network}/virtualNetworkPeerings/p`;
  await answers(201, 'PUT', peering, { properties: { allowForwardedTraffic: true } }, '2024-01-01');
  assert.equal(
    ((await answers(200, 'GET', `${network}/virtualNetworkPeerings`, undefined, '2024-01-01')).body as Json).value
      .length,
    1,
  );
  await answers(202, 'DELETE', network, undefined, '2024-01-01');
  await answers(404, 'GET', peering, undefined, '2024-01-01');
});

test('what is only kept of an account goes with it', async () => {
  const account = at('Microsoft.Storage/storageAccounts/unmodelledparts');
  const body = { location: 'westus2', sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
  const made = await server.request('PUT', account, { apiVersion: '2023-01-01', body });
  assert.ok(made.status === 200 || made.status === 202, made.text);
  const policy = `${account}/managementPolicies/default`;
  await answers(201, 'PUT', policy, { properties: { policy: { rules: [] } } }, '2023-01-01');
  await answers(200, 'DELETE', account, undefined, '2023-01-01');
  await answers(404, 'GET', policy, undefined, '2023-01-01');
});

test('secrets are not kept, in the row as little as in the answer', async () => {
  const path = at('Microsoft.Compute/virtualMachines/vm1');
  const made = await answers(201, 'PUT', path, {
    location: 'westus2',
    identity: { type: 'SystemAssigned', principalId: 'mine' },
    plan: { name: 'p', password: 'Hunter2-plan' },
    properties: { osProfile: { adminUsername: 'a', adminPassword: 'Hunter2-os', customData: 'SHVudGVyMg==' } },
  });
  assert.deepEqual((made.body as Json).properties.osProfile, { adminUsername: 'a' });
  assert.deepEqual((made.body as Json).identity, { type: 'SystemAssigned' });
  const operation = (await server.settled(made)).body as Json;
  assert.deepEqual(
    operation.properties.warnings.slice(1).map(({ code, target }: Json) => [code, target]),
    [
      ['SecretsNotKept', 'plan.password'],
      ['SecretsNotKept', 'properties.osProfile.adminPassword'],
      ['SecretsNotKept', 'properties.osProfile.customData'],
    ],
  );
  await answers(200, 'PATCH', path, { properties: { osProfile: { adminPassword: 'Hunter2-again' } } });
  const { kysely } = server.service.database;
  const rows = JSON.stringify([
    await kysely.selectFrom('resource').selectAll().execute(),
    await kysely.selectFrom('operation').selectAll().execute(),
  ]);
  assert.ok(rows.includes('virtualmachines/vm1'));
  assert.ok(!/Hunter2|SHVudGVyMg/.test(rows));
});

test('nobody can do anything with them', async () => {
  const path = at('Microsoft.Compute/virtualMachines/vm1');
  for (const action of ['start', 'runCommand'])
    await refused(
      await answers(405, 'POST', `${path}/${action}`, {}),
      405,
      'MethodNotAllowed',
      new RegExp(`'${action}' is not supported for 'Microsoft.Compute/virtualMachines'`),
      /can do nothing with them/,
    );
  await answers(405, 'POST', path, {});
  // What is computed when it is asked for is no empty list.
  await answers(405, 'GET', `${path}/instanceView`);
  await answers(
    405,
    'GET',
    at('Microsoft.Network/virtualNetworks/net/CheckIPAddressAvailability'),
    undefined,
    '2024-03-01',
  );
});

test('what is no resource of a type that could be kept stays unknown', async () => {
  const group = at('Microsoft.Compute/virtualMachines/vm1');
  for (const [method, path] of [
    // Questions that providers answer.
    ['GET', at('Microsoft.Compute/skus', SUBSCRIPTION_ID)],
    ['GET', at('Microsoft.KeyVault/locations/westus2/deletedVaults/kv', SUBSCRIPTION_ID)],
    ['POST', at('Microsoft.KeyVault/checkNameAvailability', SUBSCRIPTION_ID)],
    // Namespaces that Kiln knows all of: an echo would be a lie there.
    ['PUT', at('Microsoft.Resources/deployments/d')],
    ['PUT', at('Microsoft.VirtualMachineImages/imageBuilders/x')],
    ['PUT', at('Microsoft.ManagedIdentity/identities/x')],
    ['PUT', at('Microsoft.Authorization/policyAssignments/p')],
    // Not in a group; hung on another resource; no name of a type.
    ['PUT', at('Microsoft.KeyVault/vaults/kv', SUBSCRIPTION_ID)],
    ['PUT', `${group}/providers/Microsoft.Insights/diagnosticSettings/d`],
    ['PUT', at('Microsoft.KeyVault/va<ults/kv')],
    ['PUT', at('Microsoft.KeyVault/9vaults/kv')],
  ] as const) {
    const answer = await answers(404, method, path, method === 'GET' ? undefined : { location: 'westus2' });
    const { code, message } = (answer.body as Json).error;
    assert.equal(code, 'InvalidResourceType', path);
    assert.doesNotMatch(message, /''/);
  }
  await refused(
    await answers(404, 'GET', at('Microsoft.Resources/deployments'), undefined, GROUPS),
    404,
    'InvalidResourceType',
    /could not be found in the namespace 'Microsoft\.Resources'\.$/,
    /no deployments/,
  );
  await refused(
    await answers(404, 'PUT', at('Contoso.Things/things/x'), {}),
    404,
    'InvalidResourceNamespace',
    /Contoso/,
  );
  await refused(
    await answers(404, 'GET', at('Microsoft.KeyVault/vaults/kv', `${SUBSCRIPTION_ID}/resourceGroups/nobody`)),
    404,
    'ResourceGroupNotFound',
    /nobody/,
  );
});

test('hostile and hapless bodies', async () => {
  const path = at('Microsoft.Logic/workflows/w');
  const put = (body: unknown, apiVersion?: string) =>
    server.request('PUT', path, { apiVersion: apiVersion ?? '2019-05-01', body });
  await refused(await put([]), 400, 'InvalidRequestContent', /not an object/);
  await refused(await put({ location: 7 }), 400, 'InvalidRequestContent', /location has to be a text/);
  await refused(
    await put({ location: 'atlantis' }),
    400,
    'LocationNotAvailableForResourceType',
    /'atlantis' is not available for resource type 'Microsoft\.Logic\/workflows'/,
  );
  await refused(await put({ properties: 'x' }), 400, 'InvalidRequestContent', /properties has to be an object/);
  await refused(await put({ sku: 'Standard' }), 400, 'InvalidRequestContent', /sku has to be an object/);
  await refused(await put({ identity: [] }), 400, 'InvalidRequestContent', /identity has to be an object/);
  await refused(await put({ kind: {} }), 400, 'InvalidRequestContent', /kind has to be a text/);
  await refused(await put({ tags: { a: 1 } }), 400, 'InvalidParameter', /Tags/);
  await refused(
    await put({ tags: Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`t${index}`, ''])) }),
    400,
    'InvalidTagCount',
    /50/,
  );
  await refused(
    await put({ properties: { text: 'x'.repeat(1024 * 1024) } }),
    409,
    'ResourceQuotaExceeded',
    /has \d+ bytes; Kiln keeps 1048576/,
  );
  await refused(
    await put(`{"properties":${'{"a":'.repeat(64)}1${'}'.repeat(64)}}`),
    400,
    'InvalidRequestContent',
    /64 levels deep/,
  );
  await refused(await put({}, 'soon'), 400, 'InvalidApiVersionParameter', /'soon' is invalid/);
  await refused(await server.request('PUT', path, { body: {} }), 400, 'MissingApiVersionParameter', /api-version/);
  await refused(
    await server.request('PUT', at('Microsoft.Logic/workflows/w.'), { apiVersion: '2019-05-01', body: {} }),
    400,
    'InvalidResourceName',
    /cannot end with a period/,
  );
  await answers(404, 'GET', path);
  // JavaScript's own names are names like others, NUL is no character of a database.
  const strange =
    '{"location":"global","__proto__":{"polluted":1},"properties":{"__proto__":{"a":1},"constructor":{"prototype":{"b":2}},"text":"a\\u0000b\\ud800"}}';
  const made = await put(strange);
  assert.equal(made.status, 201, made.text);
  const { properties } = JSON.parse(made.text);
  assert.equal(JSON.stringify(properties.constructor), '{"prototype":{"b":2}}');
  assert.ok(made.text.includes('"__proto__":{"a":1}'));
  assert.equal(properties.text, 'a\ufffdb\ufffd');
  assert.equal(({} as Json).polluted, undefined);
  assert.match(String(made.headers['azure-asyncoperation']), /\/locations\/global\/operations\//);
  assert.equal(((await server.settled(made)).body as Json).status, 'Succeeded');
});

test('roles, locks, tags and the end of the group hold for them as for any', async () => {
  const group = `${SUBSCRIPTION_ID}/resourceGroups/Temporary`;
  await answers(201, 'PUT', group, { location: 'westus2' }, GROUPS);
  const path = at('Microsoft.OperationalInsights/workspaces/w', group);
  const reader = await server.principal('reader', { id: READER, scope: group });
  const writer = await server.principal('writer', { id: CONTRIBUTOR, scope: path });
  const as = (method: string, token: string, to: string, body?: unknown) =>
    server.request(method, to, { apiVersion: '2022-10-01', token, ...(body !== undefined && { body }) });
  await refused(
    await as('PUT', reader.token, path, { location: 'westus2' }),
    403,
    'AuthorizationFailed',
    /Microsoft\.OperationalInsights\/workspaces\/write/,
  );
  assert.equal((await as('PUT', writer.token, path, { location: 'westus2' })).status, 201);
  assert.equal((await as('GET', reader.token, path)).status, 200);
  assert.equal((await as('GET', writer.token, `${path}2`)).status, 403);

  await answers(
    200,
    'PUT',
    `${path}/providers/Microsoft.Resources/tags/default`,
    { properties: { tags: { a: 'b' } } },
    GROUPS,
  );
  assert.deepEqual(((await answers(200, 'GET', path)).body as Json).tags, { a: 'b' });
  const lock = `${path}/providers/Microsoft.Authorization/locks/l`;
  await answers(201, 'PUT', lock, { properties: { level: 'CanNotDelete' } }, '2020-05-01');
  assert.equal(((await answers(409, 'DELETE', path)).body as Json).error.code, 'ScopeLocked');
  await answers(200, 'DELETE', lock, undefined, '2020-05-01');

  await answers(201, 'PUT', `${path}/tables/t`, { properties: {} });
  const deletion = await answers(202, 'DELETE', group, undefined, GROUPS);
  const end = Date.now() + 15_000;
  while (Date.now() < end && (await server.request('GET', String(deletion.headers.location))).status === 202);
  await answers(404, 'GET', group, undefined, GROUPS);
  const left = await server.service.database.kysely
    .selectFrom('resource')
    .select('id')
    .where('id', 'like', `${path.toLowerCase()}%`)
    .execute();
  assert.deepEqual(left, []);
});

test('a group has room for so many of a type', async () => {
  const group = `${SUBSCRIPTION_ID}/resourceGroups/Full`;
  await answers(201, 'PUT', group, { location: 'westus2' }, GROUPS);
  const path = (name: string) => at(`Microsoft.Insights/workbooks/${name}`, group);
  await answers(201, 'PUT', path('w0'), { location: 'westus2' });
  // 799 more, as rows: requests would take their time.
  const { kysely } = server.service.database;
  await sql`insert into resource (id, display_id, type, name, subscription, resource_group, location, properties, unmodelled)
    select id || n, display_id || n, type, name || n, subscription, resource_group, location, properties, unmodelled
    from resource, generate_series(1, 799) n where id = ${path('w0').toLowerCase()}`.execute(kysely);
  await refused(
    await answers(409, 'PUT', path('more'), { location: 'westus2' }),
    409,
    'ResourceQuotaExceeded',
    /has 800 resources of type 'Microsoft\.Insights\/workbooks'; it can have 800/,
  );
  await answers(200, 'PUT', path('w05'), { location: 'westus2' });
  await answers(201, 'PUT', at('Microsoft.Insights/webtests/w', group), { location: 'westus2' });
});

test('provider documents say which types are kept without knowing them', async () => {
  const { resourceTypes } = (
    await answers(200, 'GET', `${SUBSCRIPTION_ID}/providers/Microsoft.Network`, undefined, GROUPS)
  ).body as Json;
  const type = (name: string) => resourceTypes.find((one: Json) => one.resourceType === name);
  assert.match(type('publicIPAddresses').properties.kiln, /^Not modelled/);
  assert.equal(type('publicIPAddresses').defaultApiVersion, KNOWN_TYPES['Microsoft.Network']!.apiVersions[0]);
  assert.equal(type('virtualNetworks').properties, undefined);
  assert.equal(resourceTypes.filter((one: Json) => one.resourceType === 'virtualNetworks').length, 1);
});

test('under --strict they are refused, and what was kept before can be looked at and deleted', async () => {
  const strict = await startTestServer({ strict: true });
  try {
    const send = (method: string, path: string, body?: unknown, apiVersion = '2023-07-01') =>
      strict.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
    assert.equal((await send('PUT', GROUP, { location: 'westus2' }, GROUPS)).status, 201);
    const path = at('Microsoft.KeyVault/vaults/kv');
    for (const [method, body] of [
      ['PUT', {}],
      ['PATCH', {}],
      ['GET', undefined],
      ['DELETE', undefined],
    ] as const)
      await refused(
        await send(method, path, body),
        404,
        'InvalidResourceType',
        /^The resource type 'vaults' could not be found in the namespace 'Microsoft\.KeyVault': Kiln does not model it\.$/,
        /--strict/,
      );
    await refused(await send('GET', at('Microsoft.KeyVault/vaults')), 404, 'InvalidResourceType', /'vaults'/);
    const { resourceTypes } = (await send('GET', `${SUBSCRIPTION_ID}/providers/Microsoft.Network`, undefined, GROUPS))
      .body as Json;
    assert.ok(resourceTypes.some((one: Json) => one.resourceType === 'virtualNetworks'));
    assert.ok(!resourceTypes.some((one: Json) => one.resourceType === 'publicIPAddresses'));

    // Of a server that was not strict yet.
    await putResource(strict.service.database.kysely, {
      id: path,
      location: 'westus2',
      properties: { old: true },
      unmodelled: {},
      apiVersion: '2023-07-01',
    });
    assert.equal(((await send('GET', path)).body as Json).properties.old, true);
    assert.equal((await send('PUT', path, {})).status, 404);
    assert.equal((await send('DELETE', path)).status, 200);
    const network = at('Microsoft.Network/virtualNetworks/v');
    const body = { location: 'westus2', properties: { addressSpace: { addressPrefixes: ['10.0.0.0/16'] } } };
    assert.equal((await send('PUT', network, body, '2024-01-01')).status, 201);
    assert.deepEqual(strict.violations, []);
    assert.deepEqual(strict.errors, []);
  } finally {
    await strict.close();
  }
});

test('everything was as the OpenAPI files have it', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
