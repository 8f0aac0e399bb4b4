/** How runs end, as rows and clients have it: on a real database, engine and region store; machines without guests. Real guests are in test/boot. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { errorBody, KilnError } from '../../arm/errors.ts';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { openLayerStore } from '../../builds/layers/store.ts';
import type { Phase } from '../../builds/phase.ts';
import { json } from '../../database/json.ts';
import type { PhaseState } from '../../database/schema.ts';
import { passOverFile } from '../../disks/pass.ts';
import { abandon } from '../../engine/operation.ts';
import type { ExecOptions, ExecResult, MachineFactory } from '../../machines/machine.ts';
import { openService, type Service } from '../../service.ts';
import { galleryImageVersions } from '../compute/gallery-image-versions.ts';
import { ensureNeighbours } from '../ensure.ts';
import { putValidated } from '../life.ts';
import { getResource, patchProperties } from '../store.ts';
import { putTemplate } from './create.ts';
import { deleteHandler } from './delete.ts';
import { imageTemplates } from './image-templates.ts';
import { lastRun, lastRunStatus } from './last-run.ts';
import { normaliseTemplate } from './normalise.ts';
import { cancelRun, runHandler, startRun } from './run.ts';
import { runRecord } from './run-record.ts';
import { sourceOf } from './source-image.ts';
import { type CacheWish, stepCache } from './step-cache.ts';
import { TRIGGER_TYPE } from './triggers-type.ts';
import { validateTemplate } from './validate.ts';

delete process.env.DATABASE_URL;
// The catalogue of this test is nobody else's.
delete process.env.KILN_CACHE;

const API = '2024-02-01';
const templateId = (name: string) => resourceId(LOCAL_SUBSCRIPTION, 'runs', imageTemplates.type, name);
const DEFINITION = resourceId(LOCAL_SUBSCRIPTION, 'runs', 'Microsoft.Compute/galleries/images', 'g', 'd');
const OTHER = resourceId(LOCAL_SUBSCRIPTION, 'runs', 'Microsoft.Compute/images', 'other');
const SOURCE = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' };
const VHD = { type: 'VHD', runOutputName: 'vhd' };
const VERSION = { type: 'SharedImage', runOutputName: 'version', galleryImageId: `${DEFINITION}/versions/1.0.0` };

let service: Service;
/** What the machines of a test did: `start build`, `destroy proof`. */
let seen: string[] = [];
/** Takes part in every command of a guest; an answer replaces the guest's. */
let meddle: (machine: string, command: string, options: ExecOptions) => Promise<ExecResult | undefined>;

function machines(): MachineFactory {
  const guestless = guestlessMachines();
  return {
    shape: guestless.shape,
    async start(request) {
      const { name, until = 'settled' } = request;
      seen.push(`start ${name} ${until}`);
      const machine = await guestless.start(request);
      let ended = false;
      const destroy = async () => {
        if (!ended) seen.push(`destroy ${name}`);
        ended = true;
        await machine.destroy();
      };
      return {
        ...machine,
        exec: async (command, options = {}) =>
          (await meddle(name, command, options)) ?? (await machine.exec(command, options)),
        destroy,
        [Symbol.asyncDispose]: destroy,
      };
    },
  };
}

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-runs-'));
  await chmod(root, 0o711);
  service = await openService({ home: root, log: () => undefined, machines: machines() });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
});
after(async () => {
  await service?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});

const store = () => service.database.kysely;

/** A template as `kiln build` makes it. */
async function made(name: string, properties: JsonObject): Promise<string> {
  seen = [];
  meddle = async () => undefined;
  const id = templateId(name);
  const body = { location: 'eastus', properties: { source: SOURCE, distribute: [VHD], ...properties } };
  const checked = validateTemplate(body, { apiVersion: API, localFiles: true, identityOptional: true });
  const template = normaliseTemplate(checked.template, API);
  const guest = await sourceOf(template, { database: store(), home: service.home });
  await ensureNeighbours(store(), { templateId: id, template, guest, strict: false });
  const request = { id, body, apiVersion: API, local: true, where: 'here', home: service.home } as const;
  const { operation } = await putTemplate(service.engine, store(), request);
  assert.equal((await service.engine.wait(operation)).status, 'Succeeded');
  return id;
}

