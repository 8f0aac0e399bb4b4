/** Operations of templates and groups that run again because their worker died before it could say that they were done, and deletions that fail. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { parseId, resourceGroupId, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { OperationRow } from '../../database/schema.ts';
import { abandon, type OperationHandler } from '../../engine/operation.ts';
import { openService, type Service } from '../../service.ts';
import { putValidated } from '../life.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { deleteGroup, deleteGroupHandler } from '../resources/delete-group.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { getResource } from '../store.ts';
import { createHandler } from './create.ts';
import { deleteHandler } from './delete.ts';
import { imageTemplates } from './image-templates.ts';
import { imageTemplatesProvider as provider } from './provider.ts';
import { updateHandler } from './update.ts';

delete process.env.DATABASE_URL;
// The catalogue of this test is nobody else's.
delete process.env.KILN_CACHE;
const S = '11111111-2222-3333-4444-555555555555';
const G = 'Retried';
/** The last one in which a template may be without an identity. */
const API = '2019-05-01-preview';
const LOST = { code: 'WorkerLost', message: 'The worker died.' } as const;

let service: Service;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-retried-'));
  await chmod(root, 0o711); // PostgreSQL runs as another user when the tests run as root
  const options = { reviseTemplates: false, localDownloads: true };
  service = await openService({ home: root, log: () => undefined, machines: guestlessMachines(), options });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
  await group(G);
});
after(async () => {
  await service?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});

const store = () => service.database.kysely;

async function group(name: string): Promise<string> {
  const id = resourceGroupId(S, name);
  const apiVersion = resourceGroups.apiVersions[0]!;
  await putValidated(store(), resourceGroups, { id, body: { location: 'eastus' }, apiVersion });
  return id;
}

const call = (id: string): ResourceCall => ({
  environment: service.environment,
  caller: { objectId: randomUUID(), clientId: 'me', tenantId: randomUUID(), type: 'User', displayName: 'me' },
  id: parseId(id),
  apiVersion: API,
  correlationId: randomUUID(),
  query: new URLSearchParams(),
  origin: 'https://kiln.test',
  may: async () => true,
});

