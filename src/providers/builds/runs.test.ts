import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { errorBody, KilnError } from '../../arm/errors.ts';
import { resourceGroupId, resourceId } from '../../arm/ids.ts';
import { type Database, openDatabase } from '../../database/connection.ts';
import { json } from '../../database/json.ts';
import type { NewRun } from '../../database/schema.ts';
import { type Engine, openEngine } from '../../engine/engine.ts';
import { type Home, openHome } from '../../home.ts';
import type { ExtensionCall } from '../extension.ts';
import { imageTemplates } from '../image-builder/image-templates.ts';
import { putValidated } from '../life.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { followLog } from './run-log.ts';
import { runsExtension } from './runs.ts';

delete process.env.DATABASE_URL;

const S = '11111111-2222-3333-4444-555555555555';
const TEMPLATE = resourceId(S, 'g', imageTemplates.type, 'Web');
const BASE = `https://localhost:8443${TEMPLATE}/providers/Kiln.Builds/runs`;
const never = new AbortController().signal;
const allowed = async () => true;

let home: Home;
let database: Database;
let engine: Engine;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-runs-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log: () => undefined });
  engine = await openEngine({ database, home, handlers: [], log: () => undefined });
  await putValidated(database.kysely, resourceGroups, {
    id: resourceGroupId(S, 'g'),
    body: { location: 'eastus' },
    apiVersion: '2021-04-01',
  });
  await putTemplate(TEMPLATE);
});
after(async () => {
  await engine?.close();
  await database?.close();
  if (home) await rm(home.root, { recursive: true, force: true });
});

async function putTemplate(id: string): Promise<void> {
  const source = { type: 'PlatformImage', publisher: 'p', offer: 'o', sku: 's', version: 'latest' };
  const distribute = [{ type: 'VHD', runOutputName: 'vhd' }];
  const body = { location: 'eastus', properties: { source, distribute } };
  await putValidated(database.kysely, imageTemplates, { id, body, apiVersion: '2025-10-01', local: true });
}

/** Rows as runs write them; each a second after the one before. */
/** Later than the template, however long the database takes to start. */
let clock = Date.now() + 60_000;
async function insertRun(more: Partial<NewRun> = {}): Promise<string> {
  const id = randomUUID();
  const operation = { id, kind: 'run', resource_id: null, queue: 'operations', input: json({}), attempt: 1 };
  await database.kysely.insertInto('operation').values(operation).execute();
  clock += 1000;
  const run = { template_id: TEMPLATE.toLowerCase(), template_name: 'Web', created_at: new Date(clock) };
  await database.kysely
    .insertInto('run')
    .values({
      id,
      operation_id: id,
      state: 'Running',
      sub_state: 'Building',
      started_at: new Date(clock),
      ...run,
      ...more,
    })
    .execute();
  return id;
}

async function insertLines(run: string, first: number, texts: readonly string[], stream = 'stdout'): Promise<void> {
  await database.kysely
    .insertInto('log_line')
    .values(texts.map((text, index) => ({ run_id: run, seq: first + index, at: new Date(), phase: 2, stream, text })))
    .execute();
}

const endRun = (id: string, state: 'Succeeded' | 'Failed', error?: KilnError) =>
  database.kysely
    .updateTable('run')
    .set({
      state,
      sub_state: null,
      ended_at: new Date(),
      message: error?.message ?? '',
      error: error ? json(errorBody(error)) : null,
    })
    .where('id', '=', id)
    .execute();

const deleteRuns = () => database.kysely.deleteFrom('run').execute();

async function get(segments: readonly string[] = [], query = '', more: Partial<ExtensionCall> = {}) {
  return await runsExtension.handle({
    environment: {
      ...{ database: database.kysely, home, engine, log: () => undefined },
      machines: { shape: () => assert.fail(), start: () => assert.fail() },
      options: { reviseTemplates: false, localDownloads: false },
    },
    caller: { objectId: '', clientId: '', tenantId: '', type: 'User', displayName: '' },
    ...{
      apiVersion: '2026-11-01',
      correlationId: '',
      query: new URLSearchParams(query),
      origin: 'https://localhost:8443',
    },
    may: async () => true,
    ...{ method: 'GET', scope: TEMPLATE, segments, body: undefined, signal: never },
    requireScope: async () => undefined,
    ...more,
  });
}