const begin = (id: string) => startRun(service.engine, store(), id, { where: 'here', machines: service.machines });
const ended = (run: string) => service.engine.wait(run, { signal: AbortSignal.timeout(60_000) });

async function status(id: string, apiVersion = API): Promise<JsonObject> {
  const template = (await getResource(store(), id))!;
  return lastRunStatus((await lastRun(store(), template))!, apiVersion, 'https://kiln.test');
}

async function phases(run: string): Promise<string[]> {
  const rows = await store().selectFrom('phase').selectAll().where('run_id', '=', run).orderBy('index').execute();
  return rows.map(({ kind, state }) => `${kind} ${state}`);
}

const outputs = async (run: string) =>
  (await store().selectFrom('run_output').select('name').where('run_id', '=', run).orderBy('name').execute()).map(
    ({ name }) => name,
  );

test('an explicit version that appears while the image is built: the other target has its image', async () => {
  const id = await made('partial', { distribute: [VERSION, VHD] });
  meddle = async (_machine, command) => {
    if (command.startsWith('sudo sh'))
      await putValidated(store(), galleryImageVersions, {
        id: VERSION.galleryImageId,
        apiVersion: galleryImageVersions.apiVersions[0]!,
        body: {
          location: 'eastus',
          properties: { publishingProfile: {}, storageProfile: { source: { id: OTHER } } },
        },
        known: { provisioningState: 'Succeeded' },
      });
    return undefined;
  };
  const run = await begin(id);
  const operation = await ended(run);
  const last = (await phases(run)).slice(-3);
  assert.deepEqual(
    last,
    ['prove Succeeded', 'distribute Failed', 'distribute Succeeded'],
    JSON.stringify(operation.error),
  );
  assert.deepEqual(await outputs(run), ['vhd']);
  const sentence =
    'Failed in distributing 1 images out of total 2: {[Error 0] [Distribute 0] SharedImage "g/d": The image version 1.0.0 exists already.}';
  const { runState, message, endTime } = await status(id);
  assert.deepEqual([runState, message], ['PartiallySucceeded', sentence]);
  assert.notEqual(endTime, '0001-01-01T00:00:00Z');
  assert.deepEqual(
    [operation.status, operation.error?.code, operation.error?.message, operation.error?.target],
    ['Failed', 'DistributionFailed', sentence, 'properties.distribute[0]'],
  );
  // The same when it is there before.
  const again = await begin(id);
  await ended(again);
  assert.deepEqual((await phases(again)).slice(-2), ['distribute Failed', 'distribute Succeeded']);
  assert.deepEqual((await status(id)).message, sentence);
});

const VALIDATORS = {
  inVMValidations: [
    { type: 'Shell', name: 'first', inline: ['first'] },
    { type: 'Shell', name: 'second', inline: ['second'] },
  ],
};

test('validators run in the machine that proves the image, which has settled and is gone before anything is distributed', async () => {
  const id = await made('validated', { validate: VALIDATORS, distribute: [VHD] });
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  meddle = async (machine, _command, { stdin }) => {
    if (typeof stdin === 'string' && /^(first|second)$/m.test(stdin)) seen.push(`${machine} ${stdin.split('\n')[1]}`);
    if (/^first$/m.test(String(stdin))) {
      asked.resolve();
      await go.promise;
    }
    return undefined;
  };
  const run = await begin(id);
  await Promise.race([asked.promise, ended(run)]);
  assert.equal((await status(id)).runSubState, 'Validating');
  // Clients of a version without this state see one that they know.
  assert.equal((await status(id, '2021-10-01')).runSubState, 'Customizing');
  go.resolve();
  assert.equal((await ended(run)).status, 'Succeeded');
  assert.deepEqual(seen, [
    ...['start build settled', 'destroy build'],
    ...['start proof settled', 'proof first', 'proof second', 'destroy proof'],
  ]);
  assert.deepEqual((await phases(run)).slice(-4), [
    'prove Succeeded',
    'validate Succeeded',
    'validate Succeeded',
    'distribute Succeeded',
  ]);
});

