/** Resource Manager's own paths on a real database and engine, asked as the server asks: with a caller, without HTTP. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Caller } from '../arm/caller.ts';
import { LOCAL_SUBSCRIPTION, LOCAL_TENANT, resourceGroupId, resourceId } from '../arm/ids.ts';
import { CONTRIBUTOR, OWNER, READER } from '../arm/role-ids.ts';
import { isObject } from '../arm/shape.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { json } from '../database/json.ts';
import { type Engine, openEngine } from '../engine/engine.ts';
import { type Home, openHome } from '../home.ts';
import type { ImageManifest } from '../images/manifest.ts';
import { addImage, list } from '../images/store.ts';
import { type OpenRoles, openRoles } from '../providers/authorization/open-roles.ts';
import { galleries } from '../providers/compute/galleries.ts';
import { imageTemplates } from '../providers/image-builder/image-templates.ts';
import { putValidated } from '../providers/life.ts';
import { putIdentity } from '../providers/managed-identity/identity-principal.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import { deleteGroupHandler } from '../providers/resources/delete-group.ts';
import { ensureSubscription } from '../providers/resources/subscriptions.ts';
import { getResource } from '../providers/store.ts';
import { core } from './core.ts';
import { dispatch } from './dispatch.ts';
import { parsePath } from './request-path.ts';

delete process.env.DATABASE_URL;
const S = LOCAL_SUBSCRIPTION;
const V = '2021-04-01';
const ORIGIN = 'https://localhost:8443';
const GALLERY_API = '2023-07-03';

let home: Home;
let database: Database;
let engine: Engine;
let roles: OpenRoles;
let environment: ProviderEnvironment;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-core-'));
  await chmod(root, 0o711); // PostgreSQL runs as another user when the tests run as root
  home = await openHome({ home: join(root, 'home'), env: {} });
  const log = () => undefined;
  database = await openDatabase({ home, log });
  const later = {
    database: database.kysely,
    home,
    get engine() {
      return engine;
    },
  };
  const hold = {
    kind: 'hold',
    run: async ({ signal }: { signal: AbortSignal }) => await sleep(60_000, undefined, { signal }),
  };
  engine = await openEngine({ database, home, log, handlers: [deleteGroupHandler(later), hold] });
  await engine.serve({ concurrency: 1 });
  roles = await openRoles(database);
  const options = { reviseTemplates: false, localDownloads: false };
  environment = { database: database.kysely, home, engine, log, options } as unknown as ProviderEnvironment;
  await assign(admin, OWNER, '/');
});
after(async () => {
  await roles?.close();
  await engine?.close();
  await database?.close();
  await rm(join(home.root, '..'), { recursive: true, force: true });
});

const caller = (): Caller => ({
  objectId: randomUUID(),
  clientId: randomUUID(),
  tenantId: LOCAL_TENANT,
  type: 'ServicePrincipal',
  displayName: 'test',
});
const admin = caller();

async function assign(to: Caller, role: string, scope: string): Promise<void> {
  await database.kysely
    .insertInto('role_assignment')
    .values({
      id: randomUUID(),
      scope: scope.toLowerCase(),
      display_scope: scope,
      principal_id: to.objectId,
      principal_type: 'ServicePrincipal',
      role_definition_id: role,
    })
    .execute();
}

// biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into member by member
type Wire = any;

async function send(
  method: string,
  target: string,
  options: { body?: unknown; as?: Caller; version?: string | null; ifMatch?: string } = {},
): Promise<{ status: number; body: Wire; headers: Readonly<Record<string, string>> }> {
  const url = new URL(target, ORIGIN);
  const version = options.version === undefined ? V : options.version;
  if (version !== null && !url.searchParams.has('api-version')) url.searchParams.set('api-version', version);
  const request = {
    method,
    path: parsePath(url.pathname)!,
    url,
    query: url.searchParams,
    body: options.body,
    ifMatch: options.ifMatch,
    ifNoneMatch: undefined,
    accept: undefined,
    lastEventId: undefined,
    caller: options.as ?? admin,
    correlationId: randomUUID(),
    origin: ORIGIN,
    signal: new AbortController().signal,
  };
  const dispatcher = { environment, roles };
  const reply = (await core(dispatcher, request)) ?? (await dispatch(dispatcher, request));
  assert.ok(!('stream' in reply));
  return { status: reply.status, body: reply.body, headers: reply.headers ?? {} };
}

const groupPath = (name: string, subscription = S) => `/subscriptions/${subscription}/resourcegroups/${name}`;

async function group(name: string, body: object = {}): Promise<string> {
  await send('PUT', groupPath(name), { body: { location: 'westus', ...body } });
  return resourceGroupId(S, name);
}

async function gallery(groupName: string, name: string, body: object = {}): Promise<string> {
  const id = resourceId(S, groupName, 'Microsoft.Compute/galleries', name);
  await send('PUT', id, { body: { location: 'westus', ...body }, version: GALLERY_API });
  return id;
}

test('the tenant, its subscriptions and their regions', async () => {
  const other = randomUUID();
  await ensureSubscription(database.kysely, other, 'Other');
  const { body } = await send('GET', '/subscriptions', { version: '2019-11-01' });
  const found = body.value.find((one: Wire) => one.subscriptionId === S);
  assert.deepEqual([found.id, found.tenantId, found.state], [`/subscriptions/${S}`, LOCAL_TENANT, 'Enabled']);
  assert.equal(body.value.find((one: Wire) => one.subscriptionId === other).displayName, 'Other');
  assert.equal((await send('GET', `/subscriptions/${other}`)).body.displayName, 'Other');
  assert.equal((await send('GET', '/tenants')).body.value[0].tenantId, LOCAL_TENANT);
  const { value } = (await send('GET', `/subscriptions/${S}/locations`)).body;
  const east = value.find((one: Wire) => one.name === 'eastus2');
  assert.deepEqual([east.displayName, east.regionalDisplayName, east.type], ['East US 2', '(US) East US 2', 'Region']);
  assert.equal(value.find((one: Wire) => one.name === 'japaneast').regionalDisplayName, '(Asia Pacific) Japan East');
});

test('subscriptions that are none, and api-versions that are none', async () => {
  const refused = (target: string, code: string, version?: string | null) =>
    assert.rejects(send('GET', target, version === undefined ? {} : { version }), { code }, target);
  await refused('/subscriptions/mine', 'InvalidSubscriptionId');
  const nowhere = randomUUID();
  await assert.rejects(send('GET', groupPath('g', nowhere)), {
    code: 'SubscriptionNotFound',
    message: `The subscription '${nowhere}' could not be found.`,
  });
  await refused(`/subscriptions/${nowhere}/providers/Microsoft.Compute/images`, 'SubscriptionNotFound');
  for (const target of ['/subscriptions', '/tenants', `/subscriptions/${S}`, groupPath('g')]) {
    await refused(target, 'MissingApiVersionParameter', null);
    await refused(target, 'InvalidApiVersionParameter', '2020-13-99');
    await refused(target, 'InvalidApiVersionParameter', 'newest');
  }
  await refused(`/subscriptions/${S}/nonsense`, 'NotFound');
  await refused(`${groupPath('g')}/nonsense`, 'NotFound');
  await assert.rejects(send('POST', `/subscriptions/${S}/locations`), { code: 'MethodNotAllowed' });
});

test('a group is made, changed, found and listed', async () => {
  const path = groupPath('Life');
  await assert.rejects(send('GET', path), {
    code: 'ResourceGroupNotFound',
    message: "Resource group 'Life' could not be found.",
  });
  await assert.rejects(send('HEAD', path), { code: 'ResourceGroupNotFound' });
  const made = await send('PUT', path, { body: { location: 'West US', tags: { stage: 'Test', owner: 'me' } } });
  assert.equal(made.status, 201);
  assert.deepEqual(made.body, {
    id: `/subscriptions/${S}/resourceGroups/Life`,
    name: 'Life',
    type: 'Microsoft.Resources/resourceGroups',
    location: 'westus',
    tags: { stage: 'Test', owner: 'me' },
    properties: { provisioningState: 'Succeeded' },
  });
  assert.equal((await send('PUT', path.toUpperCase(), { body: { location: 'westus' } })).status, 200);
  assert.deepEqual(Object.keys((await send('GET', path)).body), ['id', 'name', 'type', 'location', 'properties']);
  assert.deepEqual((await send('PATCH', path, { body: { tags: { stage: 'Live' } } })).body.tags, { stage: 'Live' });
  assert.equal((await send('HEAD', path)).status, 204);
  const named = async (filter: string) =>
    (await send('GET', `/subscriptions/${S}/resourcegroups?$filter=${encodeURIComponent(filter)}`)).body.value.map(
      (one: Wire) => one.name,
    );
  assert.deepEqual(await named("tagName eq 'STAGE' and tagValue eq 'Live'"), ['Life']);
  assert.deepEqual(await named("tagName eq 'stage' and tagValue eq 'Test'"), []);
  await assert.rejects(named("size gt '3'"), { code: 'InvalidFilterInQueryString' });
  await group('Second');
  for (const top of ['1e1', ' 5', '0x2', '0', ''])
    await assert.rejects(send('GET', `/subscriptions/${S}/resourcegroups?$top=${encodeURIComponent(top)}`), {
      code: 'InvalidParameter',
    });
  const page = (await send('GET', `/subscriptions/${S}/resourcegroups?$top=1`)).body;
  assert.equal(page.value.length, 1);
  assert.notEqual((await send('GET', page.nextLink)).body.value[0].name, page.value[0].name);
});

test('groups that cannot be made', async () => {
  await group('fixed');
  const put = (name: string, body: unknown) => send('PUT', groupPath(name), { body });
  await assert.rejects(put('fixed', { location: 'eastus' }), {
    code: 'InvalidResourceGroupLocation',
    message: "Invalid resource group location 'eastus'. The Resource group already exists in location 'westus'.",
  });
  await assert.rejects(put('new', { location: 'atlantis' }), { code: 'LocationNotAvailableForResourceGroup' });
  await assert.rejects(put('new', {}), { code: 'LocationRequired' });
  await assert.rejects(put('new', undefined), { code: 'InvalidRequestContent' });
  await assert.rejects(put('ends.', { location: 'westus' }), { code: 'InvalidParameter' });
  await assert.rejects(put('new', { location: 'westus', tags: { a: 1 } }), { code: 'InvalidParameter' });
  await assert.rejects(send('PATCH', groupPath('fixed'), { body: { tags: ['a'] } }), { code: 'InvalidParameter' });
  await assert.rejects(send('PATCH', groupPath('none'), { body: {} }), { code: 'ResourceGroupNotFound' });
});

test('one who has a role on one group sees that one', async () => {
  const one = caller();
  await group('seen');
  await group('unseen');
  await group('aaa-unseen');
  await gallery('seen', 'g1');
  await gallery('unseen', 'g2');
  await assert.rejects(send('GET', `/subscriptions/${S}`, { as: one }), { code: 'AuthorizationFailed' });
  assert.deepEqual((await send('GET', '/subscriptions', { as: one })).body.value, []);
  await assign(one, READER, resourceGroupId(S, 'seen'));
  const names = async (path: string) =>
    (await send('GET', path, { as: one })).body.value.map((item: Wire) => item.name);
  const { body } = await send('GET', '/subscriptions', { as: one });
  assert.deepEqual(
    body.value.map((item: Wire) => item.subscriptionId),
    [S],
  );
  assert.deepEqual(await names(`/subscriptions/${S}/resourcegroups`), ['seen']);
  assert.deepEqual(await names(`/subscriptions/${S}/resources`), ['g1']);
  const galleriesOf = `/providers/Microsoft.Compute/galleries?api-version=${GALLERY_API}`;
  assert.deepEqual(await names(`/subscriptions/${S}${galleriesOf}`), ['g1']);
  // Pages are full, whatever of others lies between.
  for (const name of ['g0', 'g3']) await gallery('seen', name);
  for (const name of ['g1', 'g2']) await gallery('aaa-unseen', name);
  const first = (await send('GET', `/subscriptions/${S}${galleriesOf}&$top=1`, { as: one })).body;
  assert.deepEqual([first.value.length, first.value[0].name], [1, 'g0']);
  const second = (await send('GET', `${first.nextLink}`, { as: one })).body;
  assert.deepEqual([second.value.length, second.value[0].name], [1, 'g1']);
  assert.equal((await send('GET', second.nextLink, { as: one })).body.nextLink, undefined);
  await assert.rejects(send('GET', `/subscriptions/${S}/resourceGroups/unseen${galleriesOf}`, { as: one }), {
    code: 'AuthorizationFailed',
  });
  assert.deepEqual(await names(`/subscriptions/${S}/resources`), ['g0', 'g1', 'g3']);
  assert.equal((await send('GET', `/subscriptions/${S}/providers/Microsoft.Compute`, { as: one })).status, 200);
  assert.equal((await send('GET', groupPath('seen'), { as: one })).status, 200);
  await assert.rejects(send('GET', groupPath('unseen'), { as: one }), { code: 'AuthorizationFailed' });
  await assert.rejects(send('GET', `${groupPath('unseen')}/resources`, { as: one }), { code: 'AuthorizationFailed' });
  for (const method of ['PUT', 'PATCH', 'DELETE'])
    await assert.rejects(send(method, groupPath('seen'), { as: one, body: { location: 'westus' } }), {
      code: 'AuthorizationFailed',
    });
  await assert.rejects(send('POST', `/subscriptions/${S}/providers/Microsoft.Compute/register`, { as: one }), {
    code: 'AuthorizationFailed',
  });
});

test('resources of all types, filtered', async () => {
  await group('listed');
  await gallery('listed', 'web', { tags: { app: 'web' } });
  await gallery('listed', 'db', { tags: { app: 'db' } });
  const names = async (query: string, path = `/subscriptions/${S}`) =>
    (await send('GET', `${path}/resources?${query}`)).body.value.map((one: Wire) => one.name).sort();
  const filter = (text: string) => `$filter=${encodeURIComponent(text)}`;
  assert.deepEqual(await names('', groupPath('listed')), ['db', 'web']);
  assert.deepEqual(await names(filter("resourceGroup eq 'LISTED'")), ['db', 'web']);
  const galleries = "resourceType eq 'microsoft.compute/Galleries'";
  assert.deepEqual(await names(filter(`${galleries} and resourceGroup eq 'listed' and name eq 'web'`)), ['web']);
  assert.deepEqual(await names(filter("tagName eq 'app' and tagValue eq 'db'")), ['db']);
  assert.deepEqual(await names(filter("resourceType eq 'Microsoft.Compute/images'"), groupPath('listed')), []);
  assert.deepEqual(await names(filter("substringof('we', name)"), groupPath('listed')), ['web']);
  await assert.rejects(names(filter("colour eq 'red'")), { code: 'InvalidFilterInQueryString' });
  await assert.rejects(names('', groupPath('nowhere')), { code: 'ResourceGroupNotFound' });
  const [one] = (
    await send('GET', `${groupPath('listed')}/resources?$expand=createdTime,changedTime,provisioningState`)
  ).body.value;
  assert.equal(one.provisioningState, 'Succeeded');
  assert.ok(Date.parse(one.createdTime) <= Date.parse(one.changedTime));
});

test('the provider document: types with their api-versions, newest first', async () => {
  const { body } = await send('GET', `/subscriptions/${S}/providers/microsoft.virtualmachineimages`);
  assert.equal(body.namespace, 'Microsoft.VirtualMachineImages');
  assert.equal(body.registrationState, 'Registered');
  const types = new Map(body.resourceTypes.map((one: Wire) => [one.resourceType, one]));
  for (const type of ['imageTemplates', 'imageTemplates/runOutputs', 'imageTemplates/triggers', 'operations'])
    assert.ok(types.has(type), type);
  const { apiVersions, locations } = types.get('imageTemplates') as Wire;
  assert.deepEqual(apiVersions, imageTemplates.apiVersions);
  assert.deepEqual(apiVersions, apiVersions.toSorted().toReversed());
  assert.ok(locations.includes('East US'));
  const { value } = (await send('GET', `/subscriptions/${S}/providers`)).body;
  assert.ok(value.some((one: Wire) => one.namespace === 'Microsoft.Compute'));
  assert.equal((await send('GET', '/providers/Microsoft.Compute')).body.registrationState, undefined);
  await assert.rejects(send('GET', `/subscriptions/${S}/providers/Microsoft.Nonsense`), {
    code: 'InvalidResourceNamespace',
  });
});

test('a provider that was unregistered is not used until it is registered again', async () => {
  const own = randomUUID();
  await ensureSubscription(database.kysely, own);
  await send('PUT', groupPath('reg', own), { body: { location: 'westus' } });
  const provider = `/subscriptions/${own}/providers/Microsoft.Compute`;
  const put = () =>
    send('PUT', resourceId(own, 'reg', 'Microsoft.Compute/galleries', 'g'), {
      body: { location: 'westus' },
      version: GALLERY_API,
    });
  assert.equal((await send('POST', `${provider}/unregister`)).body.registrationState, 'Unregistered');
  await assert.rejects(put(), { code: 'MissingSubscriptionRegistration' });
  assert.equal((await send('POST', `${provider}/register`)).body.registrationState, 'Registered');
  assert.equal((await put()).status, 201);
  await assert.rejects(send('POST', `${provider}/unregister`), { code: 'Conflict' });
});

test('features are registered and shown', async () => {
  const path = `/subscriptions/${S}/providers/Microsoft.Features/providers/Microsoft.VirtualMachineImages/features`;
  const version = '2021-07-01';
  assert.equal((await send('GET', `${path}/Triggers`, { version })).body.properties.state, 'NotRegistered');
  const { body } = await send('POST', `${path}/triggers/register`, { version });
  assert.equal(body.properties.state, 'Registered');
  assert.equal(body.name, 'Microsoft.VirtualMachineImages/Triggers');
  assert.equal((await send('GET', `${path}/Triggers`, { version })).body.properties.state, 'Registered');
  const all = (await send('GET', path, { version })).body.value;
  assert.equal(all.find((one: Wire) => one.name === body.name).properties.state, 'Registered');
  assert.ok(
    (await send('GET', `/subscriptions/${S}/providers/Microsoft.Features/features`, { version })).status === 200,
  );
});

test('the operations of the image builder', async () => {
  const names = async (version: string) =>
    (await send('GET', '/providers/Microsoft.VirtualMachineImages/operations', { version })).body.value.map(
      (one: Wire) => one.name.replace('Microsoft.VirtualMachineImages/', ''),
    );
  const newest = [
    ...['register/action', 'unregister/action', 'imageTemplates/read', 'imageTemplates/write', 'imageTemplates/delete'],
    ...['imageTemplates/run/action', 'imageTemplates/cancel/action', 'imageTemplates/runOutputs/read'],
    ...['imageTemplates/triggers/read', 'imageTemplates/triggers/write', 'imageTemplates/triggers/delete'],
    ...['operations/read', 'locations/operations/read'],
  ];
  assert.deepEqual(await names('2025-10-01'), newest);
  assert.deepEqual(
    await names('2020-02-14'),
    newest.filter(name => !name.includes('triggers')),
  );
  await assert.rejects(names('2001-01-01'), { code: 'InvalidApiVersionParameter' });
});

/** Polls until the deletion has ended, as az does. */
async function deleted(path: string): Promise<void> {
  const { status, headers } = await send('DELETE', path);
  assert.equal(status, 202);
  assert.match(headers.location!, /\/operationresults\/[0-9a-f-]{36}\?api-version=/);
  assert.equal(headers['retry-after'], '1');
  for (const deadline = Date.now() + 30_000; ; await sleep(20)) {
    const polled = await send('GET', headers.location!);
    if (polled.status === 200) return;
    assert.equal(polled.status, 202);
    assert.ok(Date.now() < deadline, 'The group is still being deleted.');
  }
}

