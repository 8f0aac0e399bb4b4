/** A server that is killed in the middle of many writes of blobs: what it has acknowledged is there, and whole; nothing else is left. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { run } from '../../src/processes/process.ts';
import { type Rest, restOf } from '../clients/rest.ts';
import { clientEnvironment } from '../clients/served.ts';
import { leftovers, type Running, start, temporaryHome } from '../kiln.ts';
import { startTestServer } from '../server.ts';
import { clientOf, testAccount } from '../wire/blob-client.ts';

const GROUP = `/subscriptions/${LOCAL_SUBSCRIPTION}/resourceGroups/chaos`;
const ACCOUNT = 'killedblobs';
const ACCOUNT_ID = `${GROUP}/providers/Microsoft.Storage/storageAccounts/${ACCOUNT}`;
const VERSION = 'api-version=2022-09-01';
const WRITERS = 6;
const PAGE = 512;

let home = '';
let remove: () => Promise<void> = async () => undefined;

before(async () => {
  ({ path: home, remove } = await temporaryHome());
});
after(() => remove());

interface Server {
  readonly running: Running;
  readonly rest: Rest;
  readonly container: ContainerClient;
}

async function serve(): Promise<Server> {
  const running = start(['--home', home, 'serve', '--port', '0'], { KILN_CACHE: join(home, 'cache') });
  const origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  const rest = await restOf({ origin, env: await clientEnvironment(home) });
  await rest.send('PUT', `${GROUP}?api-version=2021-04-01`, { location: 'eastus' });
  const body = { location: 'eastus', sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
  const made = await rest.send('PUT', `${ACCOUNT_ID}?${VERSION}`, body);
  assert.equal(made.status, 200, JSON.stringify(made.body));
  const { keys } = (await rest.send('POST', `${ACCOUNT_ID}/listKeys?${VERSION}`)).body as { keys: { value: string }[] };
  const credential = new StorageSharedKeyCredential(ACCOUNT, keys[0]!.value);
  const container = clientOf({ origin, ca: rest.ca }, ACCOUNT, credential).getContainerClient('chaos');
  await container.createIfNotExists();
  return { running, rest, container };
}

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** What one writer was told, and what it was writing when the server died. */
interface Told {
  /** By name: digests of what the blob may hold. `undefined`: it may be missing. */
  readonly blobs: Map<string, (string | undefined)[]>;
  /** Pages of its disk. */
  readonly pages: (readonly string[])[];
  acknowledged: number;
}

/** Writes until the server is gone: whole blobs, blobs of blocks, pages, overwrites, deletions. */
async function write(container: ContainerClient, writer: number, told: Told, isOver: () => boolean): Promise<void> {
  const disk = container.getPageBlobClient(`disk-${writer}`);
  const zeros = digest(Buffer.alloc(PAGE));
  await disk.create(16 * PAGE);
  told.pages.push(...Array.from({ length: 16 }, () => [zeros]));
  for (let round = 0; ; round++) {
    const name = `${writer}/${round % 7}`;
    const before = told.blobs.get(name) ?? [undefined];
    const bytes = randomBytes(1 + ((round * 7919) % 150_000));
    const client = container.getBlockBlobClient(name);
    const change = async (
      may: readonly (string | undefined)[],
      then: string | undefined,
      work: () => Promise<unknown>,
    ) => {
      told.blobs.set(name, [...may, then]);
      await work();
      told.blobs.set(name, [then]);
      told.acknowledged += 1;
    };
    try {
      if (round % 5 === 4 && before[0] !== undefined) await change(before, undefined, () => client.delete());
      else if (round % 3 === 0) await change(before, digest(bytes), () => client.upload(bytes, bytes.length));
      else {
        const half = Math.ceil(bytes.length / 2);
        const options = { maxSingleShotSize: 0, blockSize: Math.max(half, 1) };
        await change(before, digest(bytes), () => client.uploadData(bytes, options));
      }
      const page = round % 16;
      const fill = randomBytes(PAGE);
      const old = told.pages[page]!;
      told.pages[page] = [...old, digest(fill)];
      await disk.uploadPages(fill, page * PAGE, PAGE);
      told.pages[page] = [digest(fill)];
      told.acknowledged += 1;
    } catch (error) {
      if (!isOver()) throw error;
      return;
    }
  }
}

