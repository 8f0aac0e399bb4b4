/**
 * Two servers on one database, a template whose trigger both look at, and a new version of its source: one run begins, and only one, also when the server that
 * is about to begin it is killed in that moment. The servers look as often as they do by default.
 */
import assert from 'node:assert/strict';
import { copyFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { type Database, openDatabase } from '../../src/database/connection.ts';
import { openHome } from '../../src/home.ts';
import { DEFAULT_TRIGGER_INTERVAL, LOOK_EVERY } from '../../src/providers/image-builder/triggers-schedule.ts';
import { type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { type Running, start, temporaryHome } from '../kiln.ts';
import { storeManagedImage } from '../wire/images-store.ts';
import { emptyCatalogue } from '../wire/machines.ts';

const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/watched`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
const TEMPLATE = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/watching`;
const DERIVED = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/derived`;
const COMPUTE = `${GROUP}/providers/Microsoft.Compute`;
const DEFINITION = `${COMPUTE}/galleries/gallery/images/base`;
const SOURCE = { type: 'PlatformImage', publisher: 'Example', offer: 'empty', sku: '1', version: 'latest' };
const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';
const VERSION = 'api-version=2024-02-01';
const GALLERY_VERSION = 'api-version=2023-07-03';
const location = 'westeurope';

interface Server {
  readonly home: string;
  readonly running: Running;
  readonly rest: Rest;
}

const cleanUp: (() => Promise<unknown>)[] = [];
let database: Database;
let url = '';
let servers: Server[] = [];

before(async () => {
  const own = await temporaryHome();
  cleanUp.push(own.remove);
  const home = await openHome({ home: own.path, env: {} });
  database = await openDatabase({ home, log: () => {}, url: '' });
  cleanUp.push(() => database.close());
  const { host } = database.pool.options;
  url = `postgresql://kiln@/postgres?host=${encodeURIComponent(String(host))}`;
  const homes = [await temporaryHome(), await temporaryHome()];
  for (const one of homes) cleanUp.push(one.remove);
  for (const { path } of homes) await publish(path, '1.0.0');
  servers = [await serve(homes[0]!.path)];
  // A database has one first administrator, whose credentials are where it was made.
  await copyFile(join(homes[0]!.path, 'admin.json'), join(homes[1]!.path, 'admin.json'));
  servers.push(await serve(homes[1]!.path));
  await makeTrigger(servers[0]!.rest);
});

after(async () => {
  for (const { rest, running } of servers) {
    rest.close();
    running.child.kill('SIGTERM');
    await running.ended;
  }
  for (const remove of cleanUp.reverse()) await remove();
});

/** No builds: a run that begins stays where it is, and is counted. */
async function serve(home: string): Promise<Server> {
  const env = { DATABASE_URL: url, KILN_CACHE: join(home, 'cache') };
  const running = start(['--home', home, 'serve', '--port', '0', '--workers', '0'], env);
  cleanUp.push(async () => {
    running.child.kill('SIGKILL');
    await running.ended;
  });
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  return { home, running, rest: await restOf({ origin, env: await clientEnvironment(home) }) };
}

/** The new version is there in one instant, as a publisher's list is. */
async function publish(home: string, version: string): Promise<void> {
  const directory = join(home, 'publishing');
  await emptyCatalogue(directory, { 'Example:empty:1': version });
  await rename(join(directory, 'catalogue.json'), join(home, 'catalogue.json'));
}

