/** `optimize` over HTTP: what is refused, what clients see while it goes on, and what is cancelled. Real guests are in test/boot. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, startTestServer, type TestServer } from '../server.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

let server: TestServer;
let ground: Ground;
let files: FileServer;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Optimize');
  files = await serveFiles();
});
after(async () => {
  await files?.close();
  await server?.close();
});

interface Run {
  readonly runState: string;
  readonly runSubState?: string;
}

const put = (name: string, more: object, apiVersion = NEWEST) => {
  const plain = plainTemplate(ground) as { properties: object };
  const body = { ...plain, properties: { ...plain.properties, ...more } };
  return server.request('PUT', ground.template(name), { apiVersion, body });
};
const get = (path: string, apiVersion = NEWEST) => server.request('GET', path, { apiVersion });
const lastRun = async (path: string, apiVersion?: string) =>
  ((await get(path, apiVersion)).body as { properties: { lastRunStatus?: Run } }).properties.lastRunStatus;
const stateOf = (answer: Answer) => (answer.body as { status: string }).status;

async function made(name: string, more: object): Promise<string> {
  const answer = await server.settled(await put(name, more));
  assert.equal(stateOf(answer), 'Succeeded', answer.text);
  return ground.template(name);
}

const run = (path: string) => server.request('POST', `${path}/run`, { apiVersion: NEWEST });

test('a workload has a script, and came with 2025-10-01', async () => {
  const without = await put('refused', { optimize: { workload: { state: 'Enabled' } } });
  assert.equal(without.status, 400);
  assert.match(without.text, /optimize\.workload.*'scriptUri' must be specified when 'state' is 'Enabled'/);
  const file = await put('refused', { optimize: { workload: { state: 'Disabled', scriptUri: 'file:///etc/passwd' } } });
  assert.equal(file.status, 400, file.text);
  const early = await put('refused', { optimize: { workload: { state: 'Disabled' } } }, '2024-02-01');
  assert.equal(early.status, 400);
  assert.match(early.text, /unknown field \\"workload\\"/);
  const missing = await server.settled(
    await put('missing', { optimize: { workload: { state: 'Enabled', scriptUri: `${files.origin}/missing.sh` } } }),
  );
  assert.equal(stateOf(missing), 'Failed');
  const scriptUri = `${files.origin}/load.sh`;
  const other = { state: 'Enabled', scriptUri, sha256Checksum: 'f'.repeat(64) };
  const changed = await server.settled(await put('changed', { optimize: { workload: other } }));
  assert.match(
    changed.text,
    /The file of properties\.optimize\.workload has the SHA-256 checksum .* but the template says f{64}\./,
  );
});

test('while it goes on, a run is Optimizing, and can be cancelled', async () => {
  const scriptUri = `${files.origin}/load.sh`;
  const path = await made('held', {
    optimize: { vmBoot: { state: 'Enabled' }, workload: { state: 'Enabled', scriptUri } },
  });
  server.machines.hold('trace');
  const started = await run(path);
  for (let tries = 0; server.machines.held === 0 && tries < 600; tries++) await sleep(50);
  assert.deepEqual(
    [(await lastRun(path))?.runSubState, (await lastRun(path, '2022-07-01'))?.runSubState],
    ['Optimizing', 'Optimizing'],
  );
  assert.equal((await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST })).status, 204);
  server.machines.release();
  assert.equal(stateOf(await server.settled(started)), 'Canceled');
  assert.equal((await lastRun(path))?.runState, 'Canceled');

  const again = await server.settled(await run(path));
  assert.equal(stateOf(again), 'Succeeded', again.text);
  const rows = await server.service.database.kysely
    .selectFrom('phase')
    .innerJoin('run', 'run.id', 'phase.run_id')
    .select(['phase.kind', 'phase.name', 'phase.state', 'phase.detail'])
    .where('run.state', '=', 'Succeeded')
    .orderBy('phase.index')
    .execute();
  const kinds = rows.map(({ kind }) => kind);
  // The traced boot proves the image.
  assert.deepEqual(kinds.slice(kinds.indexOf('capture')), ['capture', 'optimize', 'distribute']);
  const { name, detail } = rows.find(({ kind }) => kind === 'optimize')!;
  assert.equal(name, 'lay out what a boot and the workload read');
  assert.deepEqual(Object.keys(detail as object).sort(), ['after', 'before', 'blockSize', 'fileSize', 'read']);
});

test('Disabled, and VHDs alone, are not optimized', async () => {
  const optimize = { vmBoot: { state: 'Enabled' } };
  const paths = [
    await made('off', { optimize: { vmBoot: { state: 'Disabled' } } }),
    await made('vhd', { optimize, distribute: [{ type: 'VHD', runOutputName: 'vhd' }] }),
  ];
  for (const path of paths) assert.equal(stateOf(await server.settled(await run(path))), 'Succeeded');
  const rows = await server.service.database.kysely
    .selectFrom('phase')
    .innerJoin('run', 'run.id', 'phase.run_id')
    .select('run.template_id')
    .where('phase.kind', '=', 'optimize')
    .execute();
  assert.deepEqual(
    rows.filter(({ template_id }) => paths.some(path => path.toLowerCase() === template_id)),
    [],
  );
});