const TEMPLATE = {
  location: 'westus',
  properties: {
    source: { type: 'PlatformImage', publisher: 'p', offer: 'o', sku: 's', version: 'latest' },
    distribute: [{ type: 'VHD', runOutputName: 'disk' }],
  },
};

test('a group goes with all that is in it, and with what that had elsewhere', async () => {
  const id = await group('Doomed');
  const staging = await group('IT_Doomed_t', { tags: { createdBy: 'AzureVMImageBuilder' } });
  await group('Neighbour');
  await gallery('Doomed', 'gal');
  await send('PUT', resourceId(S, 'Doomed', 'Microsoft.Compute/galleries/images', 'gal', 'def'), {
    body: {
      location: 'westus',
      properties: { osType: 'Linux', osState: 'Generalized', identifier: { publisher: 'P', offer: 'O', sku: 'S' } },
    },
    version: GALLERY_API,
  });
  const identity = await database.kysely.transaction().execute(trx =>
    putIdentity(trx, {
      id: resourceId(S, 'Doomed', 'Microsoft.ManagedIdentity/userAssignedIdentities', 'ide1'),
      body: { location: 'westus' },
      apiVersion: '2023-01-31',
    }),
  );
  const principalId = identity.resource.properties.principalId as string;
  await assign({ ...admin, objectId: principalId }, CONTRIBUTOR, resourceGroupId(S, 'Neighbour'));
  await assign(caller(), READER, resourceId(S, 'Doomed', 'Microsoft.Compute/galleries', 'gal'));
  await assign(caller(), READER, id);
  const template = await putValidated(database.kysely, imageTemplates, {
    id: resourceId(S, 'Doomed', imageTemplates.type, 't'),
    body: TEMPLATE,
    apiVersion: '2022-02-14',
    local: true,
    known: {
      provisioningState: 'Succeeded',
      exactStagingResourceGroup: staging,
      staging: { made: true, account: 'x' },
    },
  });
  const disk = join(home.root, 'disk.raw');
  await writeFile(disk, 'a disk');
  for (const owner of [id, resourceGroupId(S, 'Neighbour')]) await addImage(home.root, disk, imageManifest(owner));

  await deleted(groupPath('doomed'));

  await assert.rejects(send('GET', groupPath('Doomed')), { code: 'ResourceGroupNotFound' });
  const left = await database.kysely
    .selectFrom('resource')
    .select('id')
    .where('resource_group', 'in', ['doomed', 'it_doomed_t'])
    .execute();
  assert.deepEqual(left, []);
  assert.equal(template.created, true);
  const assigned = await database.kysely
    .selectFrom('role_assignment')
    .select('scope')
    .where(eb => eb.or([eb('scope', 'like', '%/doomed%'), eb('principal_id', '=', principalId)]))
    .execute();
  assert.deepEqual(assigned, []);
  const principals = await database.kysely
    .selectFrom('principal')
    .select('object_id')
    .where('object_id', '=', principalId)
    .execute();
  assert.deepEqual(principals, []);
  assert.deepEqual(
    (await list(home.root)).map(({ manifest }) => manifest.id),
    [resourceId(S, 'Neighbour', 'Microsoft.Compute/images', 'web')],
  );
  await assert.rejects(send('DELETE', groupPath('Doomed')), { code: 'ResourceGroupNotFound' });
  assert.equal((await send('PUT', groupPath('Doomed'), { body: { location: 'eastus' } })).status, 201);
});

