/** Triggers on a real database. No guest boots: a run is an operation that waits in the queue, and ends as a worker's death would end it. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { errorBody, KilnError } from '../../arm/errors.ts';
import { parseId, resourceGroupId, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { type Database, openDatabase } from '../../database/connection.ts';
import { type Engine, openEngine } from '../../engine/engine.ts';
import { abandon } from '../../engine/operation.ts';
import { type Home, openHome } from '../../home.ts';
import type { MachineFactory, MachineShape } from '../../machines/machine.ts';
import { galleries } from '../compute/galleries.ts';
import { galleryImageVersions } from '../compute/gallery-image-versions.ts';
import { galleryImages } from '../compute/gallery-images.ts';
import { putValidated } from '../life.ts';
import type { ProviderEnvironment, ResourceCall } from '../provider.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { getResource, patchProperties } from '../store.ts';
import { imageTemplates } from './image-templates.ts';
import { activeRun, runHandler, startRun } from './run.ts';
import { MOST_TRIGGERS, triggersProvider } from './triggers.ts';
import { createTriggerHandler, deleteTriggerHandler } from './triggers-operations.ts';
import { lookAtTriggers, startTriggers } from './triggers-schedule.ts';
import { triggers } from './triggers-type.ts';

delete process.env.DATABASE_URL;

const S = '11111111-2222-3333-4444-555555555555';
const G = 'TriggerGroup';
const IDENTITY = resourceId(S, G, 'Microsoft.ManagedIdentity/userAssignedIdentities', 'builder');
const API = '2022-07-01';
const CALLER = { objectId: randomUUID(), clientId: randomUUID(), tenantId: randomUUID(), displayName: 'tester' };
const never = new AbortController().signal;

let home: Home;
let database: Database;
/** Submits, and serves nobody: what it submits stays in the queue until a test serves. */
let engine: Engine;
let environment: ProviderEnvironment;

/** What a run is told of the host; nothing starts here. */
const machines: MachineFactory = {
  shape: async ({ processors, memoryMiB, firmware }): Promise<MachineShape> => ({
    ...{ kind: 'qemu', accelerator: 'kvm', model: 'none/q35/host', processors, memoryMiB, firmware },
  }),
  start: async () => assert.fail('no guest boots in these tests'),
};

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-triggers-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log: () => undefined });
  engine = await openEngine({ database, home, handlers: handlers(), log: () => undefined });
  const options = { reviseTemplates: false, localDownloads: false };
  environment = { database: database.kysely, home, engine, machines, log: () => undefined, options };
  await put(resourceGroups, resourceGroupId(S, G), { location: 'eastus' });
});
after(async () => {
  await engine?.close();
  await database?.close();
  if (home) await rm(home.root, { recursive: true, force: true });
});

const runs = () =>
  runHandler({ log: () => undefined, database: database.kysely, home, machines, listener: () => undefined });
const handlers = () => [
  createTriggerHandler({ database: database.kysely, home }),
  deleteTriggerHandler({ database: database.kysely }),
  runs(),
];

const put = (definition: Parameters<typeof putValidated>[1], id: string, body: object, known: JsonObject = {}) =>
  putValidated(database.kysely, definition, { id, body, apiVersion: definition.apiVersions[0]!, known });

const PLATFORM = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' };
const VHD = { type: 'VHD', runOutputName: 'vhd' };

async function template(
  name: string,
  { source = PLATFORM, distribute = [VHD] }: { source?: object; distribute?: object[] } = {},
) {
  const id = resourceId(S, G, imageTemplates.type, name);
  await put(imageTemplates, id, {
    location: 'eastus',
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    properties: { source, distribute },
  });
  await patchProperties(database.kysely, id, { provisioningState: 'Succeeded' });
  return id;
}

/** The user's catalogue, as an editor would change it. */
const catalogue = (version: string) =>
  writeFile(home.catalogueFile, JSON.stringify({ 'My:linux:1': { file: 'disk.qcow2', version } }));

async function definition(name: string): Promise<string> {
  const gallery = resourceId(S, G, galleries.type, 'gallery');
  await put(galleries, gallery, { location: 'eastus' });
  const id = resourceId(S, G, galleryImages.type, 'gallery', name);
  const identifier = { publisher: 'P', offer: 'O', sku: name };
  await put(galleryImages, id, {
    location: 'eastus',
    properties: { osType: 'Linux', osState: 'Generalized', identifier },
  });
  return id;
}

