/** Uploads of VHDs as a part of runs, and runs that distribute again what another could not: real rows, layers and stores; machines without guests. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type BlobEndpoint, blobEndpoint, SIGNATURE } from '../../../test/wire/blob-endpoint.ts';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { openLayerStore } from '../../builds/layers/store.ts';
import { json } from '../../database/json.ts';
import { readFooter } from '../../disks/vhd.ts';
import { openService, type Service } from '../../service.ts';
import { ensureNeighbours } from '../ensure.ts';
import { getResource, patchProperties } from '../store.ts';
import { putTemplate } from './create.ts';
import { imageTemplates } from './image-templates.ts';
import { normaliseTemplate } from './normalise.ts';
import { startRun } from './run.ts';
import { runOutputResource } from './run-outputs.ts';
import { sourceOf } from './source-image.ts';
import { validateTemplate } from './validate.ts';

delete process.env.DATABASE_URL;
// The catalogue and the layers of this test are nobody else's.
delete process.env.KILN_CACHE;

const API = '2024-02-01';
const SOURCE = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' };
const IMAGE = resourceId(LOCAL_SUBSCRIPTION, 'retries', 'Microsoft.Compute/images', 'image');
const MANAGED = { type: 'ManagedImage', runOutputName: 'managed', imageId: IMAGE, location: 'eastus' };

let service: Service;
let endpoint: BlobEndpoint;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-retry-'));
  await chmod(root, 0o711);
  service = await openService({ home: root, log: () => undefined, machines: guestlessMachines() });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
  endpoint = await blobEndpoint();
});
after(async () => {
  await service?.close();
  await endpoint?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});

const store = () => service.database.kysely;
const vhdTo = (name: string, more: JsonObject = {}) => ({
  ...{ type: 'VHD', runOutputName: 'vhd', uri: endpoint.uri(name), ...more },
});

/** A template as `kiln build` makes it. */
async function made(name: string, properties: JsonObject, tags: Record<string, string> = {}): Promise<string> {
  endpoint.trouble = () => undefined;
  const id = resourceId(LOCAL_SUBSCRIPTION, 'retries', imageTemplates.type, name);
  const body = { location: 'eastus', tags, properties: { source: SOURCE, ...properties } };
  const checked = validateTemplate(body, { apiVersion: API, localFiles: true, identityOptional: true });
  const template = normaliseTemplate(checked.template, API);
  const guest = await sourceOf(template, { database: store(), home: service.home });
  await ensureNeighbours(store(), { templateId: id, template, guest, strict: false });
  const request = { id, body, apiVersion: API, local: true, where: 'here', home: service.home } as const;
  const { operation } = await putTemplate(service.engine, store(), request);
  assert.equal((await service.engine.wait(operation)).status, 'Succeeded');
  return id;
}

async function ran(id: string, retry?: string) {
  const options = { where: 'here', machines: service.machines, ...(retry !== undefined && { retry }) } as const;
  const runId = await startRun(service.engine, store(), id, options);
  await service.engine.wait(runId, { signal: AbortSignal.timeout(60_000) });
  const run = await store().selectFrom('run').selectAll().where('id', '=', runId).executeTakeFirstOrThrow();
  const phases = await store().selectFrom('phase').selectAll().where('run_id', '=', runId).orderBy('index').execute();
  return { ...run, phases: phases.map(({ kind, state, cached }) => `${kind} ${cached ? 'CACHED' : state}`) };
}

const outputOf = (id: string, name: string) =>
  store()
    .selectFrom('run_output')
    .selectAll()
    .where('id', '=', `${id}/runOutputs/${name}`.toLowerCase())
    .executeTakeFirst();

/** Nothing of a signature in anything that people are shown of a run, or that is kept of it. */
async function assertNoSecret(runId: string): Promise<void> {
  const lines = await store().selectFrom('log_line').select('text').where('run_id', '=', runId).execute();
  const run = await store().selectFrom('run').selectAll().where('id', '=', runId).execute();
  const phases = await store().selectFrom('phase').selectAll().where('run_id', '=', runId).execute();
  const outputs = await store().selectFrom('run_output').selectAll().where('run_id', '=', runId).execute();
  const log = await readFile(join(service.home.logs, runId, 'customization.log'), 'utf8').catch(() => '');
  const all = JSON.stringify([lines, run, phases, outputs, log]);
  assert.ok(!all.includes(SIGNATURE) && !all.includes(encodeURIComponent(SIGNATURE)));
}