// biome-ignore lint/suspicious/noExplicitAny: as a client reads it
async function body(...args: Parameters<typeof get>): Promise<any> {
  const answer = await get(...args);
  assert.ok('body' in answer);
  // As it goes over the wire.
  return JSON.parse(JSON.stringify(answer.body));
}

async function stream(...args: Parameters<typeof get>) {
  const answer = await get(...args);
  assert.ok('stream' in answer);
  return answer;
}

async function textOf(pieces: AsyncIterable<string | Uint8Array>): Promise<string> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(Buffer.from(piece));
  return Buffer.concat(all).toString();
}

interface Event {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: Record<string, unknown>;
}

/** As the HTML standard reads them, for what is used here. */
function parseEvents(text: string): Event[] {
  return text
    .split('\n\n')
    .map(block =>
      Object.fromEntries(block.split('\n').map(line => [line.split(': ')[0], line.slice(line.indexOf(': ') + 2)])),
    )
    .filter(fields => fields.data !== undefined)
    .map(({ event = 'message', id, data }) => ({ event, id, data: JSON.parse(data!) }));
}

test('a run is shown with its phases, outputs and error, without paths of the host', async () => {
  await deleteRuns();
  const id = await insertRun({ machine: json({ kind: 'qemu', accelerator: 'kvm' }), correlation_id: 'c' });
  const started = new Date('2026-11-22T10:00:00Z');
  const error = new KilnError('StepFailed', 'exit code 3', { target: 'customize[0]', hint: 'Look.' });
  const common = { run_id: id, key: null, bytes: null };
  await database.kysely
    .insertInto('phase')
    .values([
      { ...common, index: 1, kind: 'customize', name: 'Shell "x"', state: 'Failed', error: json(errorBody(error)) },
      {
        ...{ ...common, index: 0, kind: 'source', name: 'a:b:c', state: 'Succeeded', cached: true, bytes: 7 },
        ...{ started_at: started, ended_at: new Date(started.getTime() + 1500), detail: json({ path: '/secret' }) },
      },
    ])
    .execute();
  await database.kysely
    .insertInto('run_output')
    .values({
      ...{
        id: `${TEMPLATE}/runOutputs/vhd`.toLowerCase(),
        display_id: `${TEMPLATE}/runOutputs/vhd`,
        name: 'vhd',
        run_id: id,
      },
      ...{
        template_id: TEMPLATE.toLowerCase(),
        artifact_id: 'a',
        location: 'eastus',
        path: '/var/secret',
        fsverity: 'f',
      },
      ...{ bytes: 10, virtual_size: 20 },
    })
    .execute();
  await endRun(id, 'Failed', error);
  const shown = await body([id.toUpperCase()]);
  assert.equal(shown.id, `${TEMPLATE}/providers/Kiln.Builds/runs/${id}`);
  const { properties } = shown;
  assert.equal(properties.state, 'Failed');
  assert.equal(properties.message, 'exit code 3');
  assert.deepEqual(properties.error, {
    code: 'StepFailed',
    message: 'exit code 3',
    target: 'customize[0]',
    hint: 'Look.',
  });
  assert.deepEqual(properties.machine, { kind: 'qemu', accelerator: 'kvm' });
  assert.deepEqual(properties.phases[0], {
    ...{ kind: 'source', name: 'a:b:c', state: 'Succeeded', cached: true },
    ...{
      startTime: '2026-11-22T10:00:00.000Z',
      endTime: '2026-11-22T10:00:01.500Z',
      seconds: 1.5,
      bytes: 7,
      error: null,
    },
  });
  assert.equal(properties.phases[1].error.target, 'customize[0]');
  assert.equal(properties.phases[1].seconds, null);
  assert.deepEqual(properties.outputs, [
    {
      name: 'vhd',
      artifactId: 'a',
      artifactUri: null,
      location: 'eastus',
      fsverity: 'f',
      sha256: null,
      bytes: 10,
      virtualSize: 20,
    },
  ]);
  assert.doesNotMatch(JSON.stringify(shown), /secret/);
});