const version = (definitionId: string, name: string, more: object = {}) =>
  put(
    galleryImageVersions,
    `${definitionId}/versions/${name}`,
    {
      location: 'eastus',
      properties: {
        publishingProfile: { targetRegions: [{ name: 'eastus' }], ...more },
        storageProfile: { source: { id: resourceId(S, G, 'Microsoft.Compute/images', 'i') } },
      },
    },
    { provisioningState: 'Succeeded' },
  );

const call = (id: string, apiVersion = API): ResourceCall => ({
  environment,
  caller: { ...CALLER, type: 'ServicePrincipal' },
  apiVersion,
  correlationId: randomUUID(),
  query: new URLSearchParams(),
  origin: 'https://localhost',
  may: async () => true,
  id: parseId(id),
});

const BODY = { properties: { kind: 'SourceImage' } };
const putTrigger = (id: string, body: JsonObject = BODY, apiVersion = API) =>
  triggersProvider.put!(call(id, apiVersion), body);

/** Executes what waits in the queue for one operation, as a worker would. */
async function perform(operation: string): Promise<void> {
  const row = await database.kysely
    .selectFrom('operation')
    .selectAll()
    .where('id', '=', operation)
    .executeTakeFirstOrThrow();
  const handler = handlers().find(({ kind }) => kind === row.kind)!;
  await handler.run({ id: operation, attempt: 1, signal: never }, row.input);
}

/** A provisioned trigger of a template. */
async function trigger(templateId: string, name = 'trg'): Promise<string> {
  const id = `${templateId}/triggers/${name}`;
  const { operation } = await putTrigger(id);
  await perform(operation!.id);
  return id;
}

const look = () => lookAtTriggers(environment, { olderThanSeconds: 0, signal: never });
const stateOf = (id: string) =>
  database.kysely.selectFrom('trigger_state').selectAll().where('id', '=', id.toLowerCase()).executeTakeFirstOrThrow();
const statusOf = async (id: string) => (await getResource(database.kysely, id))!.properties.status as JsonObject;

/** Ends a run that never began, the way a dead worker's is ended. */
async function endRun(runId: string, error?: KilnError): Promise<void> {
  await database.kysely.transaction().execute(async trx => {
    if (!error)
      await trx
        .insertInto('phase')
        .values({ run_id: runId, index: 0, kind: 'source', name: 's', state: 'Succeeded', key: null, bytes: null })
        .execute();
    const operation = await trx.selectFrom('operation').selectAll().where('id', '=', runId).executeTakeFirstOrThrow();
    await abandon(trx, runs(), operation, errorBody(error ?? new KilnError('WorkerLost', 'It died.')));
  });
}

const FAILED = new KilnError('StepFailed', 'A step failed.');
const startManually = (id: string) => startRun(engine, database.kysely, id, { where: 'anywhere', machines });

async function drop(...templates: string[]): Promise<void> {
  for (const id of templates) await database.kysely.deleteFrom('resource').where('id', '=', id.toLowerCase()).execute();
}