test('a canceled validation is a canceled run, whatever was to be distributed on failure', async () => {
  const id = await made('canceled', { validate: { ...VALIDATORS, continueDistributeOnFailure: true } });
  const asked = Promise.withResolvers<void>();
  meddle = async (_machine, _command, { stdin, signal }) => {
    if (!/^first$/m.test(String(stdin))) return undefined;
    asked.resolve();
    await new Promise(resolve => signal!.addEventListener('abort', resolve));
    throw new Error('The connection broke off.');
  };
  const run = await begin(id);
  await Promise.race([asked.promise, ended(run)]);
  await cancelRun(service.engine, store(), run);
  assert.equal((await ended(run)).status, 'Canceled');
  assert.equal((await status(id)).runState, 'Canceled');
  assert.deepEqual((await phases(run)).slice(-3), ['validate Canceled', 'validate Skipped', 'distribute Skipped']);
  assert.ok(seen.includes('destroy proof'));
  assert.deepEqual(await outputs(run), []);
});

test('what is wrong with a validator before the build is in the log that the message names', async () => {
  const validate = { inVMValidations: [{ type: 'PowerShell', name: 'windows', inline: ['Get-Date'] }] };
  const id = await made('windows', { validate });
  const run = await begin(id);
  const { error } = await ended(run);
  assert.deepEqual([error?.code, await phases(run)], ['NotSupported', []]);
  const [, path] = /Image Build log location: (\S+)\. /.exec(String((await status(id)).message))!;
  const log = await readFile(join(service.home.root, path!), 'utf8');
  assert.match(log, /Build 'azure-arm' errored: .*PowerShell/);
});

test('the clock ends a run: while it builds and while it distributes, each in the sentence of the service', async () => {
  const second = { ...VHD, runOutputName: 'second' };
  const customize = [{ type: 'Shell', inline: ['late'] }];
  const late = await made('late', { customize, distribute: [VHD, second] });
  /** A run under a clock that is at its end when a phase of the kind begins. @returns its state, and what is said of it */
  const lateAt = async (kind: Phase['kind'], { id = late, number = 1 } = {}) => {
    const run = await begin(id);
    await ended(run);
    await store()
      .updateTable('run')
      .set({ state: 'Running', ended_at: null, error: null, message: null })
      .where('id', '=', run)
      .execute();
    const clock = new AbortController();
    const expired = new KilnError('Timeout', 'It took longer than the 60 s that it may take.');
    let count = 0;
    const listener = {
      phase(index: number, planned: readonly Phase[]) {
        if (planned[index]!.kind === kind && ++count === number) clock.abort(expired);
      },
      line: () => undefined,
      progress: () => undefined,
    };
    const handler = runHandler({ ...service.environment, listener: () => listener });
    const context = { id: run, attempt: 1, signal: clock.signal };
    await assert.rejects(handler.run(context, { templateId: id, cache: { use: false } }), { code: 'Timeout' });
    const { runState, runSubState, message } = await status(id);
    assert.equal(runSubState, undefined);
    return [runState, message];
  };
  assert.deepEqual(await lateAt('customize'), [
    'Failed',
    "Failed in building/customizing image: Failed while waiting for packerizer: Timeout waiting for microservice to complete: 'context deadline exceeded'. It took longer than the 60 s that it may take.",
  ]);
  const reason = 'context deadline exceeded: It took longer than the 60 s that it may take.';
  const say = (missing: string) => `Failed in distributing 2 images out of total ${missing}}`;
  const [first, other] = ['VHD "vhd" → eastus', 'VHD "second" → eastus'];
  assert.deepEqual(await lateAt('distribute'), [
    'Failed',
    say(`2: {[Error 0] [Distribute 0] ${first}: ${reason} [Error 1] [Distribute 1] ${other}: ${reason}`),
  ]);
  // Of one lane: the first is published, the second is begun, the third never is.
  const target = (runOutputName: string) => ({ type: 'SharedImage', runOutputName, galleryImageId: DEFINITION });
  const id = await made('late-in-part', { customize, distribute: ['a', 'b', 'c'].map(target) });
  const version = 'SharedImage "g/d"';
  assert.deepEqual(await lateAt('distribute', { id, number: 2 }), [
    'PartiallySucceeded',
    say(`3: {[Error 0] [Distribute 1] ${version}: ${reason} [Error 1] [Distribute 2] ${version}: ${reason}`),
  ]);
});

