/**
 * A server that is killed while it makes, moves or deletes an image version: whatever it was at, the next server ends it, once, and the store has the files of
 * the version and nothing else.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { passOverFile } from '../../src/disks/pass.ts';
import { MIB } from '../../src/disks/qemu-img.ts';
import { list } from '../../src/images/store.ts';
import { putValidated } from '../../src/providers/life.ts';
import { resourceGroups } from '../../src/providers/resources/resource-groups.ts';
import { openService } from '../../src/service.ts';
import { type Answer, type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { leftovers, type Running, start, temporaryHome } from '../kiln.ts';
import { storeManagedImage } from '../wire/images-store.ts';

const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/chaos`;
const COMPUTE = `${GROUP}/providers/Microsoft.Compute`;
const DEFINITION = `${COMPUTE}/galleries/gallery/images/web`;
const IMAGE = `${COMPUTE}/images/base`;
const VERSION = 'api-version=2023-07-03';
const location = 'westeurope';
/** Enough for a copy to take its time. */
const BYTES = 192 * MIB;
const REGIONS = [location, 'eastus', 'uksouth'];

let home = '';
let remove = async () => {};
let env: Readonly<Record<string, string>> = {};

interface Server {
  readonly running: Running;
  readonly rest: Rest;
}

before(async () => {
  ({ path: home, remove } = await temporaryHome());
  const service = await openService({ home, log: () => {} });
  try {
    const { kysely } = service.database;
    await putValidated(kysely, resourceGroups, { id: GROUP, body: { location }, apiVersion: '2021-04-01' });
    await storeManagedImage(service, { id: IMAGE, location, bytes: BYTES });
  } finally {
    await service.close();
  }
  const server = await serve();
  try {
    await ok(server.rest, 'PUT', `${COMPUTE}/galleries/gallery`, { location });
    await ok(server.rest, 'PUT', DEFINITION, {
      location,
      properties: {
        osType: 'Linux',
        osState: 'Generalized',
        identifier: { publisher: 'p', offer: 'o', sku: 's' },
      },
    });
  } finally {
    await end(server, 'SIGTERM');
  }
});
after(() => remove());

async function serve(): Promise<Server> {
  const running = start(['--home', home, 'serve', '--port', '0']);
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  env = await clientEnvironment(home);
  return { running, rest: await restOf({ origin, env }) };
}

async function end({ running, rest }: Server, signal: NodeJS.Signals): Promise<void> {
  running.child.kill(signal);
  await running.ended;
  rest.close();
}

