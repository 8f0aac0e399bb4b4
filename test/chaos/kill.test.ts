/**
 * kill -9 of a build at every phase. The next start tells the truth about it, and nothing of it is left; at the end, on the same
 * state directory, the same template builds.
 */
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { openDatabase } from '../../src/database/connection.ts';
import { sha256File } from '../../src/disks/hash.ts';
import { convertDisk } from '../../src/disks/qemu-img.ts';
import { openHome } from '../../src/home.ts';
import { run } from '../../src/processes/process.ts';
import { kiln, leftovers, type Running, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { outputsOf, slotNumbers, tracesOf } from './traces.ts';

let home = '';
let directory = '';
let env: NodeJS.ProcessEnv = {};
let server: Server;
let slow = true;
/** Resolved when the script, the disk are asked for. */
const asked = { script: Promise.withResolvers<void>(), disk: Promise.withResolvers<void>() };
const templates: Record<string, string> = {};
const cleanUp: (() => Promise<void>)[] = [];

const PUBLISHED = { type: 'PlatformImage', publisher: 'Chaos', offer: 'published', sku: 'guest', version: 'latest' };

before(async () => {
  for (const set of [
    (path: string) => {
      home = path;
    },
    (path: string) => {
      directory = path;
    },
  ]) {
    const made = await temporaryHome();
    cleanUp.push(made.remove);
    set(made.path);
  }
  const guest = await makeQuickGuest(directory);
  env = { KILN_CACHE: guest.cache };
  const published = join(directory, 'published.qcow2');
  await convertDisk({ path: guest.disk, format: 'raw' }, { to: published, format: 'qcow2' });
  const url = await serve(published);
  await writeFile(
    guest.catalogue,
    JSON.stringify({
      'Chaos:quick:guest': { file: guest.disk },
      'Chaos:published:guest': { url: `${url}/published.qcow2`, sha256: await sha256File(published) },
    }),
  );
  const script = { type: 'Shell', name: 'slow script', scriptUri: `${url}/script.sh` };
  templates.create = await writeTemplate(directory, 'create', { customize: [script] });
  templates.source = await writeTemplate(directory, 'source', { source: PUBLISHED, bootProof: 'on', outputs: 3 });
  templates.boot = await writeTemplate(directory, 'boot');
  templates.customize = await writeTemplate(directory, 'customize', { steps: [['echo the step runs', 'sleep 600']] });
  templates.generalize = await writeTemplate(directory, 'generalize');
  templates.capture = await writeTemplate(directory, 'capture');
  templates.prove = await writeTemplate(directory, 'prove', { bootProof: 'on' });
  templates.finished = await writeTemplate(directory, 'finished');
  templates.distribute = await writeTemplate(directory, 'distribute', { outputs: 3 });
});

after(async () => {
  server?.closeAllConnections();
  server?.close();
  for (const remove of cleanUp.reverse()) await remove();
});

/** A server that, while it is slow, stands still after the first bytes. */
async function serve(disk: string): Promise<string> {
  const { size } = await stat(disk);
  server = createServer((request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const length = request.url === '/script.sh' ? 1000 : size;
    const range = from > 0 ? { 'content-range': `bytes ${from}-${size - 1}/${size}` } : {};
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': length - from, etag: '"one"', ...range });
    const end = slow ? Math.min(length, 5_000_000) - 1 : length - 1;
    if (request.url === '/script.sh') response.write('#!/bin/sh\n');
    else createReadStream(disk, { start: from, end }).pipe(response, { end: !slow });
    (request.url === '/script.sh' ? asked.script : asked.disk).resolve();
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const build = (name: string) =>
  start(['--home', home, '-v', 'build', templates[name]!, '--catalogue', join(directory, 'catalogue.json')], env);

interface Report {
  readonly state: string;
  readonly error: { readonly code: string } | null;
  readonly phases: readonly {
    readonly kind: string;
    readonly state: string;
    readonly error: { readonly code: string } | null;
  }[];
}

/** Kills a build when `ready`, and looks at what the next start says and what is left. */
async function killed(
  name: string,
  ready: (build: Running, runId: string) => Promise<unknown>,
): Promise<Report & { readonly slots: readonly number[] }> {
  const running = build(name);
  const [, runId = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
  await ready(running, runId);
  const slots = await slotNumbers(home, runId);
  running.child.kill('SIGKILL');
  assert.equal((await running.ended).signal, 'SIGKILL');
  const shown = await kiln(['--home', home, '--json', 'runs', 'show', runId], env);
  assert.equal(shown.exitCode, 0, shown.stderr);
  assert.deepEqual(await tracesOf(home, runId, slots), []);
  const report = { ...(JSON.parse(shown.stdout) as Report), slots };
  if (report.state === 'Succeeded') return report;
  assert.equal(report.state, 'Failed');
  assert.equal(report.error?.code, 'WorkerLost');
  const at = report.phases.findIndex(phase => phase.state !== 'Succeeded');
  const told = report.phases.map(({ kind, state }) => `${kind} ${state}`).join(', ');
  assert.notEqual(at, -1, `nothing was left to do, and yet it failed: ${told}`);
  // Skipped: it was killed between two phases.
  assert.match(report.phases[at]!.state, /^(Failed|Skipped)$/, told);
  if (report.phases[at]!.state === 'Failed') assert.equal(report.phases[at]!.error?.code, 'WorkerLost');
  // Targets run at once: each is as far as it was.
  for (const { kind, state, error } of report.phases.slice(at + 1)) {
    if (kind !== 'distribute') assert.equal(state, 'Skipped', told);
    else if (state === 'Failed') assert.equal(error?.code, 'WorkerLost', told);
    else assert.match(state, /^(Succeeded|Skipped)$/, told);
  }
  return report;
}

/** Where it was killed. */
const phaseOf = (report: Report) => report.phases.find(phase => phase.state !== 'Succeeded')?.kind;

/** Resolves when a QEMU of the run is there. */
async function untilMachine(running: Running, runId: string, name: string): Promise<void> {
  let ended = false;
  void running.ended.then(() => {
    ended = true;
  });
  for (; !ended; await sleep(100))
    if ((await run('ps', ['-eo', 'args='])).stdout.includes(`-name kiln-${runId}-${name} `)) return;
  assert.fail((await running.ended).stderr);
}

describe('kill -9', { concurrency: 2 }, () => {
  test('while a template is created', async () => {
    const running = build('create');
    await Promise.race([asked.script.promise, running.ended]);
    running.child.kill('SIGKILL');
    assert.equal((await running.ended).signal, 'SIGKILL');
    const shown = await kiln(['--home', home, '--json', 'runs', 'list'], env);
    assert.ok(!(JSON.parse(shown.stdout) as { name: string }[]).some(({ name }) => name === 'create'));
    const database = await openDatabase({ home: await openHome({ home }), log: () => {} });
    try {
      const { properties } = await database.kysely
        .selectFrom('resource')
        .select('properties')
        .where('name', '=', 'create')
        .executeTakeFirstOrThrow();
      assert.equal((properties as { provisioningState?: string }).provisioningState, 'Failed');
    } finally {
      await database.close();
    }
    assert.deepEqual(await readdir(join(home, 'files')), []);
  });

  test('while the source is downloaded', async () => {
    const report = await killed('source', async running => {
      await running.until(/Downloading http/);
      await asked.disk.promise;
      await sleep(500);
    });
    assert.equal(phaseOf(report), 'source');
  });

  test('while the machine boots', async () => {
    const report = await killed('boot', async (running, runId) => {
      await untilMachine(running, runId, 'build');
      await sleep(2000);
    });
    assert.equal(phaseOf(report), 'boot');
  });

  test('while a step runs', async () => {
    const report = await killed('customize', running => running.until(/the step runs$/m));
    assert.equal(phaseOf(report), 'customize');
    assert.equal(report.slots.length, process.getuid?.() === 0 ? 1 : 0, 'there was a network to take down');
  });

  test('while the machine is generalized', async () => {
    const report = await killed('generalize', running => running.until(/^ {2}Running waagent/m));
    assert.equal(phaseOf(report), 'generalize');
  });

  test('while the disk is captured', async () => {
    const report = await killed('capture', running => running.until(/^The machine is off; capturing/m));
    assert.equal(phaseOf(report), 'capture');
  });

  test('while the image is proven', async () => {
    const report = await killed('prove', async (running, runId) => {
      await untilMachine(running, runId, 'proof');
      await sleep(2000);
    });
    assert.equal(phaseOf(report), 'prove');
  });

  test('while targets are distributed to', async t => {
    let runId = '';
    const report = await killed('distribute', async (running, id) => {
      runId = id;
      await running.until(/^VHD "distribute-vhd" → westeurope: \//m);
    });
    const outputs = (await outputsOf(home, runId)).map(({ name }) => name);
    t.diagnostic(`the run ${report.state} with ${outputs.length} outputs`);
    if (report.state === 'Succeeded') assert.equal(outputs.length, 3);
    else {
      assert.equal(phaseOf(report), 'distribute');
      assert.ok(outputs.includes('distribute-vhd'), 'the VHD was said to be published');
    }
  });

  test('when all is done and only the word of it is missing', async () => {
    const database = await openDatabase({ home: await openHome({ home }), log: () => {} });
    try {
      const over = Promise.withResolvers<void>();
      let lock: Promise<unknown> | undefined;
      /** Holds the run's row from when `locked` resolves until `until` does. */
      const hold = (runId: string, until: Promise<unknown>) => {
        const locked = Promise.withResolvers<void>();
        const held = database.kysely.transaction().execute(async trx => {
          await trx.selectFrom('run').select('id').where('id', '=', runId).forNoKeyUpdate().execute();
          locked.resolve();
          await until;
        });
        return { held, locked: Promise.race([locked.promise, held]) };
      };
      const waiting = async (count: number, running: Running) => {
        const waits = sql<{
          n: number;
        }>`select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock'`;
        while ((await waits.execute(database.kysely)).rows[0]!.n < count) {
          assert.equal(running.child.exitCode, null, 'it was to wait for the row');
          await sleep(20);
        }
      };
      const report = killed('finished', async (running, runId) => {
        await running.until(/^capture: /m);
        void running.ended.then(() => over.resolve());
        // Publishing takes next to no time. The row is held when that phase begins, which writes it, and asked for again meanwhile: who has waited longest gets it.
        const begun = Promise.withResolvers<void>();
        const first = hold(runId, Promise.race([begun.promise, over.promise]));
        await first.locked;
        await waiting(1, running);
        // So that its end cannot be written; that of the phase can.
        const second = hold(runId, over.promise);
        lock = second.held;
        await waiting(2, running);
        begun.resolve();
        await second.locked;
        for (let states = ['']; states.some(state => state !== 'Succeeded'); await sleep(50)) {
          assert.equal(running.child.exitCode, null, 'it was to wait for the row');
          const phases = await database.kysely
            .selectFrom('phase')
            .select('state')
            .where('run_id', '=', runId)
            .execute();
          states = phases.map(({ state }) => state);
        }
      });
      assert.equal((await report).state, 'Succeeded');
      await lock;
    } finally {
      await database.close();
    }
  });
});

test('after all that, the state directory is clean, and the template that lost its download builds', async () => {
  const before = await kiln(['--home', home, '--json', 'runs', 'list'], env);
  for (const { state } of JSON.parse(before.stdout) as Report[]) assert.match(state, /^(Failed|Succeeded)$/);
  assert.deepEqual(await leftovers(home), []);
  slow = false;
  const outcome = await build('source').ended;
  assert.equal(outcome.exitCode, 0, outcome.stderr);
  const shown = await kiln(['--home', home, '--json', 'runs', 'show', 'latest'], env);
  const { state, id, phases } = JSON.parse(shown.stdout) as Report & { id: string };
  assert.equal(state, 'Succeeded');
  assert.ok(phases.every(phase => phase.state === 'Succeeded'));
  assert.equal((await outputsOf(home, id)).length, 3);
  assert.deepEqual(await tracesOf(home, id), []);
  assert.deepEqual(await leftovers(home), []);
});