const BODY: JsonObject = {
  location: 'eastus',
  properties: {
    source: { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' },
    distribute: [{ type: 'VHD', runOutputName: 'vhd' }],
  },
};

const handlers = () =>
  [createHandler, updateHandler, deleteHandler, deleteGroupHandler].map(handler =>
    handler({ ...service.environment, engine: service.engine }),
  );
const handlerOf = ({ kind }: OperationRow): OperationHandler => handlers().find(one => one.kind === kind)!;

const rowOf = (id: string): Promise<OperationRow> =>
  store().selectFrom('operation').selectAll().where('id', '=', id).executeTakeFirstOrThrow();

const begun = async (answer: Answer | Promise<Answer>) => await rowOf((await answer).operation!.id);

/** What a worker does that dies before it can say that it is done. Nobody else does it: the engine serves nothing here. */
async function run({ id }: OperationRow, attempt = 1): Promise<OperationRow> {
  await store().updateTable('operation').set({ status: 'Running' }).where('id', '=', id).execute();
  const row = await rowOf(id);
  const { signal } = new AbortController();
  await handlerOf(row).run({ id, attempt, signal }, row.input);
  return row;
}

/** What a sweep does that finds nobody to run it again. @returns how the operation ended */
async function giveUp(row: OperationRow): Promise<string> {
  await store()
    .transaction()
    .execute(trx => abandon(trx, handlerOf(row), row, LOST));
  return (await rowOf(row.id)).status;
}

const begin = (id: string, more: JsonObject = {}) => begun(provider.put!(call(id), { ...BODY, ...more }));
const beginDelete = (id: string) => begun(provider.remove!(call(id)));
const tag = (id: string, value: string) => begun(provider.patch!(call(id), { tags: { value } }));
const templateId = (name: string) => resourceId(S, G, imageTemplates.type, name);

async function made(name: string): Promise<string> {
  const id = templateId(name);
  await run(await begin(id));
  assert.equal(await stateOf(id), 'Succeeded');
  return id;
}

async function stateOf(id: string): Promise<unknown> {
  return (await getResource(store(), id))?.properties.provisioningState;
}

test('a deletion that runs again leaves what was made anew', async () => {
  const id = await made('anew');
  const deletion = await run(await beginDelete(id));
  assert.equal(await getResource(store(), id), undefined);
  await run(await begin(id));
  await run(deletion, 2);
  assert.equal(await stateOf(id), 'Succeeded');
  // Nor where that is just being deleted, by another operation.
  await beginDelete(id);
  await run(deletion, 2);
  assert.equal(await stateOf(id), 'Deleting');
});

test('a deletion that is given up after it was done has succeeded', async () => {
  const id = await made('done');
  const deletion = await run(await beginDelete(id));
  const creation = await begin(id);
  assert.equal(await giveUp(deletion), 'Succeeded');
  assert.equal(await stateOf(id), 'Creating');
  await run(creation);
  assert.equal(await stateOf(id), 'Succeeded');
});

test('a deletion that is given up before it was done has failed, and the template is as before', async () => {
  const id = await made('kept');
  assert.equal(await giveUp(await beginDelete(id)), 'Failed');
  assert.equal(await stateOf(id), 'Succeeded');
});

test('a creation that runs again, or is given up, leaves what was made anew', async () => {
  const id = templateId('created');
  const creation = await run(await begin(id));
  await run(await beginDelete(id));
  const second = await begin(id);
  await run(creation, 2);
  assert.equal(await stateOf(id), 'Creating');
  await giveUp(creation);
  assert.equal(await stateOf(id), 'Creating');
  assert.equal(await giveUp(second), 'Failed');
  assert.equal(await stateOf(id), 'Failed');
});

test('a creation that is given up after it was done has succeeded', async () => {
  const id = templateId('there');
  assert.equal(await giveUp(await run(await begin(id))), 'Succeeded');
  assert.equal(await stateOf(id), 'Succeeded');
});

test('a change that runs again, or is given up, leaves the next change alone', async () => {
  const id = await made('changed');
  const first = await run(await tag(id, 'one'));
  const second = await tag(id, 'two');
  await run(first, 2);
  assert.equal(await stateOf(id), 'Updating');
  await giveUp(first);
  assert.equal(await stateOf(id), 'Updating');
  await run(second);
  const { tags, properties } = (await getResource(store(), id))!;
  assert.deepEqual([tags, properties.provisioningState], [{ value: 'two' }, 'Succeeded']);
});

test('the deletion of a group that runs again, or is given up, leaves what was made anew', async () => {
  const id = await group('Again');
  const deletion = await run(await rowOf(await deleteGroup(service.environment, id, 'me')));
  assert.equal(await getResource(store(), id), undefined);
  await group('Again');
  await run(deletion, 2);
  assert.equal(await stateOf(id), 'Succeeded');
  const other = await rowOf(await deleteGroup(service.environment, id, 'me'));
  await run(deletion, 2);
  assert.equal(await giveUp(deletion), 'Succeeded');
  assert.equal(await stateOf(id), 'Deleting');
  assert.equal(await giveUp(other), 'Failed');
  assert.equal(await stateOf(id), 'Failed');
});

test('a deletion that fails leaves the template as it was, and can be asked for again', async () => {
  const id = await made('stubborn');
  await sql`create function stay() returns trigger language plpgsql as 'begin raise exception ''It stays.''; end'`.execute(
    store(),
  );
  await sql`create trigger stay before delete on resource for each row execute function stay()`.execute(store());
  const failed = await beginDelete(id);
  await assert.rejects(run(failed), /It stays\./);
  assert.equal(await stateOf(id), 'Succeeded');
  // Nothing could be written back: the database was not itself.
  const silent = await beginDelete(id);
  await store()
    .updateTable('operation')
    .set({ status: 'Failed', ended_at: new Date() })
    .where('id', '=', silent.id)
    .execute();
  assert.equal(await stateOf(id), 'Deleting');
  const another = await beginDelete(id);
  assert.notEqual(another.id, silent.id);
  await assert.rejects(run(another), /It stays\./);
  assert.equal(await stateOf(id), 'Succeeded');
  await sql`drop function stay cascade`.execute(store());
  await run(await beginDelete(id));
  assert.equal(await getResource(store(), id), undefined);
});
