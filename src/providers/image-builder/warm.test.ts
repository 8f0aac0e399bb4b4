/** Warm starts as rows and layers: on a real database, engine and layer store; machines without guests, which are frozen all the same. Real guests are in test/boot. */
import assert from 'node:assert/strict';
import { chmod, copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../arm/ids.ts';
import { openLayerStore } from '../../builds/layers/store.ts';
import type { CheckpointRequest, MachineFactory, MachineRequest, ResumeRequest } from '../../machines/machine.ts';
import { openService, type Service } from '../../service.ts';
import { ensureNeighbours } from '../ensure.ts';
import { removeResource } from '../store.ts';
import { putTemplate } from './create.ts';
import { imageTemplates } from './image-templates.ts';
import { normaliseTemplate } from './normalise.ts';
import { startRun } from './run.ts';
import { sourceOf } from './source-image.ts';
import { validateTemplate } from './validate.ts';
import { WARM_KIND, type WarmInput, type WarmOutput } from './warm.ts';
import { startWarming } from './warm-schedule.ts';

delete process.env.DATABASE_URL;
// Neither the catalogue nor the layers of this test are anybody else's.
delete process.env.KILN_CACHE;
delete process.env.KILN_CACHE_BUDGET;

const API = '2024-02-01';
const SOURCE = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' } as const;
const [SMALL, LARGE] = ['Standard_B1s', 'Standard_B1ms'];

let service: Service;
let log: string[] = [];
/** What machines did: `start 1024`, `resume 1024`, with their memory in MiB. */
let seen: string[] = [];
/** Machines start when it resolves. */
let gate: Promise<void> = Promise.resolve();

function machines(): MachineFactory {
  const guestless = guestlessMachines();
  const begin = async (verb: string, request: MachineRequest | ResumeRequest) => {
    seen.push(`${verb} ${request.memoryMiB}`);
    await Promise.race([
      gate,
      new Promise((_, reject) => request.signal?.addEventListener('abort', () => reject(request.signal!.reason))),
    ]);
    const machine = await guestless.start(request);
    const disks = [request.disk.path, ...request.checkpoints!];
    return {
      ...machine,
      async checkpoint({ memory }: CheckpointRequest) {
        for (const file of Object.values(memory)) await writeFile(file, 'memory', { mode: 0o600 });
        const path = disks.shift()!;
        await copyFile(path, disks[0]!);
        return { disk: { path, format: 'qcow2' as const }, memory: { ...memory, below: [] }, facts: {}, pausedMs: 1 };
      },
    };
  };
  return {
    shape: guestless.shape,
    start: request => begin('start', request),
    resume: request => begin('resume', request),
  };
}

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-warm-'));
  await chmod(root, 0o711);
  service = await openService({
    home: root,
    log: (_level, message) => void log.push(message),
    machines: machines(),
  });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
});
after(async () => {
  await service?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});
afterEach(async () => {
  const { kysely } = service.database;
  for (const { id } of await kysely
    .selectFrom('resource')
    .select('id')
    .where('id', 'like', '%imagetemplates/%')
    .execute())
    await removeResource(kysely, id);
  const store = await openLayerStore(service.home.cache);
  for (const { key } of await store.list()) await store.remove(key);
  [log, seen, gate] = [[], [], Promise.resolve()];
});

async function template(name: string, vmSize: string): Promise<string> {
  const { kysely } = service.database;
  const id = resourceId(LOCAL_SUBSCRIPTION, 'warm', imageTemplates.type, name);
  const properties = {
    ...{ source: SOURCE, vmProfile: { vmSize }, customize: [{ type: 'Shell', inline: ['true'] }] },
    distribute: [{ type: 'VHD', runOutputName: 'vhd' }],
  };
  const body = { location: 'eastus', tags: { 'kiln.bootProof': 'off' }, properties };
  const checked = validateTemplate(body, { apiVersion: API, localFiles: true, identityOptional: true });
  const normal = normaliseTemplate(checked.template, API);
  const guest = await sourceOf(normal, { database: kysely, home: service.home });
  await ensureNeighbours(kysely, { templateId: id, template: normal, guest, strict: false });
  const { operation } = await putTemplate(service.engine, kysely, {
    id,
    body,
    apiVersion: API,
    local: true,
    where: 'here',
    home: service.home,
  });
  assert.equal((await service.engine.wait(operation)).status, 'Succeeded');
  return id;
}

async function warm(vmSize: string) {
  const input: WarmInput = { template: { location: 'eastus', source: SOURCE }, vmSize, osDiskSizeGB: 0 };
  const { database, engine } = service;
  return await database.kysely
    .transaction()
    .execute(trx => engine.submit(trx, { kind: WARM_KIND, resourceId: null, input, where: 'here' }));
}