test('sub-states go forward only, in the order of the service, whatever phases are called', async () => {
  const id = await made('ordered', { customize: [{ type: 'Shell', inline: ['ordered'] }], validate: VALIDATORS });
  const run = await begin(id);
  let planned: readonly Phase[] = [];
  service.listeners.set(run, {
    phase: (_, phases) => {
      planned = phases;
    },
    line: () => undefined,
    progress: () => undefined,
  });
  await ended(run);
  service.listeners.delete(run);
  assert.deepEqual(await status(id).then(({ runState, runSubState, message }) => [runState, runSubState, message]), [
    'Succeeded',
    undefined,
    '',
  ]);

  /** What a client sees at the beginning of each of the phases. */
  const seenOf = async (phases: readonly Phase[]) => {
    await store()
      .updateTable('run')
      .set({ state: 'Running', sub_state: 'Queued', ended_at: null })
      .where('id', '=', run)
      .execute();
    const record = runRecord(store(), run);
    await record.planned(phases);
    const states: unknown[] = [];
    for (const [index, phase] of phases.entries()) {
      await record.started(index, phase, 'key');
      states.push((await status(id)).runSubState);
    }
    await record.close();
    return states;
  };
  const states = await seenOf(planned);
  assert.deepEqual(
    planned.map(({ kind }, index) => `${kind} ${states[index]}`),
    [
      ...['source Building', 'boot Building', 'customize Customizing', 'generalize Customizing', 'capture Customizing'],
      ...['prove Validating', 'validate Validating', 'validate Validating', 'distribute Distributing'],
    ],
  );
  // A state that came later is one for older clients that they know.
  const optimizing = { ...planned[0]!, subState: 'Optimizing' as Phase['subState'] };
  assert.deepEqual(await seenOf([optimizing, planned[0]!]), ['Optimizing', 'Optimizing']);
  assert.equal((await status(id, '2022-02-14')).runSubState, 'Customizing');
  await store().updateTable('run').set({ state: 'Succeeded', ended_at: new Date() }).where('id', '=', run).execute();
});

/** A run whose worker has died, its phases where they were then; settled. */
async function abandoned(id: string, states: readonly [kind: string, state: PhaseState][]) {
  const run = await begin(id);
  await ended(run);
  return await store()
    .transaction()
    .execute(async trx => {
      await trx.deleteFrom('phase').where('run_id', '=', run).execute();
      const error = errorBody(new KilnError('Conflict', 'It is taken.'));
      for (const [index, [kind, state]] of states.entries())
        await trx
          .insertInto('phase')
          .values({
            ...{ run_id: run, index, kind, name: `${kind} ${index}`, state, key: null, bytes: null },
            ...(state === 'Failed' && { error: json(error) }),
          })
          .execute();
      await trx
        .updateTable('run')
        .set({ state: 'Running', ended_at: null, error: null, message: null })
        .where('id', '=', run)
        .execute();
      await trx
        .updateTable('operation')
        .set({ status: 'Running', ended_at: null, output: null, error: null })
        .where('id', '=', run)
        .execute();
      const operation = await trx.selectFrom('operation').selectAll().where('id', '=', run).executeTakeFirstOrThrow();
      await abandon(
        trx,
        runHandler({ ...service.environment, listener: () => undefined }),
        operation,
        errorBody(new KilnError('WorkerLost', 'It died.')),
      );
      const row = await trx.selectFrom('run').selectAll().where('id', '=', run).executeTakeFirstOrThrow();
      const after = await trx.selectFrom('operation').selectAll().where('id', '=', run).executeTakeFirstOrThrow();
      return { run, state: row.state, code: row.error?.code, status: after.status, told: after.error?.code };
    });
}