function imageManifest(groupId: string): ImageManifest {
  return {
    schema: 1,
    id: `${groupId}/providers/Microsoft.Compute/images/web`,
    kind: 'ManagedImage',
    name: 'web',
    location: 'westus',
    format: 'raw',
    file: 'disk.raw',
    virtualSize: 6,
    allocatedSize: 6,
    sha256: '0'.repeat(64),
    createdAt: new Date().toISOString(),
    runId: randomUUID(),
    templateId: `${groupId}/providers/${imageTemplates.type}/t`,
    source: { name: 's', sha256: '0'.repeat(64), exactVersion: '1' },
    osType: 'Linux',
    hyperVGeneration: 'V1',
    firmware: 'bios',
    tags: {},
  };
}

test('what is still being made in a group is canceled when the group is deleted', async () => {
  const id = await group('Busy');
  const running = await database.kysely.transaction().execute(trx =>
    engine.submit(trx, {
      kind: 'hold',
      resourceId: `${id.toLowerCase()}/providers/m.x/a/b`,
      input: {},
      where: 'here',
    }),
  );
  await deleted(groupPath('Busy'));
  const { status } = await database.kysely
    .selectFrom('operation')
    .select('status')
    .where('id', '=', running)
    .executeTakeFirstOrThrow();
  assert.equal(status, 'Canceled');
});