const ended = (id: string) => service.engine.wait(id, { signal: AbortSignal.timeout(60_000) });
const run = (id: string) =>
  startRun(service.engine, service.database.kysely, id, { where: 'here', machines: service.machines });
const layers = async () => (await openLayerStore(service.home.cache)).list();

async function until(true_: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let n = 0; n < 600; n++) {
    if (await true_()) return;
    await sleep(50);
  }
  assert.fail(`${what}: ${log.join(' ')} ${seen.join(' ')}`);
}

/** The source is on this host: nothing is fetched in the background. */
async function known(): Promise<void> {
  await ended(await warm(SMALL));
  const store = await openLayerStore(service.home.cache);
  for (const { key } of await store.list()) await store.remove(key);
  seen = [];
}

const warming = () => startWarming({ environment: service.environment, everyMs: 50, watchMs: 50 });

async function warmed(use: () => Promise<void>): Promise<void> {
  const background = warming();
  try {
    await use();
  } finally {
    await background.close();
  }
}

test('one that is made is there the next time, leaves nothing else, and builds begin with it', async () => {
  const first = (await ended(await warm(SMALL))).output as WarmOutput;
  const second = (await ended(await warm(SMALL))).output as WarmOutput;
  assert.deepEqual([first.made, second.made, first.key], [true, false, second.key]);
  assert.deepEqual(seen, ['start 1024']);
  assert.deepEqual(await readdir(service.home.runs), []);
  assert.equal((await ended(await run(await template('builds', SMALL)))).status, 'Succeeded');
  assert.deepEqual(seen.slice(0, 2), ['start 1024', 'resume 1024']);
});

test('of two that need the same one, one makes it', async () => {
  const both = await Promise.all((await Promise.all([warm(SMALL), warm(SMALL)])).map(ended));
  assert.deepEqual(both.map(({ output }) => (output as WarmOutput).made).sort(), [false, true]);
  assert.deepEqual(seen, ['start 1024']);
});

test('one that is canceled leaves nothing', async () => {
  gate = new Promise(() => {});
  const id = await warm(SMALL);
  await until(() => seen.length === 1, 'no machine');
  await service.engine.cancel(id);
  assert.equal((await ended(id)).status, 'Canceled');
  assert.deepEqual([await layers(), await readdir(service.home.runs)], [[], []]);
});

test('a build that cannot take one says which fact differs', async () => {
  await ended(await warm(LARGE));
  const id = await run(await template('misfit', SMALL));
  assert.equal((await ended(id)).status, 'Succeeded');
  const rows = await service.database.kysely.selectFrom('log_line').select('text').where('run_id', '=', id).execute();
  const said = rows.map(({ text }) => text).filter(text => text.includes('booting cold'));
  assert.deepEqual(said, [
    'The warm start of My:linux:1:1.2.3 was made with 2048 MiB of memory, this build has 1024 MiB of memory; booting cold.',
  ]);
});

test('in the background: each source and shape once, then nothing more', async () => {
  await known();
  for (const [name, size] of Object.entries({ one: SMALL, two: SMALL, three: LARGE })) await template(name, size);
  await warmed(async () => {
    await until(async () => (await layers()).length === 2, 'no two layers');
    await sleep(500);
  });
  assert.deepEqual(seen.sort(), ['start 1024', 'start 2048']);
});

test('in the background: a build of something else has the host at once', async () => {
  const mine = await template('mine', LARGE);
  await template('other', SMALL);
  await ended(await warm(LARGE));
  seen = [];
  const held = Promise.withResolvers<void>();
  gate = held.promise;
  await warmed(async () => {
    await until(() => seen.includes('start 1024'), 'nothing is made');
    const id = await run(mine);
    await until(() => log.includes('The warm start is given up.'), 'it is not given up');
    await until(() => seen.includes('resume 2048'), 'the build does not begin');
    assert.equal(seen.filter(what => what === 'start 1024').length, 1);
    held.resolve();
    assert.equal((await ended(id)).status, 'Succeeded');
  });
});

test('in the background: a build that needs the very same waits for it, and boots nothing', async () => {
  const id = await template('same', SMALL);
  const held = Promise.withResolvers<void>();
  gate = held.promise;
  await warmed(async () => {
    await until(() => seen.length === 1, 'nothing is made');
    const begun = await run(id);
    await sleep(500);
    held.resolve();
    assert.equal((await ended(begun)).status, 'Succeeded');
  });
  assert.deepEqual(seen.slice(0, 2), ['start 1024', 'resume 1024']);
  assert.ok(!log.includes('The warm start is given up.'));
});

test('in the background: nothing where the layers have no room', async () => {
  await template('no-room', SMALL);
  process.env.KILN_CACHE_BUDGET = '10M';
  try {
    await warmed(() => until(() => log.some(line => line.includes('no room')), 'it is not said'));
  } finally {
    delete process.env.KILN_CACHE_BUDGET;
  }
  assert.deepEqual(seen, []);
});