test('a worker that died when all targets were at their end: the truth is told; before that, it is the end of the run', async () => {
  const id = await made('abandoned', {});
  const trigger = `${id}/triggers/t`;
  await store()
    .insertInto('resource')
    .values({
      ...{ id: trigger.toLowerCase(), display_id: trigger, type: TRIGGER_TYPE, name: 't', parent_id: id.toLowerCase() },
      ...{ properties: json({ status: {} }), subscription: null, resource_group: null, location: null },
      ...{ kind: null, api_version: API },
    })
    .execute();
  await store().insertInto('trigger_state').values({ id: trigger.toLowerCase() }).execute();
  const failures = async () =>
    (
      await store()
        .selectFrom('trigger_state')
        .select('failures')
        .where('id', '=', trigger.toLowerCase())
        .executeTakeFirstOrThrow()
    ).failures;

  const partial = await abandoned(id, [
    ['source', 'Succeeded'],
    ['distribute', 'Failed'],
    ['distribute', 'Succeeded'],
  ]);
  assert.deepEqual(
    [partial.state, partial.code, partial.status, partial.told],
    ['PartiallySucceeded', 'DistributionFailed', 'Failed', 'DistributionFailed'],
  );
  assert.equal(await failures(), 1, 'for triggers it is a failed build');

  const none = await abandoned(id, [
    ['source', 'Succeeded'],
    ['distribute', 'Failed'],
  ]);
  assert.deepEqual([none.state, none.code], ['Failed', 'Conflict']);

  const between = await abandoned(id, [
    ['source', 'Succeeded'],
    ['distribute', 'Succeeded'],
    ['distribute', 'Failed'],
    ['distribute', 'Pending'],
  ]);
  assert.deepEqual([between.state, between.code, between.status], ['Failed', 'WorkerLost', 'Failed']);
  assert.equal((await phases(between.run)).at(-1), 'distribute Skipped');

  const validated = await abandoned(id, [
    ['validate', 'Failed'],
    ['validate', 'Skipped'],
    ['distribute', 'Succeeded'],
  ]);
  assert.deepEqual([validated.state, validated.code, validated.status], ['Failed', 'Conflict', 'Failed']);

  const well = await abandoned(id, [
    ['source', 'Succeeded'],
    ['distribute', 'Succeeded'],
  ]);
  assert.deepEqual([well.state, well.status], ['Succeeded', 'Succeeded']);
});

test('a retry of a failed run of the API takes what that run kept; after one that succeeded, all steps run', async () => {
  const validate = { inVMValidations: [{ type: 'Shell', name: 'check', inline: ['true'] }] };
  const id = await made('again', { validate, customize: [{ type: 'Shell', name: 'step', inline: ['true'] }] });
  let fails = true;
  meddle = async machine => {
    if (machine === 'proof' && fails) return { exitCode: 1 };
    return undefined;
  };
  const failed = await begin(id);
  assert.equal((await ended(failed)).status, 'Failed');
  const choice = async (local: boolean, wish?: CacheWish) =>
    (await stepCache(
      (await getResource(store(), id))!,
      '00000000-0000-4000-8000-000000000000',
      { database: store(), home: service.home },
      { local, wish },
    ))!;
  const { store: layers, takes, shared } = await choice(false);
  const records = (await layers.list()).filter(({ runId }) => runId === failed);
  assert.deepEqual(
    records.map(({ name }) => name),
    ['capture power off, flatten'],
  );
  const capture = { kind: 'capture' } as Phase;
  assert.deepEqual([takes(records[0]!, capture), shared], [true, false]);
  assert.equal(takes({ ...records[0]!, runId: 'others' }, capture), false);
  assert.equal(takes({ ...records[0]!, runId: 'others' }, { kind: 'boot' } as Phase), true);
  const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000).toISOString();
  const ran = (hours: number, kind: string) => [{ ...records[0]!, ranAt: hoursAgo(hours) }, { kind } as Phase] as const;
  // Callers of the API want what is new; whoever builds at this host says what is old.
  assert.deepEqual(
    [takes(...ran(23, 'capture')), takes(...ran(25, 'capture')), takes(...ran(25, 'boot'))],
    [true, false, true],
  );
  assert.equal(takes({ ...records[0]!, madeAt: hoursAgo(25) }, capture), false);
  assert.equal((await choice(true)).takes(...ran(10_000, 'capture')), true);
  const hour = (await choice(true, { maxAge: 3600 })).takes;
  assert.deepEqual([hour(...ran(0, 'capture')), hour(...ran(2, 'capture'))], [true, false]);
  fails = false;
  seen = [];
  const retried = await begin(id);
  assert.equal((await ended(retried)).status, 'Succeeded');
  // The build machine is not started again: the captured image of the failed run is there.
  assert.ok(!seen.includes('start build settled') && seen.includes('start proof settled'), seen.join(', '));
  assert.equal((await choice(false)).takes(records[0]!, capture), false);
  assert.equal((await choice(true)).takes(records[0]!, capture), true);
});

