/**
 * A server that is killed while it makes a managed image from a VHD, at several moments, and while it deletes one: the next server finishes what was begun, the
 * image is the VHD byte for byte, and nothing else is left.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { openService } from '../../src/service.ts';
import { type Answer, type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { type Running, start, temporaryHome } from '../kiln.ts';
import { upload, type Vhds, vhdMaker } from '../wire/vhds.ts';

const MIB = 1024 * 1024;
const SIZE = 256;
const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/chaos`;
const ACCOUNT = 'chaosvhds';
const VERSION = 'api-version=2024-07-01';
const location = 'westeurope';

interface Server {
  readonly running: Running;
  readonly rest: Rest;
}

const cleanUp: (() => Promise<void>)[] = [];
let home = '';
let vhds: Vhds;
let server: Server | undefined;
let raw = '';

before(async () => {
  const made = await temporaryHome();
  home = made.path;
  vhds = await vhdMaker();
  cleanUp.push(made.remove, () => vhds.remove());
  server = await serve();
  await ok('PUT', `${GROUP}?api-version=2021-04-01`, { location });
  const account = { location, sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
  await ok('PUT', `${GROUP}/providers/Microsoft.Storage/storageAccounts/${ACCOUNT}?api-version=2022-09-01`, account);
  const disk = await vhds.make('large', 'fixed', SIZE);
  raw = disk.raw;
  // Enough that copying takes a while.
  for (const path of [disk.raw, disk.path]) {
    const handle = await open(path, 'r+');
    await handle.write(CONTENT, 0, CONTENT.length, MIB);
    await handle.close();
  }
  const service = await openService({ home, log: () => undefined });
  try {
    await upload(service, [ACCOUNT, 'vhds', 'large.vhd'], disk.path, 'blocks');
  } finally {
    await service.close();
  }
});

const CONTENT = randomBytes((SIZE - 8) * MIB);

after(async () => {
  if (server) await end(server, 'SIGTERM');
  for (const remove of cleanUp) await remove();
});

async function serve(): Promise<Server> {
  const running = start(['--home', home, 'serve', '--port', '0'], { KILN_CACHE: join(home, 'cache') });
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  return { running, rest: await restOf({ origin, env: await clientEnvironment(home) }) };
}

async function end({ running, rest }: Server, signal: NodeJS.Signals): Promise<void> {
  rest.close();
  running.child.kill(signal);
  await running.ended;
}

async function killAndServe(): Promise<void> {
  await end(server!, 'SIGKILL');
  server = undefined;
  server = await serve();
}

async function ok(method: string, path: string, body?: unknown): Promise<Answer> {
  const answer = await server!.rest.send(method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer;
}

/** Fails with the test, at its timeout. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

const imageId = (name: string) => `${GROUP}/providers/Microsoft.Compute/images/${name}`;

const create = (name: string) =>
  ok('PUT', `${imageId(name)}?${VERSION}`, {
    location,
    properties: {
      storageProfile: {
        osDisk: {
          osType: 'Linux',
          osState: 'Generalized',
          blobUri: `https://${ACCOUNT}.blob.localhost/vhds/large.vhd`,
        },
      },
    },
  });

const state = async (name: string): Promise<string> =>
  (await ok('GET', `${imageId(name)}?${VERSION}`)).body.properties.provisioningState;

const staged = () => readdir(join(home, 'regions', location, '.staged')).catch((): string[] => []);
const published = async (name: string) => (await list(home)).filter(({ manifest }) => manifest.id === imageId(name));

/** What is being written now, in bytes. */
async function written(): Promise<number> {
  let bytes = 0;
  for (const directory of await staged()) {
    const path = join(home, 'regions', location, '.staged', directory);
    for (const file of await readdir(path).catch((): string[] => []))
      bytes += (await stat(join(path, file)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}

const moments: Readonly<Record<string, () => Promise<unknown>>> = {
  'as soon as it has been accepted': async () => undefined,
  'while the pieces are put together': () => until(async () => (await written()) > 32 * MIB),
  'when the disk is nearly whole': () => until(async () => (await written()) > (SIZE + SIZE / 2) * MIB),
};

for (const [index, [when, moment]] of Object.entries(moments).entries())
  test(`a server that dies over an import ${when}: the next one finishes it`, async () => {
    const name = `image${index}`;
    await create(name);
    await moment();
    assert.equal(await state(name), 'Creating');
    await killAndServe();
    await until(async () => (await state(name)) !== 'Creating');
    assert.equal(await state(name), 'Succeeded');
    const images = await published(name);
    assert.equal(images.length, 1);
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, images[0]!.path]);
    assert.deepEqual(await staged(), []);
  });

test('a server that dies over a deletion: the next one finishes it', async () => {
  const { status } = await ok('DELETE', `${imageId('image0')}?${VERSION}`);
  assert.equal(status, 202);
  await killAndServe();
  await until(async () => (await server!.rest.send('GET', `${imageId('image0')}?${VERSION}`)).status === 404);
  await until(async () => (await published('image0')).length === 0);
  assert.equal(await state('image1'), 'Succeeded');
  assert.equal((await published('image1')).length, 1);
});

test('an image that is deleted while it is made: neither the image nor its files are left', async () => {
  await create('given-up');
  await until(async () => (await written()) > 32 * MIB);
  await ok('DELETE', `${imageId('given-up')}?${VERSION}`);
  await until(async () => (await server!.rest.send('GET', `${imageId('given-up')}?${VERSION}`)).status === 404);
  await until(async () => (await staged()).length === 0);
  assert.deepEqual(await published('given-up'), []);
});