async function refused(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(promise, error => {
    assert.ok(error instanceof KilnError);
    assert.match(error.message, message);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

test('a trigger is made, shown, put again and deleted as operations', async t => {
  await catalogue('1.0.0');
  const owner = await template('life');
  const id = `${owner}/triggers/trg`;
  const serving = await openEngine({ database, home, handlers: handlers(), log: () => undefined });
  t.after(() => serving.close());
  await serving.serve({ concurrency: 1 });
  const wait = async (operation: string) => await serving.wait(operation, { signal: AbortSignal.timeout(30_000) });

  const made = await putTrigger(id, { location: 'East US', properties: { kind: 'SourceImage' } });
  assert.equal(made.status, 201);
  assert.equal(made.operation?.location, 'eastus');
  assert.deepEqual(await triggersProvider.show!(made.resource!, call(id)), {
    properties: { kind: 'SourceImage', provisioningState: 'Creating' },
  });
  const created = await wait(made.operation!.id);
  assert.equal(created.status, 'Succeeded');
  assert.equal(created.caller, CALLER.objectId);

  const shown = JSON.stringify(await triggersProvider.show!((await getResource(database.kysely, id))!, call(id)));
  // As recorded, order included.
  assert.match(
    shown,
    /^\{"properties":\{"kind":"SourceImage","provisioningState":"Succeeded","status":\{"code":"Healthy","message":"Trigger is active","time":"[0-9T:.-]+Z"\}\}\}$/,
  );
  assert.equal((await stateOf(id)).seen_version, 'My:linux:1 1.0.0');

  await database.kysely.updateTable('trigger_state').set({ failures: 2 }).where('id', '=', id.toLowerCase()).execute();
  const again = await putTrigger(id, BODY, '2025-10-01');
  assert.equal(again.status, 200);
  assert.equal(again.resource?.properties.provisioningState, 'Updating');
  assert.equal((await wait(again.operation!.id)).status, 'Succeeded');
  assert.equal((await stateOf(id)).failures, 2, 'putting it again forgets nothing');

  const removed = await triggersProvider.remove!(call(id));
  assert.equal(removed.status, 202);
  assert.equal((await wait(removed.operation!.id)).status, 'Succeeded');
  assert.equal(await getResource(database.kysely, id), undefined);
  const states = await database.kysely.selectFrom('trigger_state').selectAll().execute();
  assert.deepEqual(states, []);
  await drop(owner);
});

test('a trigger whose source does not exist fails, and can be put again', async () => {
  await catalogue('1.0.0');
  const owner = await template('gone', { source: { ...PLATFORM, offer: 'nowhere' } });
  const id = `${owner}/triggers/trg`;
  const { operation } = await putTrigger(id);
  await assert.rejects(perform(operation!.id), { code: 'SourceNotFound' });
  assert.equal((await getResource(database.kysely, id))!.properties.provisioningState, 'Failed');
  assert.deepEqual(await look(), []);
  await writeFile(home.catalogueFile, JSON.stringify({ 'My:nowhere:1': { file: 'disk.qcow2', version: '1.0.0' } }));
  const again = await putTrigger(id);
  await perform(again.operation!.id);
  assert.equal((await statusOf(id)).code, 'Healthy');
  await drop(owner);
});

test('only what can be watched gets a trigger', async () => {
  await catalogue('1.0.0');
  const good = await template('good');
  const from = await definition('from');
  const latest = { type: 'SharedImageVersion', imageVersionId: `${from}/versions/latest` };
  const shared = (galleryImageId: string) => ({
    type: 'SharedImage',
    runOutputName: 'r',
    galleryImageId,
    replicationRegions: ['eastus'],
  });
  const t = (owner: string, name = 'x') => `${owner}/triggers/${name}`;

  await refused(
    putTrigger(t(good), { properties: { kind: 'Timer' } }),
    'ValidationFailed',
    /^Validation failed: 'Trigger': Field 'properties\.kind' has a bad value: 'Timer'\./,
  );
  await refused(putTrigger(t(good), { properties: { kind: 'sourceimage' } }), 'ValidationFailed', /'sourceimage'/);
  await refused(putTrigger(t(good), {}), 'ValidationFailed', /Missing field 'properties'/);
  await refused(putTrigger(t(good), { properties: [] as never }), 'ValidationFailed', /'properties' has a bad value/);
  await refused(putTrigger(t(good), { ...BODY, more: 1 }, '2024-02-01'), 'ValidationFailed', /unknown field "more"/);
  await refused(
    putTrigger(t(good), { ...BODY, location: 'westus' }),
    'ValidationFailed',
    /The location in the trigger must be the same as the location in the image template: 'eastus', not 'westus'/,
  );
  await refused(putTrigger(t(good, 'a b')), 'ValidationFailed', /name/);
  await refused(putTrigger(t(resourceId(S, G, imageTemplates.type, 'nobody'))), 'ParentResourceNotFound', /nobody/);
  assert.equal(
    (await putTrigger(t(good), { ...BODY, more: 1 })).status,
    201,
    'older api-versions ignore what they do not know',
  );
  await refused(
    putTrigger(t(good, 'second')),
    'Conflict',
    /can have one trigger of kind 'SourceImage', and 'good' has 'x' already/,
  );
  await refused(
    putTrigger(t(good), { properties: { kind: 'Timer' } }),
    'PropertyChangeNotAllowed',
    /trigger\.properties\.kind/,
  );

  const pinned = await template('pinned', { source: { ...PLATFORM, version: '1.0.0' } });
  await refused(putTrigger(t(pinned)), 'ValidationFailed', /version '1\.0\.0' of a platform image, never gets newer/);
  const exact = await template('exact', { source: { ...latest, imageVersionId: `${from}/versions/1.0.0` } });
  await refused(putTrigger(t(exact)), 'ValidationFailed', /version '1\.0\.0' of a gallery image, never gets newer/);
  const managed = await template('managed', {
    source: { type: 'ManagedImage', imageId: resourceId(S, G, 'Microsoft.Compute/images', 'i') },
  });
  await refused(putTrigger(t(managed)), 'ValidationFailed', /a managed image, never gets newer/);
  const explicit = await template('explicit', { distribute: [shared(`${await definition('to')}/versions/1.2.3`)] });
  await refused(putTrigger(t(explicit)), 'ValidationFailed', /one version '1\.2\.3'/);
  const loop = await template('loop', {
    source: latest,
    distribute: [VHD, shared(from.toUpperCase().replace('/SUBSCRIPTIONS/', '/subscriptions/'))],
  });
  await refused(putTrigger(t(loop)), 'ValidationFailed', /each build would start the next one/);
  const fine = await template('fine', { source: latest, distribute: [shared(await definition('to'))] });
  assert.equal((await putTrigger(t(fine))).status, 201);

  for (const state of ['Creating', 'Updating', 'Failed', 'Deleting']) {
    const unready = await template(`unready-${state}`);
    await patchProperties(database.kysely, unready, { provisioningState: state });
    await refused(putTrigger(t(unready)), 'Conflict', new RegExp(`'unready-${state}' is '${state}'`));
    await drop(unready);
  }
  await patchProperties(database.kysely, t(good), { provisioningState: 'Deleting' });
  await refused(putTrigger(t(good)), 'Conflict', /being deleted/);
  await drop(good, pinned, exact, managed, explicit, loop, fine);
});

test('of two triggers that are put at once, one is made', async () => {
  await catalogue('1.0.0');
  const owner = await template('both');
  const ends = await Promise.allSettled(['one', 'two'].map(name => putTrigger(`${owner}/triggers/${name}`)));
  assert.deepEqual(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  await drop(owner);
});

test('a region of a subscription has 100 triggers', async () => {
  await catalogue('1.0.0');
  const names = Array.from({ length: MOST_TRIGGERS + 1 }, (_, index) => `many-${index}`);
  const owners: string[] = [];
  for (const name of names) owners.push(await template(name));
  for (const owner of owners.slice(0, MOST_TRIGGERS)) await putTrigger(`${owner}/triggers/t`);
  const last = `${owners.at(-1)}/triggers/t`;
  await refused(putTrigger(last), 'Conflict', /has 100 triggers in the region 'eastus' already/);
  assert.equal(await getResource(database.kysely, last), undefined);
  assert.equal((await putTrigger(`${owners[0]}/triggers/t`)).status, 200, 'one that is there can be put again');
  await drop(owners[1]!);
  assert.equal((await putTrigger(last)).status, 201);
  await drop(...owners);
});

test('a new version of a catalogue entry starts one run', async () => {
  await catalogue('1.0.0');
  const owner = await template('catalogue');
  const id = await trigger(owner);
  assert.deepEqual(await look(), [], 'what was there when the trigger was made has been seen');
  await catalogue('1.0.1');
  const [run, ...more] = await look();
  assert.deepEqual(more, []);
  assert.equal((await activeRun(database.kysely, owner))?.id, run);
  const operation = await database.kysely
    .selectFrom('operation')
    .selectAll()
    .where('id', '=', run!)
    .executeTakeFirstOrThrow();
  assert.equal(operation.kind, runs().kind);
  assert.equal(operation.status, 'NotStarted');
  assert.equal(operation.worker, null);
  const state = await stateOf(id);
  assert.equal(state.seen_version, 'My:linux:1 1.0.1');
  assert.equal(state.last_run_id, run);
  assert.ok(state.fired_at);
  assert.deepEqual(await look(), []);
  await endRun(run!);
  assert.deepEqual(await look(), [], 'one version, one run');
  await catalogue('1.0.0');
  assert.deepEqual(await look(), [], 'an older version is no news');
  await catalogue('1.0.10');
  assert.equal((await look()).length, 1, 'versions are numbers, not text');
  await drop(owner);
});

test('a version that comes during a run is built after it', async () => {
  await catalogue('2.0.0');
  const owner = await template('busy');
  const id = await trigger(owner);
  const manual = await startManually(owner);
  await catalogue('2.1.0');
  assert.deepEqual(await look(), []);
  assert.equal((await stateOf(id)).seen_version, 'My:linux:1 2.0.0');
  await catalogue('2.2.0');
  assert.deepEqual(await look(), []);
  await endRun(manual, new KilnError('Canceled', 'Enough.'));
  assert.equal((await stateOf(id)).checked_at, null, 'the end makes it due');
  const runsStarted = await lookAtTriggers(environment, { olderThanSeconds: 3600, signal: never });
  assert.equal(runsStarted.length, 1);
  assert.equal((await stateOf(id)).seen_version, 'My:linux:1 2.2.0');
  await endRun(runsStarted[0]!);
  assert.deepEqual(await look(), []);
  await drop(owner);
});

test('gallery versions count as latest does: excluded ones and other regions are none', async () => {
  const from = await definition('watched');
  const owner = await template('gallery', {
    source: { type: 'SharedImageVersion', imageVersionId: `${from}/versions/latest` },
  });
  const id = await trigger(owner);
  assert.equal((await stateOf(id)).seen_version, `${from} none`);
  assert.deepEqual(await look(), []);
  await version(from, '1.0.0');
  const first = await look();
  assert.equal(first.length, 1, 'the first version of an empty definition is new');
  await endRun(first[0]!);
  await version(from, '2.0.0', { excludeFromLatest: true });
  assert.deepEqual(await look(), []);
  await version(from, '0.9.0');
  assert.deepEqual(await look(), []);
  await version(from, '1.0.1');
  const second = await look();
  assert.equal(second.length, 1);
  await endRun(second[0]!);
  await database.kysely.deleteFrom('resource').where('parent_id', '=', from.toLowerCase()).execute();
  assert.deepEqual(await look(), [], 'versions that go away start nothing');
  assert.equal((await stateOf(id)).seen_version, `${from} 1.0.1`);
  await drop(owner);
});

test('a source that is gone is told in the status; nothing fires, and it heals', async () => {
  await catalogue('3.0.0');
  const owner = await template('vanishing');
  const id = await trigger(owner);
  await writeFile(home.catalogueFile, '{}');
  assert.deepEqual(await look(), []);
  const status = await statusOf(id);
  assert.equal(status.code, 'SourceNotFound');
  assert.match(String(status.message), /^Trigger is active, but the source cannot be looked up: .*My:linux:1/);
  await catalogue('3.0.1');
  assert.equal((await look()).length, 1);
  assert.equal((await statusOf(id)).code, 'Healthy');
  await drop(owner);
});

test('three failed builds in a row turn a trigger off, a good manual one turns it on', async () => {
  await catalogue('4.0.0');
  const owner = await template('failing');
  const id = await trigger(owner);
  await endRun(await startManually(owner), FAILED);
  await endRun(await startManually(owner), FAILED);
  await endRun(await startManually(owner));
  assert.equal((await stateOf(id)).failures, 0, 'a good build ends the row');
  await endRun(await startManually(owner), FAILED);
  await endRun(await startManually(owner), new KilnError('Canceled', 'Enough.'));
  await catalogue('4.0.1');
  const [triggered] = await look();
  await endRun(triggered!, FAILED);
  assert.equal((await stateOf(id)).failures, 2, 'a canceled build counts neither way');
  assert.equal((await statusOf(id)).code, 'Healthy');
  await endRun(await startManually(owner), FAILED);
  const off = await statusOf(id);
  assert.equal(off.code, 'Deactivated');
  assert.match(
    String(off.message),
    /^Trigger is not active since \d{4}-.*: the last 3 builds of the template failed\. Run the template; when that build succeeds/,
  );
  await catalogue('4.0.2');
  assert.deepEqual(await look(), [], 'it is off');
  await endRun(await startManually(owner), FAILED);
  assert.deepEqual(await statusOf(id), off, 'since when it is off stays');
  await endRun(await startManually(owner));
  assert.equal((await statusOf(id)).code, 'Healthy');
  assert.equal((await look()).length, 1, 'what came meanwhile is not lost');
  await drop(owner);
});

test('several processes look at each trigger once an interval', async () => {
  await catalogue('5.0.0');
  const owners = await Promise.all(['p1', 'p2', 'p3', 'p4', 'p5'].map(name => template(name)));
  for (const owner of owners) await trigger(owner);
  await catalogue('5.0.1');
  const looks = await Promise.all(
    Array.from({ length: 4 }, () => lookAtTriggers(environment, { olderThanSeconds: 3600, signal: never })),
  );
  assert.equal(looks.flat().length, 5);
  const started = await database.kysely
    .selectFrom('run')
    .select('id')
    .where(
      'template_id',
      'in',
      owners.map(owner => owner.toLowerCase()),
    )
    .execute();
  assert.equal(started.length, 5);
  // Even where two look at the same trigger at once, a version starts one run.
  for (const { id } of started) await endRun(id);
  await catalogue('5.0.2');
  const together = await Promise.all(Array.from({ length: 4 }, look));
  assert.equal(together.flat().length, 5);
  await drop(...owners);
});

test('a template that is being changed or deleted is left alone', async () => {
  await catalogue('6.0.0');
  const owner = await template('changing');
  await trigger(owner);
  await catalogue('6.0.1');
  await patchProperties(database.kysely, owner, { provisioningState: 'Updating' });
  assert.deepEqual(await look(), []);
  await patchProperties(database.kysely, owner, { provisioningState: 'Succeeded' });
  assert.equal((await look()).length, 1);
  await drop(owner);
  assert.deepEqual(await look(), [], 'triggers go with their template');
});

test('the schedule looks at once when it starts, and again', async t => {
  await catalogue('7.0.0');
  const owner = await template('timed');
  await trigger(owner);
  await catalogue('7.0.1');
  const schedule = startTriggers({ environment, intervalSeconds: 1 });
  t.after(() => schedule.close());
  const next = async (before?: string): Promise<string> => {
    for (;;) {
      const run = await activeRun(database.kysely, owner);
      if (run && run.id !== before) return run.id;
      t.signal.throwIfAborted();
    }
  };
  const first = await next();
  await endRun(first);
  await catalogue('7.0.2');
  assert.notEqual(await next(first), first);
  await schedule.close();
  await drop(owner);
});

test('a trigger that is put again stays what it is, though its source is away', async () => {
  await catalogue('1.0.0');
  const id = await trigger(await template('put-again'));
  const before = await statusOf(id);
  await rm(home.catalogueFile);
  const { operation } = await putTrigger(id);
  await perform(operation!.id);
  const state = async () => (await getResource(database.kysely, id))!.properties.provisioningState;
  assert.equal(await state(), 'Succeeded');
  assert.deepEqual(await statusOf(id), before);
  assert.equal((await stateOf(id)).seen_version, 'My:linux:1 1.0.0');
  // Nor does an operation that nobody carries out change it.
  const second = (await putTrigger(id)).operation!;
  await database.kysely.transaction().execute(async trx => {
    const row = await trx.selectFrom('operation').selectAll().where('id', '=', second.id).executeTakeFirstOrThrow();
    await abandon(trx, handlers()[0]!, row, errorBody(new KilnError('Timeout', 'It took too long.')));
  });
  assert.equal(await state(), 'Succeeded');
});

test('a trigger whose worker goes is left to the next one', async () => {
  await catalogue('1.0.0');
  const id = `${await template('handed-over')}/triggers/t`;
  const { operation } = await putTrigger(id);
  const signal = AbortSignal.abort(new KilnError('WorkerLost', 'The server is closing.'));
  const handler = handlers()[0]!;
  await rm(home.catalogueFile);
  await assert.rejects(handler.run({ id: operation!.id, attempt: 1, signal }, { triggerId: id }));
  assert.equal((await getResource(database.kysely, id))!.properties.provisioningState, 'Creating');
  await catalogue('1.0.0');
  await perform(operation!.id);
  assert.equal((await getResource(database.kysely, id))!.properties.provisioningState, 'Succeeded');
});

test('the definition says that it is a child made by operations', () => {
  assert.equal(triggers.parent, imageTemplates.type);
  assert.deepEqual(triggers.apiVersions, ['2025-10-01', '2024-02-01', '2023-07-01', '2022-07-01']);
});