test('a group in which something is being built stays', async () => {
  const id = await group('Building');
  const templateId = `${id}/providers/${imageTemplates.type}/web`.toLowerCase();
  const operation = await database.kysely
    .transaction()
    .execute(trx => engine.submit(trx, { kind: 'hold', resourceId: null, input: {}, where: 'here' }));
  await database.kysely
    .insertInto('run')
    .values({ id: operation, operation_id: operation, template_id: templateId, template_name: 'web' })
    .execute();
  await assert.rejects(
    send('DELETE', groupPath('Building')),
    (error: Error & { code: string }) => error.code === 'Conflict' && error.message.includes(operation),
  );
  assert.equal((await send('GET', groupPath('Building'))).body.properties.provisioningState, 'Succeeded');
  await database.kysely.updateTable('run').set({ state: 'Canceled', ended_at: new Date() }).execute();
  await engine.cancel(operation);
});

test('a group that is being deleted takes nothing new', async () => {
  const id = await group('Going');
  await gallery('Going', 'g');
  await database.kysely
    .updateTable('resource')
    .set({ properties: json({ provisioningState: 'Deleting' }) })
    .where('id', '=', id.toLowerCase())
    .execute();
  const refusal = {
    code: 'ResourceGroupBeingDeleted',
    message: "The resource group 'Going' is in deprovisioning state and cannot perform this operation.",
  };
  const body = { location: 'westus' };
  const target = resourceId(S, 'Going', 'Microsoft.Compute/galleries', 'h');
  await assert.rejects(send('PUT', target, { body, version: GALLERY_API }), refusal);
  await assert.rejects(send('PUT', groupPath('Going'), { body }), refusal);
  await assert.rejects(send('PATCH', groupPath('Going'), { body: { tags: {} } }), refusal);
  const assignment = `${id}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
  await assert.rejects(send('PUT', assignment, { body: {}, version: '2022-04-01' }), refusal);
  // Nor without the front door: by a build.
  const request = { id: target, body, apiVersion: GALLERY_API };
  await assert.rejects(putValidated(database.kysely, galleries, request), refusal);
  assert.equal(
    (await send('GET', resourceId(S, 'Going', 'Microsoft.Compute/galleries', 'g'), { version: GALLERY_API })).status,
    200,
  );
  const stranger = caller();
  await assert.rejects(send('PUT', target, { body, version: GALLERY_API, as: stranger }), {
    code: 'AuthorizationFailed',
  });
  // Its deletion can be asked for again; it goes on.
  await deleted(groupPath('Going'));
});

test('operations are polled by those who began them or may read what they are about', async () => {
  await group('Polled');
  const { headers } = await send('DELETE', groupPath('Polled'));
  const id = /operationresults\/([^?]+)/.exec(headers.location!)![1]!;
  await engine.wait(id, { signal: AbortSignal.timeout(30_000) });
  const status = `/subscriptions/${S}/providers/Microsoft.Compute/locations/westus/capsOperations/${id}`;
  const { body } = await send('GET', status);
  assert.ok(isObject(body));
  assert.equal(body.status, 'Succeeded');
  assert.equal((await send('GET', `${status}?monitor=true`)).status, 200);
  await assert.rejects(send('GET', status, { as: caller() }), { code: 'NotFound' });
  await assert.rejects(send('GET', headers.location!, { as: caller() }), { code: 'NotFound' });
  await assert.rejects(send('GET', `/subscriptions/${S}/operationresults/none`), { code: 'NotFound' });
});

test('a deletion that fails says why, and the group can be deleted again', async () => {
  const id = await group('Stubborn');
  const { headers } = await send('DELETE', groupPath('Stubborn'));
  const operation = /operationresults\/([^?]+)/.exec(headers.location!)![1]!;
  await engine.wait(operation, { signal: AbortSignal.timeout(30_000) });
  await group('Stubborn');
  const error = { code: 'DiskFull', message: 'No space.' } as const;
  await database.kysely
    .updateTable('operation')
    .set({ status: 'Failed', error: json(error) })
    .where('id', '=', operation)
    .execute();
  await assert.rejects(send('GET', headers.location!), { code: 'DiskFull', message: 'No space.' });
  await deleted(groupPath('Stubborn'));
  await assert.rejects(send('GET', id), { code: 'ResourceGroupNotFound' });
});

test('two that make a group at once in different places: one of them is told', async () => {
  const results = await Promise.allSettled(
    ['westus', 'eastus', 'westus', 'eastus'].map(location => send('PUT', groupPath('Race'), { body: { location } })),
  );
  const { location } = (await send('GET', groupPath('Race'))).body;
  const outcomes = results.map(one => (one.status === 'fulfilled' ? one.value.status : one.reason.code)).sort();
  assert.deepEqual(outcomes, [200, 201, 'InvalidResourceGroupLocation', 'InvalidResourceGroupLocation'].sort());
  assert.ok(['westus', 'eastus'].includes(location));
});

test('an ETag is sent, and a change can demand it', async () => {
  const path = groupPath('Tagged');
  const body = { location: 'westus' };
  const made = await send('PUT', path, { body });
  const gallery = resourceId(S, 'Tagged', galleries.type, 'g');
  const first = await send('PUT', gallery, { body, version: GALLERY_API });
  for (const [target, tag, version] of [
    [path, made.headers.etag, V],
    [gallery, first.headers.etag, GALLERY_API],
  ] as const) {
    assert.match(tag!, /^"[-0-9a-f]{36}"$/);
    assert.equal((await send('GET', target, { version })).headers.etag, tag);
    assert.equal((await send('HEAD', target, { version })).headers.etag, tag);
    const changed = await send('PATCH', target, { body: { tags: { a: 'b' } }, version, ifMatch: tag! });
    assert.notEqual(changed.headers.etag, tag);
    for (const method of ['PUT', 'PATCH', 'DELETE'])
      await assert.rejects(send(method, target, { body, version, ifMatch: tag! }), { code: 'PreconditionFailed' });
    assert.deepEqual((await send('GET', target, { version })).body.tags, { a: 'b' });
  }
  const { etag } = (await send('GET', gallery, { version: GALLERY_API })).headers;
  assert.equal((await send('DELETE', gallery, { version: GALLERY_API, ifMatch: etag! })).status, 202);
});

test('a staging group that somebody deletes is forgotten: one made anew under its name is nobody’s', async () => {
  await send('PUT', groupPath('Owner'), { body: { location: 'eastus' } });
  await send('PUT', groupPath('Staged'), { body: { location: 'eastus' } });
  const id = resourceId(S, 'Owner', imageTemplates.type, 't');
  await putValidated(database.kysely, imageTemplates, {
    id,
    body: TEMPLATE,
    apiVersion: '2022-02-14',
    local: true,
    known: {
      provisioningState: 'Succeeded',
      exactStagingResourceGroup: resourceGroupId(S, 'staged'),
      staging: { made: true, account: 'x' },
    },
  });
  await deleted(groupPath('Staged'));
  const { properties } = (await getResource(database.kysely, id))!;
  assert.deepEqual([properties.exactStagingResourceGroup, properties.staging], ['', undefined]);
});
