/**
 * A run that is canceled, or whose time (buildTimeoutInMinutes) is over, in the middle of each of its phases: how it ends, and that nothing is left. On a real database, engine and
 * region store; in machines without guests, which get stuck where they are told to.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { emptyCatalogue, guestlessMachines } from '../../../test/wire/machines.ts';
import { LOCAL_SUBSCRIPTION, resourceId } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { PhaseKind } from '../../builds/phase.ts';
import type { MachineFactory } from '../../machines/machine.ts';
import { openService, type Service } from '../../service.ts';
import { ensureNeighbours } from '../ensure.ts';
import { putTemplate } from './create.ts';
import { imageTemplates } from './image-templates.ts';
import { normaliseTemplate } from './normalise.ts';
import { cancelRun, startRun } from './run.ts';
import { sourceOf } from './source-image.ts';
import { validateTemplate } from './validate.ts';

delete process.env.DATABASE_URL;
// The catalogue of this test is nobody else's.
delete process.env.KILN_CACHE;

const API = '2025-10-01';
const GROUP = 'phases';
const DEFINITION = resourceId(LOCAL_SUBSCRIPTION, GROUP, 'Microsoft.Compute/galleries/images', 'g', 'd');

/** Where a run gets stuck, as the machines and the servers of this test call it, and of which template. */
const PLACES: readonly (readonly [kind: PhaseKind, place: string, template: 'whole' | 'far' | 'proven'])[] = [
  ['source', 'the source’s server', 'far'],
  ['boot', 'start build', 'whole'],
  ['customize', 'script in build', 'whole'],
  ['generalize', 'sh in build', 'whole'],
  ['capture', 'power off build', 'whole'],
  ['optimize', 'start trace', 'whole'],
  ['prove', 'start proof', 'proven'],
  ['validate', 'script in proof', 'whole'],
  ['distribute', 'the blob’s server', 'whole'],
];

const LATE = 'It took longer than the \\d+ s that it may take\\.';
/** Of a run whose time is over. */
const SENTENCES = {
  build: new RegExp(`^Failed in building/customizing image: .*: 'context deadline exceeded'\\. ${LATE}$`),
  // The other target has its image.
  distribute: new RegExp(`^Failed in distributing 1 images out of total 2: .*: context deadline exceeded: ${LATE}}$`),
};

let service: Service;
let root: string;
/** Neither answers, once it is to be stuck there. */
const remote = createServer((request, response) => {
  const place = request.url?.startsWith('/blob') ? 'the blob’s server' : 'the source’s server';
  // A blob is asked for before the build, to see whether it could be written.
  if (place === 'the blob’s server' && request.headers['if-match'] !== undefined)
    response.writeHead(412, { 'x-ms-error-code': 'ConditionNotMet' }).end();
  else reached(place);
});
let stuckAt: string | undefined;
let arrived = Promise.withResolvers<void>();
let machines: string[] = [];

function reached(place: string): boolean {
  if (place === stuckAt) arrived.resolve();
  return place === stuckAt;
}

/** Whatever a machine does when it is told to stop, it is not what the run ends with. */
async function pass(place: string, signal: AbortSignal | undefined): Promise<void> {
  if (!reached(place)) return;
  await once(signal!, 'abort');
  throw new Error('The connection broke off.');
}

function stuckMachines(): MachineFactory {
  const guestless = guestlessMachines();
  return {
    shape: guestless.shape,
    async start(request) {
      const { name, signal } = request;
      await pass(`start ${name}`, signal);
      const machine = await guestless.start(request);
      machines.push(name);
      const destroy = async () => {
        machines = machines.filter(one => one !== name);
        await machine.destroy();
      };
      return {
        ...machine,
        async exec(command, options = {}) {
          await pass(`${command.includes('/tmp/script_') ? 'script' : 'sh'} in ${name}`, options.signal);
          return await machine.exec(command, options);
        },
        async powerOff(options) {
          await pass(`power off ${name}`, options?.signal);
          await machine.powerOff(options);
        },
        destroy,
        [Symbol.asyncDispose]: destroy,
      };
    },
  };
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-phases-'));
  await chmod(root, 0o711);
  remote.listen(0, '127.0.0.1');
  await once(remote, 'listening');
  service = await openService({ home: root, log: () => undefined, machines: stuckMachines() });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
  const path = join(root, 'catalogue.json');
  const far = { url: `${origin()}/disk.qcow2`, sha256: 'a'.repeat(64), version: '1.0.0', hyperVGeneration: 'V1' };
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), 'My:linux:far': far }));
});
after(async () => {
  remote.closeAllConnections();
  remote.close();
  await service?.close();
  if (root) await rm(root, { recursive: true, force: true });
});

const origin = () => `http://127.0.0.1:${(remote.address() as AddressInfo).port}`;
const store = () => service.database.kysely;
const shell = (name: string) => ({ type: 'Shell', name, inline: ['true'] });

