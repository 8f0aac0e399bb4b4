/** Storage accounts through Resource Manager, over HTTP: what an account is, its name, its keys, its containers, its end. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { RESERVED_ACCOUNT_NAMES } from '../../src/blobs/names.ts';
import { KEY_NAMES, readKeys, renewKey, requireKeys } from '../../src/providers/storage/account-keys.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { makeGround, NEWEST, plainTemplate } from './ground.ts';

const API = '2023-05-01';
const OTHER = '00000000-0000-4000-8000-00000000000b';
const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/stores`;
const account = (name: string, group = GROUP) => `${group}/providers/Microsoft.Storage/storageAccounts/${name}`;
const PLAIN = { location: 'westus', sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };

let server: TestServer;

before(async () => {
  server = await startTestServer({ subscriptions: [OTHER] });
  for (const path of [GROUP, `/subscriptions/${OTHER}/resourceGroups/stores`])
    await server.request('PUT', path, { apiVersion: '2021-04-01', body: { location: 'westus' } });
});
after(() => server?.close());

interface Account {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly sku: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly properties: Readonly<Record<string, unknown>>;
}

const call = (method: string, path: string, body?: unknown, apiVersion = API) =>
  server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
const put = (name: string, body: object = PLAIN) => call('PUT', account(name), body);
const bodyOf = (answer: Answer) => answer.body as Account;

function assertError(answer: Answer, status: number, code: string, message?: RegExp): void {
  assert.equal(answer.status, status, answer.text);
  const { error } = answer.body as { error: { code: string; message: string } };
  assert.equal(error.code, code, answer.text);
  if (message) assert.match(error.message, message);
}

async function made(name: string, body: object = PLAIN): Promise<Account> {
  const answer = await put(name, body);
  assert.equal(answer.status, 200, answer.text);
  return bodyOf(answer);
}

const keysOf = async (name: string, apiVersion = API) => {
  const answer = await call('POST', `${account(name)}/listKeys`, undefined, apiVersion);
  assert.equal(answer.status, 200, answer.text);
  return (answer.body as { keys: { keyName: string; value: string; permissions: string; creationTime?: string }[] })
    .keys;
};

test('an account is made at once, with the defaults that it has', async () => {
  const created = await made('plain1', { ...PLAIN, tags: { a: 'b' } });
  assert.deepEqual(created.sku, { name: 'Standard_LRS', tier: 'Standard' });
  assert.equal(created.kind, 'StorageV2');
  assert.deepEqual(created.tags, { a: 'b' });
  const { creationTime, keyCreationTime, encryption, ...rest } = created.properties as {
    readonly creationTime: string;
    readonly keyCreationTime: Readonly<Record<string, string>>;
    readonly encryption: {
      readonly keySource: string;
      readonly services: { readonly blob: { readonly enabled: boolean } };
    };
  };
  const times = [creationTime, keyCreationTime.key1, keyCreationTime.key2].map(time => Date.parse(String(time)));
  assert.ok(times.every(time => time > 0));
  assert.equal(encryption.keySource, 'Microsoft.Storage');
  assert.equal(encryption.services.blob.enabled, true);
  assert.deepEqual(rest, {
    accessTier: 'Hot',
    supportsHttpsTrafficOnly: true,
    allowBlobPublicAccess: false,
    allowCrossTenantReplication: false,
    minimumTlsVersion: 'TLS1_2',
    networkAcls: { bypass: 'AzureServices', defaultAction: 'Allow', ipRules: [], virtualNetworkRules: [] },
    primaryEndpoints: { blob: `${server.origin}/plain1/` },
    primaryLocation: 'westus',
    privateEndpointConnections: [],
    provisioningState: 'Succeeded',
    statusOfPrimary: 'available',
  });
  assert.deepEqual(bodyOf(await call('GET', account('PLAIN1'))), created);
  const old = bodyOf(await call('GET', account('plain1'), undefined, '2019-06-01')).properties;
  for (const property of ['keyCreationTime', 'allowCrossTenantReplication']) assert.ok(!(property in old), property);
  for (const scope of [GROUP, `/subscriptions/${SUBSCRIPTION}`]) {
    const list = await call('GET', `${scope}/providers/Microsoft.Storage/storageAccounts`);
    assert.deepEqual(
      (list.body as { value: Account[] }).value.filter(({ name }) => name === 'plain1'),
      [created],
    );
  }
});

test('a PUT and a PATCH change what they say, and leave the rest', async () => {
  await made('changing1', { ...PLAIN, tags: { a: 'b' }, properties: { allowBlobPublicAccess: true } });
  const again = await made('changing1', { ...PLAIN, properties: { accessTier: 'Cool' } });
  assert.equal(again.properties.allowBlobPublicAccess, true);
  assert.equal(again.properties.accessTier, 'Cool');
  assert.deepEqual(again.tags, {});
  const patched = await call('PATCH', account('changing1'), {
    sku: { name: 'Standard_ZRS' },
    tags: { c: 'd' },
    properties: { networkAcls: { defaultAction: 'Deny', ipRules: [{ value: '20.1.2.0/24' }] } },
  });
  assert.equal(patched.status, 200, patched.text);
  const { sku, tags, properties, kind } = bodyOf(patched);
  assert.deepEqual([sku.name, tags, kind], ['Standard_ZRS', { c: 'd' }, 'StorageV2']);
  assert.equal(properties.accessTier, 'Cool');
  assert.deepEqual(properties.networkAcls, {
    ...{ bypass: 'AzureServices', defaultAction: 'Deny', virtualNetworkRules: [] },
    ipRules: [{ value: '20.1.2.0/24', action: 'Allow' }],
  });
  const tagged = await call('PATCH', account('changing1'), { tags: { e: 'f' } });
  assert.deepEqual(bodyOf(tagged).properties, properties);
  assertError(await call('PATCH', account('absent1'), {}), 404, 'ResourceNotFound');
  assertError(
    await call('PATCH', account('changing1'), { sku: { name: 'Premium_LRS' }, properties: { accessTier: 'Premium' } }),
    409,
    'PropertyChangeNotAllowed',
  );
  assertError(await put('changing1', { ...PLAIN, location: 'eastus' }), 409, 'InvalidResourceLocation');
});

test('what an account cannot be is refused, and nothing is made', async () => {
  const cases: readonly (readonly [object, number, string, RegExp?])[] = [
    [{ sku: PLAIN.sku, kind: PLAIN.kind }, 400, 'LocationRequired'],
    [{ ...PLAIN, location: 'nowhere' }, 400, 'LocationNotAvailableForResourceType'],
    [{ location: 'westus', kind: 'StorageV2' }, 400, 'InvalidParameter', /storageAccount\.sku.* missing/],
    [{ location: 'westus', sku: PLAIN.sku }, 400, 'InvalidParameter', /storageAccount\.kind.* missing/],
    [{ ...PLAIN, sku: { name: 'Standard' } }, 400, 'InvalidParameter', /storageAccount\.sku\.name/],
    [{ ...PLAIN, kind: 'StorageV9' }, 400, 'InvalidParameter', /storageAccount\.kind/],
    [{ ...PLAIN, kind: 'BlockBlobStorage' }, 400, 'InvalidParameter', /SKU Standard_LRS/],
    [{ ...PLAIN, kind: 'BlobStorage' }, 400, 'InvalidParameter', /accessTier/],
    [{ ...PLAIN, kind: 'FileStorage', sku: { name: 'Premium_LRS' } }, 400, 'NotSupported', /file shares/],
    [{ ...PLAIN, properties: { isHnsEnabled: true } }, 400, 'NotSupported', /hierarchical/],
    [{ ...PLAIN, properties: { encryption: { keySource: 'Microsoft.Keyvault' } } }, 400, 'NotSupported'],
    [{ ...PLAIN, properties: { publicNetworkAccess: 'SecuredByPerimeter' } }, 400, 'NotSupported', /perimeters/],
    [{ ...PLAIN, properties: { accessTier: 'Premium' } }, 400, 'InvalidParameter', /access tier/],
    [{ ...PLAIN, properties: { networkAcls: { defaultAction: 'Maybe' } } }, 400, 'InvalidParameter', /defaultAction/],
    [
      { ...PLAIN, properties: { networkAcls: { defaultAction: 'Deny', ipRules: [{ value: '1.2.3' }] } } },
      400,
      'InvalidParameter',
    ],
    [{ ...PLAIN, properties: { allowSharedKeyAccess: 'no' } }, 400, 'InvalidParameter', /allowSharedKeyAccess/],
  ];
  for (const [body, status, code, message] of cases) assertError(await put('never1', body), status, code, message);
  assertError(await call('GET', account('never1')), 404, 'ResourceNotFound');
  assertError(await call('PUT', account('never1'), PLAIN, '2015-05-01-preview'), 400, 'NoRegisteredProviderFound');
  const nowhere = account('never1', `/subscriptions/${SUBSCRIPTION}/resourceGroups/absent`);
  assertError(await call('PUT', nowhere, PLAIN), 404, 'ResourceGroupNotFound');
});

test('a name is one account’s, everywhere, and az can ask for it', async () => {
  const check = async (name: unknown, type: unknown = 'Microsoft.Storage/storageAccounts') =>
    await call('POST', `/subscriptions/${OTHER}/providers/Microsoft.Storage/checkNameAvailability`, { name, type });
  assert.deepEqual((await check('named1')).body, { nameAvailable: true });
  await made('named1');
  assert.deepEqual((await check('named1')).body, {
    nameAvailable: false,
    reason: 'AlreadyExists',
    message: 'The storage account named named1 is already taken.',
  });
  const elsewhere = account('named1', `/subscriptions/${OTHER}/resourceGroups/stores`);
  assertError(await call('PUT', elsewhere, PLAIN), 409, 'StorageAccountAlreadyTaken', /named named1 is already taken/);
  for (const bad of ['ab', 'Unmade1', 'a-b', 'x'.repeat(25)]) {
    assertError(await put(bad), 400, 'AccountNameInvalid', /is not a valid storage account name/);
    assert.equal(((await check(bad)).body as { reason: string }).reason, 'AccountNameInvalid');
  }
  for (const reserved of RESERVED_ACCOUNT_NAMES) {
    assert.equal(((await check(reserved)).body as { nameAvailable: boolean }).nameAvailable, false, reserved);
    // No address can name an account of this name: the segment begins another resource's type.
    if (reserved === 'providers') continue;
    assertError(await put(reserved), 400, 'ReservedResourceName', /trademarked or reserved word/);
  }
  assertError(await check(undefined), 400, 'InvalidParameter', /'name' is missing/);
  assertError(await check('named1', 'Microsoft.Compute/images'), 400, 'InvalidParameter', /type/);
  assertError(
    await call('GET', `/subscriptions/${OTHER}/providers/Microsoft.Storage/checkNameAvailability`),
    405,
    'MethodNotAllowed',
  );
  // Of many at once, in both subscriptions, one gets it.
  const racing = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      call(
        'PUT',
        index % 2 ? account('racing1') : account('racing1', `/subscriptions/${OTHER}/resourceGroups/stores`),
        PLAIN,
      ),
    ),
  );
  assert.deepEqual([...new Set(racing.map(({ status }) => status))].sort(), [200, 409]);
  assert.equal(new Set(racing.filter(({ status }) => status === 200).map(answer => bodyOf(answer).id)).size, 1);
});

test('two keys, encrypted where they are kept, are shown and renewed', async () => {
  await made('keyed1');
  const keys = await keysOf('keyed1');
  assert.deepEqual(
    keys.map(({ keyName, permissions }) => [keyName, permissions]),
    [
      ['key1', 'FULL'],
      ['key2', 'FULL'],
    ],
  );
  for (const { value } of keys) assert.equal(Buffer.from(value, 'base64').length, 64);
  assert.notEqual(keys[0]!.value, keys[1]!.value);
  assert.ok(keys.every(({ creationTime }) => Date.parse(creationTime!) > 0));
  assert.ok((await keysOf('keyed1', '2019-06-01')).every(({ creationTime }) => creationTime === undefined));
  const expanded = await call('POST', `${account('keyed1')}/listKeys?$expand=kerb`);
  assert.deepEqual((expanded.body as { keys: unknown }).keys, keys);

  const { kysely } = server.service.database;
  const rows = await kysely.selectFrom('storage_key').selectAll().where('account_id', 'like', '%/keyed1').execute();
  assert.deepEqual(rows.map(({ name }) => name).sort(), ['delegation', 'key1', 'key2']);
  const file = await readFile(join(server.service.home.root, 'storage.key'), 'utf8');
  for (const { value } of keys) {
    assert.ok(!file.includes(value.slice(0, 16)));
    for (const { sealed } of rows) assert.ok(!sealed.includes(Buffer.from(value, 'base64').subarray(0, 8)));
  }

  const renewed = await call('POST', `${account('keyed1')}/regenerateKey`, { keyName: 'key1' });
  assert.equal(renewed.status, 200, renewed.text);
  const after = (renewed.body as { keys: typeof keys }).keys;
  assert.notEqual(after[0]!.value, keys[0]!.value);
  assert.deepEqual(after[1], keys[1]);
  assert.deepEqual(await keysOf('keyed1'), after);
  const shown = bodyOf(await call('GET', account('keyed1'))).properties.keyCreationTime as Record<string, string>;
  assert.equal(shown.key1, after[0]!.creationTime);
  for (const keyName of ['key3', 'kerb1', undefined])
    assertError(await call('POST', `${account('keyed1')}/regenerateKey`, { keyName }), 400, 'InvalidParameter');
  assertError(await call('POST', `${account('absent1')}/listKeys`), 404, 'ResourceNotFound');

  const reader = await server.principal('storage reader', { id: READER, scope: GROUP });
  for (const action of ['listKeys', 'regenerateKey', 'ListAccountSas', 'ListServiceSas', 'revokeUserDelegationKeys']) {
    const answer = await server.request('POST', `${account('keyed1')}/${action}`, {
      ...{ apiVersion: API, body: {}, token: reader.token },
    });
    assertError(answer, 403, 'AuthorizationFailed', /action 'Microsoft\.Storage\/storageAccounts\//);
  }
});

test('a server with another storage.key says so, and can renew a key', async () => {
  await made('foreign1');
  const root = await mkdtemp(join(tmpdir(), 'kiln-foreign-'));
  try {
    const { kysely } = server.service.database;
    const account_ = { id: account('foreign1') };
    await assert.rejects(requireKeys(kysely, { root }, account_), {
      code: 'StateUnwritable',
      hint: /another storage\.key: put that file into the state directory, or renew the key/,
    });
    for (const name of KEY_NAMES) await renewKey(kysely, { root }, account_, name);
    assert.equal((await readKeys(kysely, { root }, account_)).length, 2);
    await assert.rejects(readKeys(kysely, server.service.home, account_), { code: 'StateUnwritable' });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});

test('Resource Manager makes signatures', async () => {
  await made('signed1');
  const expiry = { signedExpiry: '2099-01-01T00:00:00.0000000Z', signedPermission: 'rl' };
  const ofAccount = await call('POST', `${account('signed1')}/ListAccountSas`, {
    ...{ ...expiry, signedServices: 'b', signedResourceTypes: 'sco', keyToSign: 'key2', signedProtocol: 'https' },
  });
  assert.equal(ofAccount.status, 200, ofAccount.text);
  const { accountSasToken } = ofAccount.body as { accountSasToken: string };
  assert.match(accountSasToken, /^sv=2021-12-02&sp=rl&se=2099-01-01T00%3A00%3A00Z&spr=https&ss=b&srt=sco&sig=[\w%]+$/);
  const ofContainer = await call('POST', `${account('signed1')}/ListServiceSas`, {
    ...{ ...expiry, canonicalizedResource: '/blob/signed1/box', signedResource: 'c' },
  });
  assert.match((ofContainer.body as { serviceSasToken: string }).serviceSasToken, /&sr=c&sig=/);
  for (const [action, body] of [
    ['ListAccountSas', { ...expiry, signedServices: 'b' }],
    ['ListAccountSas', { signedServices: 'b', signedResourceTypes: 's', signedPermission: 'r' }],
    ['ListAccountSas', { ...expiry, signedServices: 'b', signedResourceTypes: 's', signedExpiry: 'soon' }],
    ['ListServiceSas', { ...expiry, canonicalizedResource: '/blob/another1/box' }],
    ['ListServiceSas', { ...expiry, canonicalizedResource: '/blob/signed1/box', signedResource: 'b' }],
  ] as const)
    assertError(await call('POST', `${account('signed1')}/${action}`, body), 400, 'InvalidParameter');
});

test('containers are made, changed, listed and deleted', async () => {
  await made('boxes1', { ...PLAIN, properties: { allowBlobPublicAccess: false } });
  const service = `${account('boxes1')}/blobServices/default`;
  const container = (name: string) => `${service}/containers/${name}`;
  assert.equal((await call('GET', service)).status, 200);
  assert.equal(((await call('GET', `${account('boxes1')}/blobServices`)).body as { value: unknown[] }).value.length, 1);
  assertError(await call('GET', `${account('boxes1')}/blobServices/other`), 404, 'ResourceNotFound');
  assert.equal((await call('PUT', service, { properties: { isVersioningEnabled: false } })).status, 200);
  assertError(await call('PUT', service, { properties: { isVersioningEnabled: true } }), 400, 'NotSupported');

  const first = await call('PUT', container('one'), { properties: { metadata: { a: 'b' } } });
  assert.equal(first.status, 201, first.text);
  const { properties, etag } = first.body as { properties: Record<string, unknown>; etag: string };
  assert.match(etag, /^"0x/);
  assert.deepEqual(
    [properties.publicAccess, properties.metadata, properties.leaseState],
    ['None', { a: 'b' }, 'Available'],
  );
  assert.equal((await call('PUT', container('one'), {})).status, 200);
  assert.deepEqual(
    ((await call('GET', container('one'))).body as { properties: Record<string, unknown> }).properties.metadata,
    { a: 'b' },
  );
  assertError(await call('PUT', container('No'), {}), 400, 'InvalidParameter');
  assertError(
    await call('PUT', container('open'), { properties: { publicAccess: 'Blob' } }),
    409,
    'PublicAccessNotPermitted',
  );
  assertError(await call('PATCH', container('open'), { properties: {} }), 404, 'ResourceNotFound');
  await call('PATCH', account('boxes1'), { properties: { allowBlobPublicAccess: true } });
  assert.equal((await call('PUT', container('open'), { properties: { publicAccess: 'Blob' } })).status, 201);
  const closed = await call('PATCH', container('open'), { properties: { publicAccess: 'None' } });
  assert.equal((closed.body as { properties: Record<string, unknown> }).properties.publicAccess, 'None');

  for (const name of ['two', 'three']) await call('PUT', container(name), {});
  const names = async (query = '') => {
    const answer = await call('GET', `${service}/containers${query}`);
    assert.equal(answer.status, 200, answer.text);
    const { value, nextLink } = answer.body as { value: { name: string }[]; nextLink?: string };
    return { names: value.map(({ name }) => name), nextLink };
  };
  assert.deepEqual((await names()).names, ['one', 'open', 'three', 'two']);
  assert.deepEqual((await names('?$filter=t')).names, ['three', 'two']);
  const page = await names('?$top=3');
  assert.deepEqual(page.names, ['one', 'open', 'three']);
  const rest = (await server.request('GET', page.nextLink!)).body as { value: { name: string }[] };
  assert.deepEqual(
    rest.value.map(({ name }) => name),
    ['two'],
  );
  assert.equal((await call('DELETE', container('two'))).status, 200);
  assert.equal((await call('DELETE', container('two'))).status, 204);
  assertError(await call('GET', container('two')), 404, 'ResourceNotFound');
  assertError(await call('GET', `${account('absent1')}/blobServices/default/containers`), 404, 'ResourceNotFound');
  assertError(
    await call('PUT', `${account('absent1')}/blobServices/default/containers/one`, {}),
    404,
    'ParentResourceNotFound',
  );
});

test('more containers at once than there are connections to the database', async () => {
  assert.equal((await put('containersatonce')).status, 200);
  const containers = `${account('containersatonce')}/blobServices/default/containers`;
  const names = Array.from({ length: 40 }, (_, index) => `${containers}/number-${index}`);
  for (const answer of await Promise.all(names.map(name => call('PUT', name, {}))))
    assert.equal(answer.status, 201, answer.text);
  const listed = await call('GET', containers);
  assert.equal((listed.body as { value: unknown[] }).value.length, names.length);
});

test('what lies in an account goes with it, alone or with its group', async () => {
  const { kysely } = server.service.database;
  const count = async (name: string) =>
    (await kysely.selectFrom('blob_container').select('id').where('account', '=', name).execute()).length;
  await made('gone1');
  await call('PUT', `${account('gone1')}/blobServices/default/containers/box`, {});
  assert.equal(await count('gone1'), 1);
  assert.equal((await call('DELETE', account('gone1'))).status, 200);
  assert.equal((await call('DELETE', account('gone1'))).status, 204);
  assert.equal(await count('gone1'), 0);
  assert.deepEqual(
    await kysely.selectFrom('storage_key').select('name').where('account_id', 'like', '%/gone1').execute(),
    [],
  );

  const group = `/subscriptions/${SUBSCRIPTION}/resourceGroups/short`;
  await server.request('PUT', group, { apiVersion: '2021-04-01', body: { location: 'westus' } });
  await call('PUT', account('gone2', group), PLAIN);
  const before = await call('POST', `${account('gone2', group)}/listKeys`);
  await call('PUT', `${account('gone2', group)}/blobServices/default/containers/box`, {});
  assert.equal(await count('gone2'), 1);
  await server.settled(await server.request('DELETE', group, { apiVersion: '2021-04-01' }));
  assert.equal(await count('gone2'), 0);
  await made('gone2');
  assert.notDeepEqual(await keysOf('gone2'), (before.body as { keys: unknown }).keys);
});

test('a template’s staging account has keys when somebody asks, and stays while a build writes there', async () => {
  const ground = await makeGround(server, 'Staged');
  const template = ground.template('staged');
  const made = await server.request('PUT', template, { apiVersion: NEWEST, body: plainTemplate(ground) });
  assert.equal(((await server.settled(made)).body as { status: string }).status, 'Succeeded');
  const shown = await server.request('GET', template, { apiVersion: NEWEST });
  const { exactStagingResourceGroup: staging } = bodyOf(shown).properties as { exactStagingResourceGroup: string };
  const listed = await call('GET', `${staging}/providers/Microsoft.Storage/storageAccounts`);
  const [found] = (listed.body as { value: Account[] }).value;
  assert.deepEqual([found?.sku.name, found?.kind], ['Standard_LRS', 'StorageV2']);
  assert.equal(found!.properties.keyCreationTime, undefined);
  const logs = `${found!.id}/blobServices/default/containers/packerlogs`;
  assert.equal((await call('PUT', logs, {})).status, 201);
  assertError(await call('DELETE', logs.replace('packerlogs', 'PackerLogs')), 409, 'Conflict');

  const asked = () => call('POST', `${found!.id}/listKeys`);
  // Of several who ask first, all get the same.
  const answers = await Promise.all([asked(), asked(), asked(), asked()]);
  assert.equal(answers[0]!.status, 200, answers[0]!.text);
  for (const answer of answers) assert.equal(answer.text, answers[0]!.text);
  assert.ok(bodyOf(await call('GET', found!.id)).properties.keyCreationTime);

  server.machines.hold();
  const run = await server.request('POST', `${template}/run`, { apiVersion: NEWEST });
  assert.equal(run.status, 202, run.text);
  assertError(
    await call('DELETE', found!.id),
    409,
    'Conflict',
    /the image template 'staged', whose staging account it is/,
  );
  assert.equal((await server.request('POST', `${template}/cancel`, { apiVersion: NEWEST })).status, 204);
  server.machines.release();
  await server.settled(run);
  assert.equal((await call('DELETE', found!.id)).status, 200);
});

test('a contributor may do all of this, in its group', async () => {
  const contributor = await server.principal('storage contributor', { id: CONTRIBUTOR, scope: GROUP });
  const as = (method: string, path: string, body?: object) =>
    server.request(method, path, { apiVersion: API, token: contributor.token, ...(body && { body }) });
  assert.equal((await as('PUT', account('theirs1'), PLAIN)).status, 200);
  assert.equal((await as('POST', `${account('theirs1')}/listKeys`)).status, 200);
  assert.equal((await as('DELETE', account('theirs1'))).status, 200);
  const elsewhere = account('theirs1', `/subscriptions/${OTHER}/resourceGroups/stores`);
  assertError(await as('PUT', elsewhere, PLAIN), 403, 'AuthorizationFailed');
});

test('no answer breaks Microsoft’s own description, and nothing was logged as an error', t => {
  // Storage's files know no errors at all, and write FULL, which the real service says, as Full.
  const known = /the status 4\d\d is not documented|\/permissions is none of Read, Full/;
  assert.deepEqual(
    server.violations.filter(violation => !known.test(violation)),
    [],
  );
  assert.deepEqual(server.errors, []);
  if (!server.contract) t.skip('the OpenAPI files are not here');
});
