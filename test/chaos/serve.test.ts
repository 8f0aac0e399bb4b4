/**
 * A server that ends while it builds: by SIGTERM, as an init system does it, and by kill -9. The next one builds what was under way, and nothing of the first
 * is left. And a cancel through the API while a step runs.
 */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import type { Rest } from '../clients/rest.ts';
import { leftovers, temporaryHome } from '../kiln.ts';
import * as api from './api-builds.ts';
import { beginRun, end, LOCATION, lastRun, layGround, logOf, ok, putTemplate, until, VERSION } from './api-builds.ts';
import { makeQuickGuest } from './quick-guest.ts';
import { slotNumbers, tracesOf } from './traces.ts';

let home = '';
let env: NodeJS.ProcessEnv = {};
const cleanUp: (() => Promise<void>)[] = [];

before(async () => {
  const made = await temporaryHome();
  const directory = await temporaryHome();
  cleanUp.push(made.remove, directory.remove);
  home = made.path;
  const guest = await makeQuickGuest(directory.path);
  env = { KILN_CACHE: guest.cache };
  await copyFile(guest.catalogue, join(home, 'catalogue.json'));
});

after(async () => {
  for (const remove of cleanUp) await remove();
});

const serve = () => api.serve(home, env);

/** Makes a template whose step says that it runs, and takes a while. @returns its id, Succeeded */
async function template(rest: Rest, name: string, seconds: number): Promise<string> {
  await layGround(rest);
  const inline = ['echo the step runs', `sleep ${seconds}`];
  return await putTemplate(rest, name, { customize: [{ type: 'Shell', name: 'long', inline }] });
}

/** Begins a run and waits until its step runs. @returns the run's id */
async function runUntilStep(rest: Rest, id: string): Promise<string> {
  const runId = await beginRun(rest, id);
  await until(async () => (await logOf(rest, id, runId)).includes('the step runs'));
  return runId;
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const)
  test(`${signal} of a server that builds: the next one builds it, and nothing else is left`, async () => {
    const first = await serve();
    const id = await template(first.rest, `ended-by-${signal.toLowerCase()}`, 6);
    const runId = await runUntilStep(first.rest, id);
    const slots = await slotNumbers(home, runId);
    await end(first, signal);
    if (signal === 'SIGTERM') assert.deepEqual(await tracesOf(home, runId, slots, 'files only'), []);

    const second = await serve();
    try {
      assert.equal((await lastRun(second.rest, id)).runState, 'Running');
      await until(async () => (await lastRun(second.rest, id)).runState !== 'Running');
      const status = await lastRun(second.rest, id);
      assert.deepEqual([status.runState, status.message], ['Succeeded', '']);
      const outputs = await ok(second.rest, 'GET', `${id}/runOutputs?${VERSION}`);
      assert.equal(outputs.body.value.length, 1);
      const operation = await ok(
        second.rest,
        'GET',
        `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.VirtualMachineImages/locations/${LOCATION}/operations/${runId}?${VERSION}`,
      );
      assert.equal(operation.body.status, 'Succeeded');
    } finally {
      await end(second, 'SIGTERM');
    }
    assert.deepEqual(await tracesOf(home, runId, slots), []);
  });

test('a cancel through the API: Canceling at once, then Canceled, and the machine is gone', async t => {
  const server = await serve();
  try {
    const id = await template(server.rest, 'canceled', 600);
    const runId = await runUntilStep(server.rest, id);
    const begun = performance.now();
    assert.equal((await server.rest.send('POST', `${id}/Cancel?${VERSION}`)).status, 204);
    assert.match((await lastRun(server.rest, id)).runState!, /^Cancel(ing|ed)$/);
    await until(async () => (await lastRun(server.rest, id)).runState === 'Canceled');
    t.diagnostic(`Canceled after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    assert.deepEqual(await tracesOf(home, runId), []);
    const again = await server.rest.send('POST', `${id}/cancel?${VERSION}`);
    assert.deepEqual([again.status, again.body.error.code], [405, 'OperationNotAllowed']);
  } finally {
    await end(server, 'SIGTERM');
  }
  assert.deepEqual(await leftovers(home), []);
});