test('the list is newest first, in pages that later runs do not shift', async () => {
  await deleteRuns();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) {
    const id = await insertRun();
    await endRun(id, 'Succeeded');
    ids.unshift(id);
  }
  const names = (page: { value: { name: string }[] }) => page.value.map(({ name }) => name);
  const first = await body([], 'api-version=2026-11-01&$top=2');
  assert.deepEqual(names(first), ids.slice(0, 2));
  assert.ok(first.nextLink.startsWith(`${BASE}?`));
  await insertRun();
  const second = await body([], new URL(first.nextLink).search);
  assert.equal(new URL(first.nextLink).searchParams.get('api-version'), '2026-11-01');
  assert.deepEqual(names(second), ids.slice(2, 4));
  const third = await body([], new URL(second.nextLink).search);
  assert.deepEqual(names(third), ids.slice(4));
  assert.equal(third.nextLink, undefined);
  assert.equal(third.value[0].properties.phases, undefined);
});

test('what is no run, no template or no part of a run is not found', async () => {
  await deleteRuns();
  const other = resourceId(S, 'g', imageTemplates.type, 'Other');
  await putTemplate(other);
  const foreign = await insertRun({ template_id: other.toLowerCase() });
  const old = await insertRun({ created_at: new Date('2020-01-01') });
  await endRun(old, 'Succeeded');
  for (const id of [randomUUID(), 'x', "'; drop table run", foreign, old])
    await assert.rejects(get([id]), { code: 'NotFound' }, id);
  await assert.rejects(get([foreign, 'log']), { code: 'NotFound' });
  const mine = await insertRun();
  await assert.rejects(get([mine, 'disk']), { code: 'NotFound' });
  await assert.rejects(get([mine, 'log', 'x']), { code: 'NotFound' });
  for (const scope of ['', `/subscriptions/${S}`, resourceGroupId(S, 'g'), `${TEMPLATE}/triggers/t`])
    await assert.rejects(get([], '', { scope }), { code: 'NotFound' }, scope);
  await assert.rejects(get([], '', { scope: resourceId(S, 'g', imageTemplates.type, 'Nobody') }), {
    code: 'ResourceNotFound',
  });
  await assert.rejects(get([mine], '', { method: 'DELETE' }), { code: 'MethodNotAllowed' });
  for (const query of ['$top=0', '$top=x']) await assert.rejects(get([], query), { code: 'InvalidParameter' }, query);
  await assert.rejects(get([], '$skipToken=x'), { code: 'NotFound' });
  for (const query of ['follow=maybe', 'follow=true&lastEventId=x'])
    await assert.rejects(get([mine, 'log'], query), { code: 'InvalidParameter' }, query);
});

test('the log as text is the file, or the rows in its format where another host built', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(id, 0, ['Booting.'], 'kiln');
  await insertLines(
    id,
    1,
    Array.from({ length: 450 }, (_, index) => `line ${index}`),
  );
  await insertLines(id, 451, ['oops'], 'stderr');
  const rows = await stream([id, 'LOG']);
  assert.equal(rows.contentType, 'text/plain; charset=utf-8');
  const lines = (await textOf(rows.stream)).split('\n');
  assert.equal(lines.length, 453);
  assert.equal(lines[0], `[${id}] PACKER OUT ==> azure-arm: Booting.`);
  assert.equal(lines[450], `[${id}] PACKER OUT     azure-arm: line 449`);
  assert.equal(lines[451], `[${id}] PACKER OUT ==> azure-arm: oops`);
  await mkdir(join(home.logs, id));
  const text = `[${id}] PACKER ERR 2026/11/22 10:00:00 (telemetry) ending shell\n`.repeat(5000);
  await writeFile(join(home.logs, id, 'customization.log'), text);
  assert.equal(await textOf((await stream([id, 'log'], 'follow=false', { accept: 'text/event-stream' })).stream), text);
});

