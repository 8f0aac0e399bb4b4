/**
 * A server that ends while it builds: by SIGTERM, as an init system does it, and by kill -9. The next one builds what was under way, and nothing of the first
 * is left. And a cancel through the API while a step runs.
 */
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { leftovers, type Running, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, QUICK_SOURCE } from './quick-guest.ts';
import { slotNumbers, tracesOf } from './traces.ts';

const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/chaos`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';
const location = 'westeurope';
const VERSION = 'api-version=2024-02-01';

let home = '';
let env: NodeJS.ProcessEnv = {};
const cleanUp: (() => Promise<void>)[] = [];

interface Server {
  readonly running: Running;
  readonly rest: Rest;
}

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

async function serve(): Promise<Server> {
  const running = start(['--home', home, 'serve', '--port', '0'], env);
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  return { running, rest: await restOf({ origin, env: await clientEnvironment(home) }) };
}

async function end({ running, rest }: Server, signal: NodeJS.Signals): Promise<void> {
  rest.close();
  running.child.kill(signal);
  await running.ended;
}

const ok = async (rest: Rest, method: string, path: string, body?: unknown) => {
  const answer = await rest.send(method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer;
};

/** Makes a template whose step says that it runs, and takes a while. @returns its id, Succeeded */
async function template(rest: Rest, name: string, seconds: number): Promise<string> {
  await ok(rest, 'PUT', `${GROUP}?api-version=2021-04-01`, { location });
  const identity = await ok(rest, 'PUT', `${IDENTITY}?api-version=2023-01-31`, { location });
  const { principalId } = identity.body.properties;
  const assignment = `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${principalId}?api-version=2022-04-01`;
  const roleDefinitionId = `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  const assigned = await rest.send('PUT', assignment, {
    properties: { roleDefinitionId, principalId, principalType: 'ServicePrincipal' },
  });
  assert.ok([200, 201, 409].includes(assigned.status), JSON.stringify(assigned.body));
  const id = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;
  await ok(rest, 'PUT', `${id}?${VERSION}`, {
    location,
    tags: { 'kiln.bootProof': 'off' },
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    properties: {
      vmProfile: { vmSize: 'Standard_B1ms' },
      source: QUICK_SOURCE,
      customize: [{ type: 'Shell', name: 'long', inline: ['echo the step runs', `sleep ${seconds}`] }],
      distribute: [{ type: 'VHD', runOutputName: `${name}-vhd` }],
    },
  });
  await until(async () => (await ok(rest, 'GET', `${id}?${VERSION}`)).body.properties.provisioningState !== 'Creating');
  const made = await ok(rest, 'GET', `${id}?${VERSION}`);
  assert.equal(made.body.properties.provisioningState, 'Succeeded', JSON.stringify(made.body.properties));
  return id;
}

/** Begins a run and waits until its step runs. @returns the run's id */
async function runUntilStep(rest: Rest, id: string): Promise<string> {
  const answer = await ok(rest, 'POST', `${id}/run?${VERSION}`);
  assert.equal(answer.status, 202);
  const runId = /operations\/([0-9a-f-]{36})/.exec(String(answer.headers['azure-asyncoperation']))![1]!;
  await until(async () => (await log(rest, id, runId)).includes('the step runs'));
  return runId;
}

const log = async (rest: Rest, id: string, runId: string): Promise<string> => {
  const answer = await rest.send('GET', `${id}/providers/Kiln.Builds/runs/${runId}/log?api-version=2026-11-01`);
  return answer.status === 200 ? String(answer.body ?? '') : '';
};

const lastRun = async (rest: Rest, id: string) =>
  (await ok(rest, 'GET', `${id}?${VERSION}`)).body.properties.lastRunStatus as Record<string, string>;

/** Fails with the test, at its timeout. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(250);
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
        `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.VirtualMachineImages/locations/${location}/operations/${runId}?${VERSION}`,
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
