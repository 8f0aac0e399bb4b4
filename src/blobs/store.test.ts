/** The store against a model of it, on a real database and real files. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { type Database, openDatabase } from '../database/connection.ts';
import { type Home, openHome } from '../home.ts';
import { removeAccountData } from './account-data.ts';
import { appendBlock, createAppendBlob } from './append-blobs.ts';
import { deleteBlob, setBlob } from './blobs.ts';
import { blockList, commitBlocks, putBlockBlob, stageBlock } from './block-blobs.ts';
import { createContainer, deleteContainer } from './containers.ts';
import { copyStored } from './copying.ts';
import type { WrittenFile } from './files.ts';
import { createPageBlob, linkPages, PAGE, pageRanges, putPages } from './page-blobs.ts';
import { bytesOf, openBlob } from './reading.ts';
import { type BlobStore, openBlobStore } from './store.ts';

delete process.env.DATABASE_URL;

let home: Home;
let database: Database;
let store: BlobStore;
const ACCOUNT = 'model';

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-store-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log: () => undefined });
  store = open('own');
});
after(async () => {
  await store?.close();
  await database?.close();
  if (home) await rm(home.root, { recursive: true, force: true });
});

const open = (owner: string, every?: number) =>
  openBlobStore({
    database: database.kysely,
    home,
    owner,
    ...(every !== undefined && { every }),
    log: (level, message, details) =>
      level === 'error' && assert.fail(`${level} ${message} ${JSON.stringify(details)}`),
  });

const CONTENT = { headers: {}, metadata: {} };
const at = (blob: string, container = 'ccc', account = ACCOUNT) => ({ account, container, blob });

async function write(bytes: Uint8Array, into = store): Promise<WrittenFile> {
  return await into.files.write(
    (async function* () {
      yield bytes;
    })(),
  );
}

async function read(blob: string, container = 'ccc'): Promise<Buffer | undefined> {
  const opened = await openBlob(store, at(blob, container), row => ({ start: 0, end: row.size }));
  if (!opened) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of bytesOf(opened.pieces)) chunks.push(Buffer.from(chunk));
  opened.release();
  return Buffer.concat(chunks);
}

async function files(): Promise<string[]> {
  const all = await readdir(home.blobs, { recursive: true, withFileTypes: true });
  return all
    .filter(entry => entry.isFile() && entry.name !== '.swept')
    .map(entry => join(entry.parentPath, entry.name));
}

/** Fails with the test's time. */
async function untilFiles(count: number): Promise<void> {
  while ((await files()).length !== count) await sleep(20);
}

const code = (expected: string) => (error: unknown) => {
  assert.equal((error as { code: string }).code, expected, String(error));
  return true;
};

interface Model {
  blob: Buffer | undefined;
  type: 'BlockBlob' | 'PageBlob' | 'AppendBlob' | undefined;
  committed: Map<string, Buffer>;
  waiting: Map<string, Buffer>;
}

const id = (name: string) => Buffer.from(name).toString('base64');
const blockName = fc.constantFrom('a', 'b', 'c', 'd');
const bytes = fc.uint8Array({ minLength: 1, maxLength: 2000 }).map(array => Buffer.from(array));
const PAGES = 6;
const pageSpan = fc
  .tuple(fc.nat(PAGES - 1), fc.nat(PAGES - 1))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b) + 1] as const);