test('a VHD is uploaded to its uri, with its tags, and the run output says where it is', async () => {
  const id = await made('uploads', {
    distribute: [vhdTo('out.vhd', { artifactTags: { team: 'images', 'a b': 'c' } })],
  });
  const run = await ran(id);
  assert.equal(run.state, 'Succeeded', run.message ?? '');
  const blob = endpoint.blobs.get('out.vhd')!;
  const output = (await outputOf(id, 'vhd'))!;
  assert.deepEqual(blob.metadata, { team: 'images', correlationid: run.id, kiln_fsverity: output.fsverity });
  const shown = endpoint.uri('out.vhd').split('?')[0];
  assert.deepEqual([output.artifact_uri, output.artifact_id, output.path], [shown, null, null]);
  assert.deepEqual(runOutputResource(output).properties, { artifactUri: shown, provisioningState: 'Succeeded' });
  const lines = await store().selectFrom('log_line').select('text').where('run_id', '=', run.id).execute();
  const text = lines.map(line => line.text).join('\n');
  assert.match(text, /cannot hold these artifactTags, which are left out: a b\./);
  assert.match(text, /out\.vhd: sent [\d.]+ of [\d.]+ MiB of data/);
  await assertNoSecret(run.id);
});

test('a uri that cannot be written to is found before anything is built', async () => {
  const id = await made('early', { distribute: [vhdTo('early.vhd', { uri: endpoint.uri('early.vhd', 'r') })] });
  const run = await ran(id);
  assert.equal(run.state, 'Failed');
  assert.deepEqual(run.phases, []);
  assert.equal(run.error?.code, 'UploadFailed');
  assert.match(run.message!, /403 AuthorizationPermissionMismatch/);
  const log = await readFile(join(service.home.logs, run.id, 'customization.log'), 'utf8');
  assert.match(log, /Build 'azure-arm' errored: .*403 AuthorizationPermissionMismatch/);
  await assertNoSecret(run.id);
});