test('kill -9 in the middle of writes loses none that was acknowledged, and leaves nothing else', async () => {
  const first = await serve();
  const told: Told[] = Array.from({ length: WRITERS }, () => ({ blobs: new Map(), pages: [], acknowledged: 0 }));
  let over = false;
  const writing = told.map((one, index) => write(first.container, index, one, () => over));
  const enough = async () => {
    while (told.some(({ acknowledged }) => acknowledged < 20)) await sleep(20);
  };
  await Promise.race([enough(), Promise.all(writing)]);
  over = true;
  first.running.child.kill('SIGKILL');
  await Promise.all(writing);
  first.rest.close();
  await first.running.ended;

  const second = await serve();
  const { container, rest, running } = second;
  for (const [writer, { blobs, pages }] of told.entries()) {
    for (const [name, may] of blobs) {
      const found = await container
        .getBlobClient(name)
        .downloadToBuffer()
        .then(digest, error => assert.equal(error.statusCode, 404));
      assert.ok(may.includes(found ?? undefined), `${name} holds what nobody wrote last`);
    }
    const disk = await container.getBlobClient(`disk-${writer}`).downloadToBuffer();
    for (const [index, may] of pages.entries())
      assert.ok(may.includes(digest(disk.subarray(index * PAGE, (index + 1) * PAGE))), `page ${index} of ${writer}`);
  }
  // Blocks that wait for a list are the only other thing that may be there; they go with their blob.
  for (const name of told.flatMap(({ blobs }) => [...blobs.keys()])) {
    const client = container.getBlockBlobClient(name);
    await client.upload('x', 1);
    await client.delete();
  }
  for (const writer of told.keys()) await container.deleteBlob(`disk-${writer}`);
  for (;;) {
    const files = await readdir(join(home, 'blobs'), { recursive: true, withFileTypes: true });
    const left = files.filter(entry => entry.isFile() && entry.name !== '.swept');
    if (left.length === 0) break;
    await sleep(100);
  }
  rest.close();
  running.child.kill('SIGTERM');
  await running.ended;
  assert.deepEqual(await leftovers(home), []);
});

const skip = process.getuid?.() === 0 ? false : 'only root may mount a small file system';

test('a full disk is told, and nothing of what did not fit is left', { skip }, async () => {
  const server = await startTestServer();
  const { blobs } = server.service.home;
  try {
    const account = await testAccount(server, 'fullblobs');
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=700', 'kiln-test', blobs]);
    const container = account.service.getContainerClient('full');
    await container.create();
    const before = randomBytes(1024 * 1024);
    await container.getBlockBlobClient('there').upload(before, before.length);
    const large = Buffer.alloc(8 * 1024 * 1024, 'x');
    const client = container.getBlockBlobClient('large');
    await assert.rejects(client.upload(large, large.length), { statusCode: 507, code: 'InsufficientStorage' });
    await assert.rejects(client.stageBlock('YQ==', large, large.length), { statusCode: 507 });
    await assert.rejects(client.getProperties(), { statusCode: 404 });
    const files = await readdir(blobs, { recursive: true, withFileTypes: true });
    assert.equal(files.filter(entry => entry.isFile()).length, 1);
    assert.ok((await container.getBlobClient('there').downloadToBuffer()).equals(before));
    await client.upload('small', 5);

    // Many small ones leave the database its room, in which they can be deleted again.
    const names: string[] = [];
    const piece = Buffer.alloc(128 * 1024, 'y');
    const fill = async () => {
      for (;;) {
        await container.getBlockBlobClient(`piece-${names.length}`).upload(piece, piece.length);
        names.push(`piece-${names.length}`);
      }
    };
    await assert.rejects(fill(), { statusCode: 507, code: 'InsufficientStorage' });
    const { bavail, blocks } = await statfs(blobs);
    assert.ok(bavail >= blocks / 20, `${bavail} of ${blocks} blocks are left`);
    for (const name of names) await container.deleteBlob(name);
  } finally {
    await run('umount', ['--lazy', blobs], { ok: [0, 1, 32] });
    await server.close();
  }
});