const step = fc.oneof(
  fc.record({ kind: fc.constant('put' as const), bytes: fc.oneof(bytes, fc.constant(Buffer.alloc(0))) }),
  fc.record({ kind: fc.constant('stage' as const), name: blockName, bytes }),
  fc.record({
    kind: fc.constant('commit' as const),
    list: fc.array(
      fc.tuple(blockName, fc.constantFrom('Committed' as const, 'Uncommitted' as const, 'Latest' as const)),
      { maxLength: 5 },
    ),
  }),
  fc.record({ kind: fc.constant('page-blob' as const) }),
  fc.record({ kind: fc.constant('pages' as const), span: pageSpan, fill: fc.nat(255), clear: fc.boolean() }),
  fc.record({ kind: fc.constant('resize' as const), pages: fc.nat(PAGES) }),
  fc.record({ kind: fc.constant('append-blob' as const) }),
  fc.record({ kind: fc.constant('append' as const), bytes }),
  fc.record({ kind: fc.constant('copy' as const) }),
  fc.record({ kind: fc.constant('delete' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** What a step does to the model; the code that it is refused with. */
function expected(model: Model, one: Step): string | undefined {
  const become = (type: Model['type'], blob: Buffer | undefined) => {
    Object.assign(model, { type, blob, committed: new Map(), waiting: new Map() });
    return undefined;
  };
  const notOf = (type: Model['type']) =>
    model.type === undefined ? 'BlobNotFound' : model.type === type ? undefined : 'InvalidBlobType';
  switch (one.kind) {
    case 'put':
      return become('BlockBlob', one.bytes);
    case 'stage':
      if (model.type !== undefined && model.type !== 'BlockBlob') return 'InvalidBlobType';
      model.waiting.set(one.name, one.bytes);
      return undefined;
    case 'commit': {
      if (model.type !== undefined && model.type !== 'BlockBlob') return 'InvalidBlobType';
      const parts = one.list.map(([name, from]) => {
        const waiting = from === 'Committed' ? undefined : model.waiting.get(name);
        return [name, waiting ?? (from === 'Uncommitted' ? undefined : model.committed.get(name))] as const;
      });
      if (parts.some(([, part]) => part === undefined)) return 'InvalidBlockList';
      become('BlockBlob', Buffer.concat(parts.map(([, part]) => part!)));
      model.committed = new Map(parts as [string, Buffer][]);
      return undefined;
    }
    case 'page-blob':
      return become('PageBlob', Buffer.alloc(PAGES * PAGE));
    case 'pages': {
      const refused = notOf('PageBlob');
      if (refused) return refused;
      const [start, end] = one.span.map(page => page * PAGE) as [number, number];
      if (end > model.blob!.length) return 'InvalidPageRange';
      model.blob = Buffer.from(model.blob!).fill(one.clear ? 0 : one.fill, start, end);
      return undefined;
    }
    case 'resize': {
      const refused = notOf('PageBlob');
      if (refused) return refused;
      const grown = Buffer.alloc(one.pages * PAGE);
      model.blob!.copy(grown);
      model.blob = grown;
      return undefined;
    }
    case 'append-blob':
      return become('AppendBlob', Buffer.alloc(0));
    case 'append': {
      const refused = notOf('AppendBlob');
      if (refused) return refused;
      model.blob = Buffer.concat([model.blob!, one.bytes]);
      return undefined;
    }
    case 'copy':
      return undefined;
    case 'delete':
      if (model.type === undefined) return 'BlobNotFound';
      return become(undefined, undefined);
  }
}

async function perform(one: Step, name: string, copies: Buffer[], model: Model): Promise<unknown> {
  const to = at(name);
  switch (one.kind) {
    case 'put':
      return await putBlockBlob(store, to, await write(one.bytes), CONTENT);
    case 'stage':
      return await stageBlock(store, to, id(one.name), await write(one.bytes));
    case 'commit': {
      const list = one.list.map(([block, from]) => ({ id: id(block), from }));
      return await commitBlocks(store, to, list, CONTENT);
    }
    case 'page-blob':
      return await createPageBlob(store, to, { ...CONTENT, size: PAGES * PAGE });
    case 'pages': {
      const span = { start: one.span[0] * PAGE, end: one.span[1] * PAGE };
      const body = one.clear ? 'clear' : await write(Buffer.alloc(span.end - span.start, one.fill));
      return await putPages(store, to, span, body);
    }
    case 'resize':
      return await setBlob(store, to, { pages: { size: one.pages * PAGE } });
    case 'append-blob':
      return await createAppendBlob(store, to, CONTENT);
    case 'append':
      return await appendBlock(store, to, await write(one.bytes));
    case 'copy':
      if (model.blob) {
        await copyStored(store, to, at(`${name} copy ${copies.length}`), { content: () => CONTENT });
        copies.push(Buffer.from(model.blob));
      }
      return undefined;
    case 'delete':
      return await deleteBlob(store, to);
  }
}

test('any sequence of writes leaves what the model says, and no file more', async () => {
  await createContainer(database.kysely, { account: ACCOUNT, container: 'ccc' });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async steps => {
      const name = randomUUID();
      const model: Model = { blob: undefined, type: undefined, committed: new Map(), waiting: new Map() };
      const copies: Buffer[] = [];
      for (const one of steps) {
        const refused = expected(model, one);
        if (refused) await assert.rejects(perform(one, name, copies, model), code(refused), one.kind);
        else await perform(one, name, copies, model);
        assert.deepEqual(await read(name), model.blob, one.kind);
      }
      for (const [index, copy] of copies.entries()) assert.deepEqual(await read(`${name} copy ${index}`), copy);
      if (model.waiting.size > 0) {
        const { uncommitted } = await blockList(store, at(name));
        assert.deepEqual(
          uncommitted,
          [...model.waiting]
            .map(([block, part]) => ({ id: id(block), size: part.length }))
            .sort((a, b) => (a.id < b.id ? -1 : 1)),
        );
      }
      if (model.type === 'PageBlob') {
        const ranges = (await pageRanges(store, at(name)))!.ranges;
        const outside = Buffer.from(model.blob!);
        for (const { start, end } of ranges) outside.fill(0, start, end);
        assert.ok(outside.equals(Buffer.alloc(model.blob!.length)), 'written pages are among the ranges');
      }
      await deleteContainer(database.kysely, { account: ACCOUNT, container: 'ccc' });
      await createContainer(database.kysely, { account: ACCOUNT, container: 'ccc' });
      store.collect();
      await untilFiles(0);
    }),
    { numRuns: 25 },
  );
});

test('what a dead process wrote and named nowhere is removed; what a living one writes is not', async () => {
  const [dead, alive] = [randomUUID(), randomUUID()];
  const put = async (owner: string, name: string) => {
    await mkdir(join(home.blobs, owner, '00'), { recursive: true });
    await writeFile(join(home.blobs, owner, '00', name), 'x');
  };
  const theirs = open(dead);
  await putBlockBlob(theirs, at('kept'), await write(Buffer.from('kept'), theirs), CONTENT);
  for (const owner of [dead, alive]) await put(owner, 'unnamed');
  await store.tend({ isAlive: async owner => owner === alive });
  const left = await files();
  assert.ok(left.some(path => path.includes(alive)));
  assert.ok(!left.some(path => path.endsWith(join(dead, '00', 'unnamed'))));
  assert.equal((await read('kept'))?.toString(), 'kept');
  await rm(join(home.blobs, alive), { recursive: true });
  await theirs.close();
});

test('a block that nobody commits goes after a week, however long the process lives', async () => {
  const own = open(randomUUID(), 20);
  await own.tend({ isAlive: async () => true });
  for (const name of ['old', 'new']) await stageBlock(own, at(name), id('a'), await write(Buffer.from(name), own));
  const before = (await files()).length;
  const since = new Date(Date.now() - 8 * 86_400_000);
  await database.kysely.updateTable('blob_block').set({ staged_at: since }).where('name', '=', 'old').execute();
  await untilFiles(before - 1);
  assert.equal((await blockList(own, at('new'))).uncommitted.length, 1);
  await own.close();
});

test('pages are linked to a file that is there: holes stay, what was there goes, another tag is refused', async () => {
  await createContainer(database.kysely, { account: ACCOUNT, container: 'links' });
  const address = at('disk.vhd', 'links');
  const path = join(home.root, 'linked.raw');
  const bytes = Buffer.alloc(16 * PAGE);
  for (let page = 0; page < 16; page++) bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE);
  await writeFile(path, bytes);
  await createPageBlob(store, address, { ...CONTENT, size: 20 * PAGE });
  await putPages(store, address, { start: 5 * PAGE, end: 6 * PAGE }, await write(Buffer.alloc(PAGE, 'old')));
  const { etag } = await putPages(
    store,
    address,
    { start: 19 * PAGE, end: 20 * PAGE },
    await write(Buffer.alloc(PAGE, 'end')),
  );
  const spans = [
    { start: PAGE, end: 4 * PAGE },
    { start: 8 * PAGE, end: 16 * PAGE },
  ];
  await assert.rejects(linkPages(store, address, { path, spans }, { ifMatch: '0x1' }), code('ConditionNotMet'));
  await linkPages(store, address, { path, spans }, { ifMatch: etag });
  await rm(path);
  const expected = Buffer.alloc(20 * PAGE);
  for (const { start, end } of spans) bytes.copy(expected, start, start, end);
  expected.fill('end', 19 * PAGE);
  assert.ok((await read('disk.vhd', 'links'))?.equals(expected));
  assert.deepEqual((await pageRanges(store, address))?.ranges, [...spans, { start: 19 * PAGE, end: 20 * PAGE }]);
  await deleteContainer(database.kysely, { account: ACCOUNT, container: 'links' });
  store.collect();
});

test('the end of an account is the end of its bytes, and of no other’s', async () => {
  await createContainer(database.kysely, { account: 'other', container: 'ccc' });
  await putBlockBlob(store, at('theirs', 'ccc', 'other'), await write(Buffer.from('theirs')), CONTENT);
  await putBlockBlob(store, at('mine'), await write(Buffer.from('mine')), CONTENT);
  await stageBlock(store, at('waits'), id('a'), await write(Buffer.from('waits')));
  await removeAccountData(database.kysely, ACCOUNT.toUpperCase());
  await removeAccountData(database.kysely, ACCOUNT);
  store.collect();
  await untilFiles(1);
  await removeAccountData(database.kysely, 'other');
  store.collect();
  await untilFiles(0);
});

test('a file that is read stays until its last reader is gone', async () => {
  await createContainer(database.kysely, { account: ACCOUNT, container: 'ccc' });
  await putBlockBlob(store, at('read'), await write(Buffer.from('bytes')), CONTENT);
  const readers = await Promise.all(
    [1, 2].map(() => openBlob(store, at('read'), row => ({ start: 0, end: row.size }))),
  );
  await deleteBlob(store, at('read'));
  const path = readers[0]!.pieces[0]!.path!;
  await stat(path);
  readers[0]!.release();
  readers[0]!.release();
  await stat(path);
  readers[1]!.release();
  await untilFiles(0);
});