test('a caller of the API whose step failed is told what another run does, unless its steps are never kept', async () => {
  const step = { customize: [{ type: 'Shell', name: 'step', inline: ['exit 1'] }] };
  const id = await made('hinted', step);
  meddle = async (_machine, _command, { stdin }) => (/exit 1/.test(String(stdin)) ? { exitCode: 127 } : undefined);
  const hintOf = async (authorize: boolean) => {
    const run = await begin(id);
    await ended(run);
    await store().updateTable('run').set({ state: 'Running' }).where('id', '=', run).execute();
    const { signal } = new AbortController();
    const handler = runHandler({ ...service.environment, listener: () => undefined });
    const again = async () => handler.run({ id: run, attempt: 1, signal }, { templateId: id, authorize });
    const { error } = await assert
      .rejects(again, { code: 'StepFailed' })
      .then(() => store().selectFrom('run').select('error').where('id', '=', run).executeTakeFirstOrThrow());
    return error!.hint;
  };
  const about = 'A command was not found: is its package installed by an earlier step?';
  assert.equal(
    await hintOf(true),
    `${about} Run the template again: within a day it goes on after the last step that went well.`,
  );
  assert.equal(await hintOf(false), about);
  const { tags } = (await getResource(store(), id))!;
  await store()
    .updateTable('resource')
    .set({ tags: json({ ...tags, 'kiln.cache': 'never' }) })
    .where('id', '=', id.toLowerCase())
    .execute();
  assert.equal(await hintOf(true), about);
});

test('tags say which steps are never kept; other words are refused', async () => {
  const customize = ['one', 'two'].map(name => ({ type: 'Shell', name, inline: ['true'] }));
  const resource = (await getResource(store(), await made('tags', { customize })))!;
  const never = async (tags: Record<string, string>) =>
    (await stepCache(
      { ...resource, tags },
      '00000000-0000-4000-8000-000000000000',
      { database: store(), home: service.home },
      { local: true },
    ))!.neverSteps;
  assert.deepEqual(await never({}), []);
  assert.deepEqual(await never({ 'kiln.cache.two': 'Never' }), [1]);
  assert.deepEqual(await never({ 'kiln.cache.1': 'never' }), [0]);
  assert.deepEqual(await never({ 'kiln.cache': 'never' }), [0, 1]);
  await assert.rejects(never({ 'kiln.cache': 'sometimes' }), { code: 'ValidationFailed' });
  await assert.rejects(never({ 'kiln.cache.three': 'never' }), { code: 'ValidationFailed' });
  await assert.rejects(never({ 'kiln.cache.3': 'never' }), { code: 'ValidationFailed' });
});