const ok = async (rest: Rest, method: string, path: string, body?: unknown) => {
  const answer = await rest.send(method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
};

async function makeTrigger(rest: Rest): Promise<void> {
  await ok(rest, 'PUT', `${GROUP}?api-version=2021-04-01`, { location });
  const { principalId } = (await ok(rest, 'PUT', `${IDENTITY}?api-version=2023-01-31`, { location })).properties;
  const roleDefinitionId = `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  const assignment = `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${principalId}?api-version=2022-04-01`;
  await ok(rest, 'PUT', assignment, {
    properties: { roleDefinitionId, principalId, principalType: 'ServicePrincipal' },
  });
  await watch(rest, TEMPLATE, SOURCE);
}

/** A template with a trigger. */
async function watch(rest: Rest, template: string, source: object): Promise<void> {
  await ok(rest, 'PUT', `${template}?${VERSION}`, {
    location,
    identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
    properties: { source, distribute: [{ type: 'VHD', runOutputName: 'disk' }] },
  });
  await succeeded(rest, template);
  await ok(rest, 'PUT', `${template}/triggers/newer?${VERSION}`, { location, properties: { kind: 'SourceImage' } });
  await succeeded(rest, `${template}/triggers/newer`);
}

async function succeeded(rest: Rest, id: string, version = VERSION): Promise<void> {
  let state = 'Creating';
  while (state === 'Creating') {
    await sleep(100);
    state = (await ok(rest, 'GET', `${id}?${version}`)).properties.provisioningState;
  }
  assert.equal(state, 'Succeeded');
}

/** Newest first. */
const runsOf = async (rest: Rest, template = TEMPLATE): Promise<string[]> =>
  (await ok(rest, 'GET', `${template}/providers/Kiln.Builds/runs?api-version=2026-11-01`)).value.map(
    (one: { name: string }) => one.name,
  );

async function cancel(rest: Rest): Promise<void> {
  await ok(rest, 'POST', `${TEMPLATE}/cancel?${VERSION}`);
  while ((await ok(rest, 'GET', `${TEMPLATE}?${VERSION}`)).properties.lastRunStatus.runState !== 'Canceled')
    await sleep(100);
}

const stateOf = (template: string) =>
  database.kysely
    .selectFrom('trigger_state')
    .select(['checked_at', 'seen_version'])
    .where('id', '=', `${template}/triggers/newer`.toLowerCase())
    .executeTakeFirstOrThrow();

/** Resolves when the trigger has been looked at so often from now on. */
async function looks(count: number, template = TEMPLATE): Promise<void> {
  const checked = async () => (await stateOf(template)).checked_at;
  let last = String(await checked());
  for (let seen = 0; seen < count; ) {
    await sleep(250);
    const now = String(await checked());
    if (now !== last) seen += 1;
    last = now;
  }
}

/** Resolves with the server that waits for a lock, to write that the trigger has fired. */
async function whoFires(): Promise<Server> {
  for (;;) {
    const { rows } = await sql<{ name: string }>`select application_name as name from pg_stat_activity
      where wait_event_type = 'Lock' and query ilike '%for update%'`.execute(database.kysely);
    const found = servers.find(({ running }) => rows.some(({ name }) => name === `kiln ${running.child.pid}`));
    if (found) return found;
    await sleep(50);
  }
}

async function killed({ rest, running, home }: Server): Promise<Server> {
  rest.close();
  running.child.kill('SIGKILL');
  assert.equal((await running.ended).signal, 'SIGKILL');
  const survivor = servers.find(({ home: other }) => other !== home)!;
  servers = [survivor];
  return survivor;
}

/** Where `before` had begun, one more has begun since; and that is all, however often they look. */
async function oneMore(rest: Rest, before: readonly string[], template = TEMPLATE): Promise<void> {
  let now = before;
  while (now.length === before.length) {
    await sleep(250);
    now = await runsOf(rest, template);
  }
  await looks(2, template);
  assert.deepEqual((await runsOf(rest, template)).slice(1), before);
}

test('by design a new version is built within a minute, even if its finder dies', () => {
  assert.ok(2 * (DEFAULT_TRIGGER_INTERVAL + LOOK_EVERY) < 60);
});

test('killed before it has begun the run: the other server begins it, once', async () => {
  const held = Promise.withResolvers<void>();
  const before = await runsOf(servers[0]!.rest);
  assert.deepEqual(before, []);
  // Whoever fires the trigger takes the template's row first: it waits here, its decision made.
  const locked = Promise.withResolvers<void>();
  const holding = database.kysely.transaction().execute(async trx => {
    await trx.selectFrom('resource').select('id').where('id', '=', TEMPLATE.toLowerCase()).forUpdate().execute();
    locked.resolve();
    await held.promise;
  });
  let survivor: Server;
  let dead: Server;
  try {
    await locked.promise;
    for (const { home } of servers) await publish(home, '1.0.1');
    dead = await whoFires();
    survivor = await killed(dead);
  } finally {
    held.resolve();
    await holding;
  }
  await oneMore(survivor.rest, before);
  await cancel(survivor.rest);
  servers.push(await serve(dead.home));
});

test('killed as soon as it has begun the run: it is not begun again', async () => {
  const [first] = servers;
  const before = await runsOf(first!.rest);
  for (const { home } of servers) await publish(home, '1.0.2');
  while (!(await stateOf(TEMPLATE)).seen_version?.endsWith(' 1.0.2')) await sleep(20);
  const survivor = await killed(first!);
  await oneMore(survivor.rest, before);
  servers.push(await serve(first!.home));
  await oneMore(survivor.rest, before);
});

test('a new version of an image in a gallery is built, once', async () => {
  // What lies in the store of one state directory is for its own server to copy.
  const [first, second] = servers;
  second!.rest.close();
  second!.running.child.kill('SIGTERM');
  await second!.running.ended;
  servers = [first!];
  const { rest, home } = first!;
  const image = `${COMPUTE}/images/base`;
  await storeManagedImage({ home: await openHome({ home }), database }, { id: image, location });
  await ok(rest, 'PUT', `${COMPUTE}/galleries/gallery?${GALLERY_VERSION}`, { location });
  await ok(rest, 'PUT', `${DEFINITION}?${GALLERY_VERSION}`, {
    location,
    properties: {
      osType: 'Linux',
      osState: 'Generalized',
      hyperVGeneration: 'V1',
      identifier: { publisher: 'p', offer: 'o', sku: 's' },
    },
  });
  const newer = async (version: string) => {
    const id = `${DEFINITION}/versions/${version}`;
    await ok(rest, 'PUT', `${id}?${GALLERY_VERSION}`, {
      location,
      properties: {
        publishingProfile: { targetRegions: [{ name: location }] },
        storageProfile: { source: { id: image } },
      },
    });
    await succeeded(rest, id, GALLERY_VERSION);
  };
  await succeeded(rest, DEFINITION, GALLERY_VERSION);
  await newer('1.0.0');
  await watch(rest, DERIVED, { type: 'SharedImageVersion', imageVersionId: `${DEFINITION}/versions/latest` });
  await looks(1, DERIVED);
  assert.deepEqual(await runsOf(rest, DERIVED), []);
  await newer('1.0.1');
  await oneMore(rest, [], DERIVED);
  assert.match(String((await stateOf(DERIVED)).seen_version), / 1\.0\.1$/);
});
