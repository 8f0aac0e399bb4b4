/** The build machine as clients see it in the staging group: read, listed, held against others, and gone when it is, whatever is locked. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTestServer, type TestServer } from '../server.ts';
import { makeGround, NEWEST, plainTemplate } from './ground.ts';

const GROUP_API = '2021-04-01';
const COMPUTE_API = '2024-07-01';
const NETWORK_API = '2024-05-01';
const LOCK_API = '2020-05-01';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(async () => {
  server?.machines.release();
  await server?.close();
});

// biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into member by member
type Wire = any;
const get = async (path: string, apiVersion: string) =>
  (await server.request('GET', path, { apiVersion })).body as Wire;

test('virtual machine, disks and interface are there while it builds, and nobody else changes them', async () => {
  const ground = await makeGround(server, 'building');
  const path = ground.template('shown');
  const body = plainTemplate(ground) as { properties: object };
  Object.assign(body.properties, { additionalDataDisks: [{ sizeGB: 4 }] });
  await server.settled(await server.request('PUT', path, { apiVersion: NEWEST, body }));
  const staging = (await get(path, NEWEST)).properties.exactStagingResourceGroup as string;
  const content = async () => (await get(`${staging}/resources`, GROUP_API)).value as Wire[];
  assert.equal((await content()).length, 1);

  server.machines.hold();
  const run = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  while (server.machines.held === 0) await sleep(20);
  const there = (await content()).filter(({ type }) => !/storageAccounts/.test(type));
  assert.deepEqual(there.map(({ type }) => type.split('/').at(-1)).sort(), [
    'disks',
    'disks',
    'networkInterfaces',
    'virtualMachines',
  ]);
  const idOf = (type: string) => there.find(one => one.type.endsWith(type)).id as string;
  const machine = await get(idOf('virtualMachines'), COMPUTE_API);
  assert.equal(machine.properties.provisioningState, 'Succeeded');
  assert.deepEqual(
    machine.properties.storageProfile.dataDisks.map(({ lun, diskSizeGB }: Wire) => [lun, diskSizeGB]),
    [[0, 4]],
  );
  assert.equal((await get(idOf('disks'), COMPUTE_API)).managedBy, machine.id);
  for (const [id, apiVersion] of [
    [machine.id, COMPUTE_API],
    [idOf('disks'), COMPUTE_API],
    [idOf('networkInterfaces'), NETWORK_API],
  ] as const)
    for (const [method, body] of [
      ['DELETE', undefined],
      ['PUT', { location: machine.location, properties: {} }],
      ['PATCH', { tags: { mine: 'now' } }],
    ] as const) {
      const answer = await server.request(method, id, { apiVersion, ...(body && { body }) });
      assert.deepEqual([answer.status, (answer.body as Wire).error?.code], [409, 'Conflict'], `${method} ${id}`);
    }
  // A lock keeps people from deleting what is in the group; the machine ends all the same, and its resources with it.
  const lock = `${staging}/providers/Microsoft.Authorization/locks/keep`;
  const kept = { properties: { level: 'CanNotDelete' } };
  assert.equal((await server.request('PUT', lock, { apiVersion: LOCK_API, body: kept })).status, 201);
  await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST });
  server.machines.release();
  await server.settled(run);
  assert.equal((await content()).length, 1);
  assert.equal((await server.request('GET', machine.id, { apiVersion: COMPUTE_API })).status, 404);
  await server.request('DELETE', lock, { apiVersion: LOCK_API });
  assert.deepEqual(server.errors, []);
});