test('the layers of a template go with it, but for those that others stand on and warm starts', async () => {
  const layers = await openLayerStore(service.home.cache);
  const file = join(service.home.root, 'layer');
  await writeFile(file, 'layer');
  const ids = ['gone', 'stays'] as const;
  const runOf: Record<string, string> = { other: 'of another state directory' };
  for (const name of ids) {
    const id = await made(name, { customize: [{ type: 'Shell', name: 'step', inline: [`echo ${name}`] }] });
    runOf[name] = await begin(id);
    assert.equal((await ended(runOf[name]!)).status, 'Succeeded');
  }
  for (const { key } of await layers.list()) await layers.remove(key);
  const keep = (key: string, owner: string, parent?: string, facts = {}) =>
    layers.keep({
      ...{ key: key.repeat(64), id: key, parent, name: `customize ${key}`, runId: runOf[owner]!, seconds: 1, facts },
      files: { layer: file },
    });
  const shape = { kind: 'qemu', processors: 1, memoryMiB: 1, firmware: 'bios', accelerator: 'tcg', model: 'm' };
  const warmStart = { source: { name: 's', sha256: 'a' }, shape, osDiskSizeGB: 0 };
  await keep('0', 'gone', undefined, { warmStart });
  await keep('1', 'gone', '0');
  await keep('2', 'gone', '1');
  await keep('3', 'stays', '1');
  await keep('4', 'other', '0');
  await keep('5', 'gone');
  const deletion = deleteHandler(service.environment);
  const templateOfRun = templateId('gone');
  const operation = '00000000-0000-4000-8000-000000000001';
  await patchProperties(store(), templateOfRun, { provisioningState: 'Deleting', operation });
  const input = { templateId: templateOfRun, before: 'Succeeded' };
  await deletion.run({ id: operation, attempt: 1, signal: new AbortController().signal }, input);
  assert.equal(await getResource(store(), templateOfRun), undefined);
  assert.deepEqual((await layers.list()).map(({ id }) => id).sort(), ['0', '1', '3', '4']);
  for (const { key } of await layers.list()) await layers.remove(key);
});

test('an unchanged template is not captured or proven again, and its image is published anew', async () => {
  const id = await made('unchanged', { customize: [{ type: 'Shell', name: 'step', inline: ['echo unchanged'] }] });
  const sums: string[] = [];
  for (const all of [false, true]) {
    seen = [];
    const run = await begin(id);
    assert.equal((await ended(run)).status, 'Succeeded');
    const rows = await store().selectFrom('phase').selectAll().where('run_id', '=', run).orderBy('index').execute();
    assert.deepEqual(
      rows.filter(({ cached }) => cached).map(({ kind }) => kind),
      all ? ['source', 'boot', 'customize', 'generalize', 'capture', 'prove'] : rows[0]!.cached ? ['source'] : [],
    );
    assert.deepEqual(
      rows.filter(({ cached }) => !cached).map(({ state }) => state),
      rows.filter(({ cached }) => !cached).map(() => 'Succeeded'),
    );
    assert.equal(seen.length > 0, !all);
    const output = await store().selectFrom('run_output').selectAll().where('run_id', '=', run).executeTakeFirst();
    assert.equal((await passOverFile(output!.path!)).fsverity, output!.fsverity);
    sums.push(output!.fsverity!);
  }
  assert.equal(sums[0], sums[1]);
});