test('of several targets one that refuses before the build fails alone, or not at all; all of them end the run', async () => {
  const refused = vhdTo('refused.vhd', { uri: endpoint.uri('refused.vhd', 'r') });
  const id = await made('one-refuses', { distribute: [MANAGED, refused] });
  const partial = await ran(id);
  assert.equal(partial.state, 'PartiallySucceeded', partial.message ?? '');
  assert.match(partial.message!, /1 images out of total 2: \{\[Error 0\] \[Distribute 1\] .*403 Authorization/);
  assert.deepEqual(partial.phases.slice(-2), ['distribute Succeeded', 'distribute Failed']);
  const log = await readFile(join(service.home.logs, partial.id, 'customization.log'), 'utf8');
  assert.match(log.split('Starting')[0]!, /refused\.vhd: .*403 .* The other targets get their image all the same;/);
  await assertNoSecret(partial.id);

  const late = await made('late', { distribute: [MANAGED, vhdTo('late.vhd')] });
  let asked = 0;
  endpoint.trouble = () => (asked++ === 0 ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const well = await ran(late);
  assert.equal(well.state, 'Succeeded', well.message ?? '');
  assert.ok(endpoint.blobs.has('late.vhd'));

  const none = await made('all-refuse', {
    distribute: [
      { ...refused, runOutputName: 'a' },
      { ...refused, runOutputName: 'b', uri: endpoint.uri('refused-too.vhd', 'r') },
    ],
  });
  const failed = await ran(none);
  assert.deepEqual([failed.state, failed.error?.code, failed.phases], ['Failed', 'UploadFailed', []]);
});

test('what a run could not distribute, a retry does: the other target, and the image, stay as they are', async () => {
  const id = await made('again', { distribute: [MANAGED, vhdTo('again.vhd')] });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  assert.match(
    first.message!,
    /^Failed in distributing 1 images out of total 2: \{\[Error 0\] \[Distribute 1\] VHD "vhd" → http/,
  );
  assert.match(first.message!, /403 AuthorizationFailure/);
  assert.equal(await outputOf(id, 'vhd'), undefined);
  const before = await getResource(store(), IMAGE);
  await assertNoSecret(first.id);

  const second = await ran(id, first.id);
  assert.equal(second.state, 'PartiallySucceeded', 'the endpoint refuses still');
  assert.match(second.message!, /\[Distribute 1\]/);

  endpoint.trouble = () => undefined;
  const third = await ran(id, second.id);
  assert.equal(third.state, 'Succeeded', third.message ?? '');
  assert.deepEqual(third.phases.slice(-4), [
    'capture CACHED',
    'prove CACHED',
    'distribute CACHED',
    'distribute Succeeded',
  ]);
  assert.ok(third.phases.slice(1).every(phase => phase.endsWith('CACHED') || phase === 'distribute Succeeded'));
  assert.equal((await getResource(store(), IMAGE))!.etag, before!.etag, 'it was not published again');
  const [managed, vhd] = [await outputOf(id, 'managed'), await outputOf(id, 'vhd')];
  assert.deepEqual([managed!.run_id, vhd!.run_id], [first.id, third.id]);
  const blob = endpoint.blobs.get('again.vhd')!;
  const path = join(service.home.root, 'fetched.vhd');
  await writeFile(path, blob.content);
  assert.deepEqual((await readFooter(path)).violations, []);

  await assert.rejects(ran(id, third.id), { code: 'Conflict', message: /has distributed everything/ });
  await assert.rejects(ran(id, first.id), { code: 'Conflict', message: /is not the newest/ });
});

test('a retry does not ask what is already distributed whether it would fit', async () => {
  const definition = resourceId(LOCAL_SUBSCRIPTION, 'retries', 'Microsoft.Compute/galleries/images', 'gallery', 'fits');
  const version = { type: 'SharedImage', runOutputName: 'version', galleryImageId: definition };
  const id = await made('fits', { distribute: [{ ...version, replicationRegions: ['eastus'] }, vhdTo('fits.vhd')] });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  endpoint.trouble = () => undefined;
  await patchProperties(store(), definition, { osState: 'Specialized' });
  const second = await ran(id, first.id);
  assert.equal(second.state, 'Succeeded', second.message ?? '');
});

test('a retry leaves alone what is published, also where the end of that phase could not be written', async () => {
  const imageId = IMAGE.replace(/image$/, 'unwritten');
  const id = await made('unwritten', { distribute: [{ ...MANAGED, imageId }, vhdTo('unwritten.vhd')] });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  const { detail } = await store()
    .updateTable('phase')
    .set({
      state: 'Running',
      ended_at: null,
      detail: json({ runOutputName: 'managed', to: imageId.toLowerCase() }),
    })
    .where('run_id', '=', first.id)
    .where('kind', '=', 'distribute')
    .where('state', '=', 'Succeeded')
    .returning('detail')
    .executeTakeFirstOrThrow();
  assert.ok(detail);
  const before = await getResource(store(), imageId);
  endpoint.trouble = () => undefined;
  const second = await ran(id, first.id);
  assert.equal(second.state, 'Succeeded', second.message ?? '');
  assert.deepEqual(second.phases.slice(-2), ['distribute CACHED', 'distribute Succeeded']);
  assert.equal((await getResource(store(), imageId))!.etag, before!.etag);
});

test('a retry that could not even begin leaves it to the next one', async () => {
  const id = await made('begun', { distribute: [MANAGED, vhdTo('begun.vhd')] });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  endpoint.trouble = () => undefined;
  const catalogue = service.home.catalogueFile;
  const entries = await readFile(catalogue, 'utf8');
  await writeFile(catalogue, '{ "unreadable": ');
  const second = await ran(id, first.id);
  await writeFile(catalogue, entries);
  assert.deepEqual([second.state, second.phases], ['Failed', []]);
  const third = await ran(id, first.id);
  assert.equal(third.state, 'Succeeded', third.message ?? '');
});

test('a run that failed before it had an image is not retried', async () => {
  const id = await made('unbuilt', { distribute: [vhdTo('unbuilt.vhd')], customize: [] });
  endpoint.trouble = what => (what === 'PUT blob' ? { status: 404, code: 'ContainerNotFound' } : undefined);
  const failed = await ran(id);
  assert.equal(failed.state, 'Failed');
  await assert.rejects(ran(id, failed.id), { code: 'Conflict', message: /it has no finished image/ });
});

test('an image that is not kept any more is not built again in silence', async () => {
  const id = await made('forgotten', {
    distribute: [MANAGED, vhdTo('forgotten.vhd')],
    customize: [{ type: 'Shell', name: 'own', inline: ['true # forgotten'] }],
  });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  endpoint.trouble = () => undefined;
  const layers = await openLayerStore(service.home.cache);
  for (const record of await layers.list()) await layers.remove(record.key);
  const second = await ran(id, first.id);
  assert.equal(second.state, 'Failed');
  assert.equal(second.error?.code, 'NotFound');
  assert.match(second.error?.hint ?? '', new RegExp(`The image of run ${first.id} is not kept any more`));
  assert.equal(await outputOf(id, 'vhd'), undefined);
});

test('an image of which the template keeps nothing cannot be distributed again, and the answer says so', async () => {
  const customize = [{ type: 'Shell', name: 'own', inline: ['true # never'] }];
  const distribute = [{ ...MANAGED, imageId: IMAGE.replace(/image$/, 'never') }, vhdTo('never.vhd')];
  const id = await made('never', { distribute, customize }, { 'kiln.cache': 'never' });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  const first = await ran(id);
  assert.equal(first.state, 'PartiallySucceeded');
  endpoint.trouble = () => undefined;
  const second = await ran(id, first.id);
  assert.deepEqual([second.state, second.error?.code], ['Failed', 'NotFound']);
  assert.match(second.error?.hint ?? '', /or never was \(kiln\.cache, --no-cache\).*: run the template again\.$/);
  const third = await ran(id);
  assert.equal(third.state, 'Succeeded', third.message ?? '');
});

test('a plain run after a partial one goes to all targets', async () => {
  const id = await made('plain', { distribute: [MANAGED, vhdTo('plain.vhd')] });
  endpoint.trouble = what => (what.startsWith('PUT page') ? { status: 403, code: 'AuthorizationFailure' } : undefined);
  assert.equal((await ran(id)).state, 'PartiallySucceeded');
  endpoint.trouble = () => undefined;
  const run = await ran(id);
  assert.equal(run.state, 'Succeeded', run.message ?? '');
  assert.equal((await outputOf(id, 'managed'))!.run_id, run.id);
});