async function ok(rest: Rest, method: string, path: string, body?: unknown): Promise<Answer> {
  const answer = await rest.send(method, `${path}${path.includes('?') ? '&' : '?'}${VERSION}`, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer;
}

const version = (regions: readonly string[]) => ({
  location,
  properties: {
    publishingProfile: { targetRegions: regions.map(name => ({ name })) },
    storageProfile: { source: { id: IMAGE } },
    safetyProfile: { allowDeletionOfReplicatedLocations: true },
  },
});

const replicas = async (id: string) =>
  (await list(home)).filter(({ manifest }) => manifest.id.toLowerCase() === id.toLowerCase());
const staged = async (region: string): Promise<number> =>
  (await readdir(join(home, 'regions', region, '.staged')).catch(() => [])).length;

/** When to kill: as soon as that is so. */
interface Moment {
  readonly name: string;
  reached(id: string): Promise<boolean>;
}

const AT_ONCE: Moment = { name: 'when it was accepted', reached: async () => true };
const inRegion = (region: string): Moment => ({
  name: `while ${region} is copied`,
  reached: async () => (await staged(region)) > 0,
});
const complete = (count: number): Moment => ({
  name: `when ${count} region${count > 1 ? 's are' : ' is'} complete`,
  reached: async id => (await replicas(id)).length >= count,
});
const below = (count: number): Moment => ({
  name: `when fewer than ${count} regions are left`,
  reached: async id => (await replicas(id)).length < count,
});

/** Asks, kills the server at the moment, starts another, and waits until that one has ended the operation. @returns its last status */
async function killed(moment: Moment, id: string, method: 'PUT' | 'DELETE', body?: object) {
  const first = await serve();
  let operation = '';
  try {
    const answer = await ok(first.rest, method, id, body);
    operation = new URL(String(answer.headers['azure-asyncoperation'])).pathname;
    // Bounded: an operation that is over was never at that moment.
    for (let round = 0; !(await moment.reached(id)); round++) {
      assert.ok(round < 20_000, `never came ${moment.name}`);
      await sleep(2);
    }
  } finally {
    await end(first, 'SIGKILL');
  }
  const second = await serve();
  try {
    for (;;) {
      const { body: status } = await ok(second.rest, 'GET', operation);
      if (status.status !== 'InProgress') {
        const { body: shown, status: code } = await second.rest.send(
          'GET',
          `${id}?$expand=ReplicationStatus&${VERSION}`,
        );
        return { status, shown, code };
      }
      await sleep(100);
    }
  } finally {
    await end(second, 'SIGTERM');
  }
}

/** The files of the version, in these regions and whole, and nothing that was begun. */
async function requireFiles(id: string, regions: readonly string[]): Promise<void> {
  const found = await replicas(id);
  assert.deepEqual(
    found.map(({ manifest }) => manifest.location),
    [...regions].sort(),
  );
  for (const { path, manifest } of found) assert.equal((await passOverFile(path)).fsverity, manifest.fsverity, path);
  assert.deepEqual(await leftovers(home), []);
}

const path = (name: string) => `${DEFINITION}/versions/${name}`;

for (const [index, moment] of [AT_ONCE, inRegion(location), complete(1), inRegion('uksouth'), complete(3)].entries())
  test(`created, killed ${moment.name}`, async () => {
    const id = path(`1.0.${index}`);
    const { status, shown } = await killed(moment, id, 'PUT', version(REGIONS));
    assert.equal(status.status, 'Succeeded', JSON.stringify(status));
    const { provisioningState, replicationStatus, storageProfile } = shown.properties;
    assert.deepEqual([provisioningState, replicationStatus.aggregatedState], ['Succeeded', 'Completed']);
    assert.equal(storageProfile.osDiskImage.sizeInGB, 1);
    await requireFiles(id, REGIONS);
  });

for (const [index, moment] of [AT_ONCE, inRegion('japaneast')].entries())
  test(`moved to other regions, killed ${moment.name}`, async () => {
    const id = path(`1.0.${index}`);
    const regions = [location, 'japaneast'];
    const { status, shown } = await killed(moment, id, 'PUT', version(regions));
    assert.equal(status.status, 'Succeeded', JSON.stringify(status));
    assert.equal(shown.properties.replicationStatus.aggregatedState, 'Completed');
    await requireFiles(id, regions);
  });

for (const [index, moment] of [AT_ONCE, below(3)].entries())
  test(`deleted, killed ${moment.name}`, async () => {
    const id = path(`1.0.${index + 2}`);
    assert.equal((await replicas(id)).length, 3);
    const { status, code } = await killed(moment, id, 'DELETE');
    assert.deepEqual([status.status, code], ['Succeeded', 404]);
    await requireFiles(id, []);
  });

test('deleted while it is made: what was copied goes, too', async () => {
  const id = path('2.0.0');
  const server = await serve();
  try {
    await ok(server.rest, 'PUT', id, version(REGIONS));
    while ((await staged(location)) === 0 && (await replicas(id)).length === 0) await sleep(2);
    const answer = await ok(server.rest, 'DELETE', id);
    const operation = new URL(String(answer.headers['azure-asyncoperation'])).pathname;
    const status = async (): Promise<string> => (await ok(server.rest, 'GET', operation)).body.status;
    while ((await status()) === 'InProgress') await sleep(50);
    assert.equal(await status(), 'Succeeded');
    assert.equal((await server.rest.send('GET', `${id}?${VERSION}`)).status, 404);
  } finally {
    await end(server, 'SIGTERM');
  }
  await requireFiles(id, []);
});