test('the signature that a script came with is in nothing that is kept of a run, whoever says it', async t => {
  const signature = 'kIlN0fD1e2A3d4B5e6E7f8C9a0F1f2E3+/9=';
  const forms = [signature, encodeURIComponent(signature), JSON.stringify(signature).slice(1, -1)];
  const server = createServer((_, response) => response.end('#!/bin/sh\n'));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/a.sh?sp=r&sig=${encodeURIComponent(signature)}`;
  const validate = { inVMValidations: [{ type: 'Shell', name: 'late', inline: ['true'] }] };
  const loud =
    (exitCode: number) =>
    async (_machine: string, command: string, { output }: ExecOptions) => {
      if (!command.includes('/tmp/script_')) return undefined;
      output?.(Buffer.from(`+ curl ${url}\nin halves: ${signature.slice(0, 7)}`), 'stderr');
      output?.(Buffer.from(`${signature.slice(7)} over\n`), 'stderr');
      return { exitCode };
    };
  for (const [name, properties, exitCode] of [
    // First: what succeeds is kept, and not run again.
    ['leaking', { customize: [{ type: 'Shell', name: 'leaky', scriptUri: url }] }, 3],
    ['leaky', { customize: [{ type: 'Shell', name: 'leaky', scriptUri: url }], validate }, 0],
  ] as const) {
    const id = await made(name, properties);
    meddle = loud(exitCode);
    const run = await begin(id);
    const { status: ending } = await ended(run);
    assert.equal(ending, exitCode === 0 ? 'Succeeded' : 'Failed');
    const of = async (table: 'run' | 'phase' | 'log_line', column: 'id' | 'run_id') =>
      await store()
        .selectFrom(table)
        .selectAll()
        .where(column as never, '=', run as never)
        .execute();
    const rows = JSON.stringify([await of('run', 'id'), await of('phase', 'run_id'), await of('log_line', 'run_id')]);
    const operation = JSON.stringify(await store().selectFrom('operation').selectAll().where('id', '=', run).execute());
    const logs = join(service.home.logs, run);
    const files = await Promise.all((await readdir(logs)).map(file => readFile(join(logs, file), 'utf8')));
    for (const text of [rows, operation, ...files])
      for (const form of forms) assert.ok(!text.includes(form), `${form} in ${text.slice(0, 2000)}`);
    assert.match(rows, /in halves: <sensitive> over/);
    assert.match(
      files.join(''),
      /==> azure-arm: \+ curl .*a\.sh\?sp=r&sig=<sensitive>\n.*in halves: <sensitive> over\n/s,
    );
    if (exitCode !== 0) assert.match(rows, /failed with exit code 3\. Last lines:.*in halves: <sensitive> over/s);
    if (exitCode === 0) assert.equal(files.join('').match(/Build 'azure-arm' finished after/g)?.length, 2);
  }
});

test('an optimized image is kept as a layer of its own; validators see it, and only then a second boot proves it', async () => {
  const imageId = resourceId(LOCAL_SUBSCRIPTION, 'runs', 'Microsoft.Compute/images', 'laid-out');
  const distribute = [{ type: 'ManagedImage', runOutputName: 'image', imageId, location: 'eastus' }];
  const step = (line: string) => [{ type: 'Shell', name: 'step', inline: [line] }];
  const optimize = { vmBoot: { state: 'Enabled' } };
  const id = await made('optimized', { distribute, optimize, customize: step('echo optimized') });
  const sums: (string | undefined)[] = [];
  for (const cached of [false, true]) {
    seen = [];
    const run = await begin(id);
    assert.equal((await ended(run)).status, 'Succeeded');
    assert.deepEqual(
      (await phases(run)).slice(-3),
      ['capture', 'optimize', 'distribute'].map(kind => `${kind} Succeeded`),
    );
    assert.deepEqual(
      seen.filter(line => line.startsWith('start')),
      cached ? [] : ['start build settled', 'start trace settled'],
    );
    const output = await store().selectFrom('run_output').selectAll().where('run_id', '=', run).executeTakeFirst();
    assert.equal((await passOverFile(output!.path!)).fsverity, output!.fsverity);
    sums.push(output!.fsverity!);
  }
  assert.equal(sums[0], sums[1]);

  const validate = { inVMValidations: [{ type: 'Shell', name: 'check', inline: ['true'] }] };
  const checked = await made('checked', { distribute, optimize, validate, customize: step('echo checked') });
  const run = await begin(checked);
  assert.equal((await ended(run)).status, 'Succeeded');
  assert.deepEqual(
    (await phases(run)).slice(-5).map(line => line.split(' ')[0]),
    ['capture', 'optimize', 'prove', 'validate', 'distribute'],
  );
  assert.deepEqual(
    seen.filter(line => line.startsWith('start')),
    ['start build settled', 'start trace settled', 'start proof settled'],
  );
});