/** @returns the template's id */
async function made(kind: 'whole' | 'far' | 'proven'): Promise<string> {
  const id = resourceId(LOCAL_SUBSCRIPTION, GROUP, imageTemplates.type, kind);
  const whole: JsonObject = {
    optimize: { vmBoot: { state: 'Enabled' } },
    validate: { inVMValidations: [shell('first'), shell('second')] },
  };
  const properties: JsonObject = {
    source: {
      type: 'PlatformImage',
      publisher: 'My',
      offer: 'linux',
      sku: kind === 'far' ? 'far' : '1',
      version: 'latest',
    },
    buildTimeoutInMinutes: 6,
    customize: [shell('first'), shell('second')],
    ...(kind === 'whole' && whole),
    distribute: [
      { type: 'VHD', runOutputName: 'elsewhere', uri: `${origin()}/blobs/c/b.vhd?sig=s` },
      { type: 'SharedImage', runOutputName: 'version', galleryImageId: DEFINITION },
    ],
  };
  const body = { location: 'eastus', properties };
  const checked = validateTemplate(body, { apiVersion: API, localFiles: true, identityOptional: true });
  const template = normaliseTemplate(checked.template, API);
  const guest = await sourceOf(template, { database: store(), home: service.home });
  await ensureNeighbours(store(), { templateId: id, template, guest, strict: false });
  const request = { id, body, apiVersion: API, local: true, where: 'here', home: service.home } as const;
  const { operation } = await putTemplate(service.engine, store(), request);
  const done = await service.engine.wait(operation);
  assert.equal(done.status, 'Succeeded', JSON.stringify(done.error));
  return id;
}

/** @param seconds after which its time is over */
async function begin(id: string, seconds?: number): Promise<string> {
  return await store()
    .transaction()
    .execute(async trx => {
      const run = await startRun(service.engine, trx, id, {
        ...{ where: 'here', machines: service.machines, cache: { use: false } },
      });
      const { timeout_seconds } = await trx
        .selectFrom('operation')
        .select('timeout_seconds')
        .where('id', '=', run)
        .executeTakeFirstOrThrow();
      assert.equal(timeout_seconds, 6 * 60);
      if (seconds) await trx.updateTable('operation').set({ timeout_seconds: seconds }).where('id', '=', run).execute();
      return run;
    });
}

async function ended(run: string, kind: PhaseKind, state: 'Canceled' | 'Failed'): Promise<string> {
  const { status, error } = await service.engine.wait(run, { signal: AbortSignal.timeout(60_000) });
  assert.equal(status, state);
  assert.equal(error?.code, state === 'Canceled' ? 'Canceled' : 'Timeout');
  const rows = await store().selectFrom('phase').selectAll().where('run_id', '=', run).orderBy('index').execute();
  const at = rows.findIndex(row => row.kind === kind);
  const targets = rows.findIndex(row => row.kind === 'distribute');
  for (const [index, row] of rows.entries())
    if (index < at) assert.equal(row.state, 'Succeeded', row.name);
    else if (index === at) assert.equal(row.state, state, row.name);
    else if (index < targets || kind !== 'distribute') assert.equal(row.state, 'Skipped', row.name);
  const { state: runState, message } = await store()
    .selectFrom('run')
    .select(['state', 'message'])
    .where('id', '=', run)
    .executeTakeFirstOrThrow();
  // The clock takes nothing back from the other target.
  assert.equal(runState, kind === 'distribute' && state === 'Failed' ? 'PartiallySucceeded' : state);
  assert.deepEqual(machines, []);
  assert.deepEqual(await readdir(join(root, 'runs')), []);
  const regions = await readdir(join(root, 'regions'), { recursive: true });
  assert.deepEqual(
    regions.filter(path => /(^|\/)\.staged\/[^/]/.test(path)),
    [],
  );
  return message ?? '';
}

/** A run that is stuck at the place; undefined when its time was over before. */
async function stuck(id: string, place: string, seconds?: number): Promise<string | undefined> {
  stuckAt = place;
  arrived = Promise.withResolvers();
  const run = await begin(id, seconds);
  const there = arrived.promise.then(() => true);
  return (await Promise.race([there, service.engine.wait(run).then(() => false)])) ? run : undefined;
}

for (const [kind, place, name] of PLACES) {
  test(`canceled during ${kind}`, async () => {
    const run = (await stuck(await made(name), place))!;
    await cancelRun(service.engine, store(), run);
    assert.equal(await ended(run, kind, 'Canceled'), 'The operation was canceled.');
  });

  test(`out of time during ${kind}`, async () => {
    const id = await made(name);
    let run: string | undefined;
    // A busy host needs longer to get there.
    for (let seconds = 2; !run; seconds *= 2) run = await stuck(id, place, seconds);
    assert.match(await ended(run, kind, 'Failed'), SENTENCES[kind === 'distribute' ? 'distribute' : 'build']);
  });
}