test('a log is followed to its end, as it grows', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(id, 0, ['one', 'two\nwith an end', 'd\u0061ta: three']);
  const followed = followLog(database.kysely, id, { from: 0, signal: never, allowed, poll: 5 });
  let text = '';
  const upTo = async (pattern: RegExp) => {
    while (!pattern.test(text)) {
      const { value, done } = await followed.next();
      assert.ok(!done, text);
      text += value;
    }
  };
  await upTo(/three/);
  await insertLines(id, 3, ['four']);
  await upTo(/four/);
  await insertLines(id, 4, ['five']);
  await endRun(id, 'Failed', new KilnError('StepFailed', 'exit code 3'));
  for await (const piece of followed) text += piece;
  const events = parseEvents(text);
  assert.deepEqual(
    events.map(({ event }) => event),
    ['message', 'message', 'message', 'message', 'message', 'end'],
  );
  assert.deepEqual(
    events.map(({ id: seq }) => seq),
    ['0', '1', '2', '3', '4', undefined],
  );
  assert.deepEqual(
    events.slice(0, 5).map(({ data }) => data.text),
    ['one', 'two\nwith an end', 'data: three', 'four', 'five'],
  );
  assert.deepEqual(Object.keys(events[0]!.data), ['seq', 'at', 'phase', 'stream', 'text']);
  assert.deepEqual(events[5]!.data, {
    ...{ state: 'Failed', message: 'exit code 3', error: { code: 'StepFailed', message: 'exit code 3' } },
  });
});

test('whoever comes again goes on where they were', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(
    id,
    0,
    Array.from({ length: 1000 }, (_, index) => `${index} ${'x'.repeat(200)}`),
  );
  await endRun(id, 'Succeeded');
  const all = await stream([id, 'log'], '', { accept: 'text/html, text/event-stream' });
  assert.equal(all.contentType, 'text/event-stream; charset=utf-8');
  assert.equal(parseEvents(await textOf(all.stream)).length, 1001);
  const resumed = parseEvents(await textOf((await stream([id, 'log'], 'follow', { lastEventId: '997' })).stream));
  assert.deepEqual(
    resumed.map(({ id: seq }) => seq),
    ['998', '999', undefined],
  );
  const done = parseEvents(await textOf((await stream([id, 'log'], 'follow=true&lastEventId=999')).stream));
  assert.deepEqual(
    done.map(({ event }) => event),
    ['end'],
  );
});

test('a log ends for a reader who may not read it any more', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(id, 0, ['one']);
  let may = true;
  const options = { from: 0, signal: never, allowed: async () => may, poll: 5, ask: 0 };
  const followed = followLog(database.kysely, id, options);
  let text = '';
  while (!/one/.test(text)) text += (await followed.next()).value;
  await insertLines(id, 1, ['two']);
  while (!/two/.test(text)) text += (await followed.next()).value;
  may = false;
  await insertLines(id, 2, ['three']);
  for await (const piece of followed) text += piece;
  assert.doesNotMatch(text, /three|event: end/);
});

test('a log that another worker begins anew is told from the beginning', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(id, 0, ['old one', 'old two']);
  const followed = followLog(database.kysely, id, { from: 0, signal: never, allowed, poll: 5 });
  let text = '';
  while (!/old two/.test(text)) text += (await followed.next()).value;
  await database.kysely.deleteFrom('log_line').where('run_id', '=', id).execute();
  await insertLines(id, 0, ['new one', 'new two', 'new three']);
  await endRun(id, 'Succeeded');
  for await (const piece of followed) text += piece;
  const told = parseEvents(text).map(({ event, data }) => data.text ?? event);
  assert.deepEqual(told, ['old one', 'old two', 'restart', 'new one', 'new two', 'new three', 'end']);
});

test('readers that stand still hold neither connections nor more than a piece', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(
    id,
    0,
    Array.from({ length: 2000 }, () => 'x'.repeat(1000)),
  );
  const readers = Array.from({ length: 30 }, () => followLog(database.kysely, id, { from: 0, signal: never, allowed }));
  for (const reader of readers) {
    await reader.next();
    const { value } = await reader.next();
    assert.ok((value as string).length < 64 * 1024);
  }
  // The pool has fewer connections than there are readers.
  assert.equal((await body([id])).name, id);
  for (const reader of readers) await reader.return(undefined);
});

test('a follower ends when its client goes or the server closes', async () => {
  await deleteRuns();
  const id = await insertRun();
  await insertLines(id, 0, ['one']);
  const gone = new AbortController();
  const { stream: pieces } = await stream([id, 'log'], 'follow=true', { signal: gone.signal });
  let text = '';
  for await (const piece of pieces) {
    text += piece;
    if (text.includes('one')) setImmediate(() => gone.abort());
  }
  assert.doesNotMatch(text, /event: end/);
});
