import assert from 'node:assert/strict';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type LayerStore, openLayerStore } from './store.ts';

const KEY = 'a'.repeat(64);

interface Ground {
  readonly root: string;
  readonly cache: string;
  readonly store: LayerStore;
  keep(id: string, text: string): Promise<void>;
  /** A directory to take layers into. */
  run(): Promise<string>;
}

async function withStore(use: (ground: Ground) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'kiln-store-'));
  const cache = join(root, 'cache');
  const store = await openLayerStore(cache);
  let files = 0;
  try {
    await use({
      ...{ root, cache, store, run: () => mkdtemp(join(root, 'run-')) },
      async keep(id, text) {
        const file = join(root, `file-${++files}`);
        await writeFile(file, text);
        await store.keep({
          ...{ key: KEY, id, parent: undefined, name: 'boot x', runId: 'run', seconds: 1, facts: {} },
          files: { 'layer-1.qcow2': file, 'memory-1': file, 'image.vhd': file },
        });
      },
    });
  } finally {
    await rm(root, { recursive: true });
  }
}

test('nobody else reads what is kept, and nobody writes it', () =>
  withStore(async ({ store, keep, run, cache }) => {
    await keep('1', 'text');
    const into = await run();
    const record = (await store.look(KEY))!;
    assert.equal(await (await store.take(record, into, { names: ['layer-1.qcow2'] })).damage, undefined);
    assert.deepEqual(await readdir(into), ['layer-1.qcow2']);
    for (const directory of [store.directory, join(store.directory, KEY)])
      assert.equal((await stat(directory)).mode & 0o077, 0, directory);
    // As an older Kiln, or somebody's umask, may have left it.
    await chmod(store.directory, 0o755);
    await openLayerStore(cache);
    assert.equal((await stat(store.directory)).mode & 0o777, 0o700);
  }));

test('a machine’s disk and memory are for their owner alone, wherever they are linked', () =>
  withStore(async ({ store, root }) => {
    for (const name of ['layer-1.qcow2', 'memory-1']) {
      const file = join(root, name);
      await writeFile(file, 'secret', { mode: 0o644 });
      const files = { [name]: file };
      await store.keep({
        ...{ key: KEY, id: name, parent: undefined, name: 'boot x', runId: 'run', seconds: 1, facts: {}, files },
      });
      assert.equal((await stat(file)).mode & 0o777, 0o400);
    }
  }));

test(
  'a store that belongs to somebody else is refused',
  { skip: process.getuid?.() !== 0 && 'giving away takes root' },
  () =>
    withStore(async ({ store, cache }) => {
      await chown(store.directory, 65_534, 65_534);
      await assert.rejects(openLayerStore(cache), { code: 'StateUnwritable', message: /belongs to another user/ });
    }),
);

test('one bit of damage anywhere is found, and the layer is gone', () =>
  withStore(async ({ store, keep, run }) => {
    for (const name of ['layer-1.qcow2', 'memory-1']) {
      await keep(name, `${'x'.repeat(5000)}end`);
      const path = join(store.directory, KEY, name);
      const bytes = await readFile(path);
      bytes[4096]! ^= 4;
      await rm(path);
      await writeFile(path, bytes);
      const into = await run();
      assert.equal(await (await store.take((await store.look(KEY))!, into)).damage, `${name} has another content`);
      assert.deepEqual(await readdir(into), []);
      assert.equal(await store.look(KEY), undefined);
    }
    await keep('cut', 'text');
    await rm(join(store.directory, KEY, 'memory-1'));
    await writeFile(join(store.directory, KEY, 'memory-1'), 'tex');
    assert.equal(await (await store.take((await store.look(KEY))!, await run())).damage, 'memory-1 has another size');
  }));

test('what is no record of this layer is no layer: other words, other keys, names that lead elsewhere', () =>
  withStore(async ({ store, keep, root }) => {
    await keep('1', 'text');
    const path = join(store.directory, KEY, 'layer.json');
    const text = await readFile(path, 'utf8');
    const record = JSON.parse(text);
    const tampered: string[] = ['', text.slice(0, -10), text.replace(KEY, 'b'.repeat(64)), '[]', 'null', '{}'];
    for (const name of ['../../outside', '/etc/shadow', '..', '.', '', 'a/b', 'a\\b', 'layer-1.qcow2\n', 'A'])
      tampered.push(JSON.stringify({ ...record, files: [{ ...record.files[0], name }] }));
    for (const size of [-1, 1.5, '4'])
      tampered.push(JSON.stringify({ ...record, files: [{ ...record.files[0], size }] }));
    for (const wrong of tampered) {
      await writeFile(path, wrong);
      assert.equal(await store.look(KEY), undefined, wrong);
      assert.deepEqual(await store.list(), [], wrong);
    }
    await writeFile(path, text);
    assert.ok(await store.look(KEY));
    for (const key of ['..', '.locks', `../layers/${KEY}`, KEY.toUpperCase(), ''])
      assert.equal(await store.look(key), undefined);
    // A link that leads out of the store is what it leads to only if that has the same bytes.
    await writeFile(join(root, 'outside'), 'else');
    await rm(join(store.directory, KEY, 'layer-1.qcow2'));
    await symlink(join(root, 'outside'), join(store.directory, KEY, 'layer-1.qcow2'));
    assert.equal(await (await store.take((await store.look(KEY))!, root)).damage, 'layer-1.qcow2 has another content');
  }));

test('what somebody else reads is not read once more, unless he found something else', () =>
  withStore(async ({ store, keep, run }) => {
    await keep('read', 'text');
    const record = (await store.look(KEY))!;
    const { name } = record.files[0]!;
    /** With another content of the file, which nobody has seen when that is said. */
    const other = async (whole: boolean) => {
      const [into, said] = [await run(), Promise.withResolvers<boolean>()];
      const { damage } = await store.take(record, into, { read: { [name]: said.promise } });
      await rm(join(into, name));
      await writeFile(join(into, name), 'xxxx');
      said.resolve(whole);
      return damage;
    };
    assert.equal(await other(true), undefined);
    const { damage: none } = await store.take(record, await run(), { read: { [name]: Promise.resolve(false) } });
    assert.equal(await none, undefined, 'another file was damaged');
    assert.equal(await other(false), `${name} has another content`);
  }));

test('a layer that came in the place of the one that is taken stays', () =>
  withStore(async ({ store, keep, run }) => {
    await keep('old', 'old');
    const old = (await store.look(KEY))!;
    await keep('new', 'new!');
    assert.equal(await (await store.take(old, await run())).damage, 'it was replaced or removed meanwhile');
    assert.equal((await store.look(KEY))?.id, 'new');
  }));

test('who has taken a layer keeps it when it is removed', () =>
  withStore(async ({ store, keep, run }) => {
    await keep('1', 'text');
    const into = await run();
    await (await store.take((await store.look(KEY))!, into)).damage;
    await store.remove(KEY);
    await store.remove(KEY);
    assert.equal(await readFile(join(into, 'memory-1'), 'utf8'), 'text');
  }));

test('a sweep takes what dead processes left, and locks that nobody has wanted for long', () =>
  withStore(async ({ store, keep }) => {
    await keep('1', 'text');
    const at = (name: string) => join(store.directory, name);
    await mkdir(at('.removed-12345678'));
    await mkdir(at('.staged-1-2-3-12345678'));
    await utimes(at('.staged-1-2-3-12345678'), 0, 0);
    await (await store.lock('b'.repeat(64)))[Symbol.asyncDispose]();
    await (await store.lock('c'.repeat(64)))[Symbol.asyncDispose]();
    await utimes(at(`.locks/${'b'.repeat(64)}`), 0, 0);
    // What a power cut leaves of a layer, and one of a Kiln to come.
    for (const [name, record] of [
      ['d', ''],
      ['e', '{"schema":2}'],
    ] as const) {
      await mkdir(at(name.repeat(64)));
      await writeFile(join(at(name.repeat(64)), 'layer.json'), record);
    }
    await store.sweep();
    assert.deepEqual((await readdir(store.directory)).sort(), ['.locks', KEY, 'e'.repeat(64)]);
    assert.deepEqual(await readdir(at('.locks')), ['c'.repeat(64)]);
    // Taken again, it is wanted again.
    await utimes(at(`.locks/${'c'.repeat(64)}`), 0, 0);
    await using _held = await store.lock('c'.repeat(64));
    await store.sweep();
    assert.deepEqual(await readdir(at('.locks')), ['c'.repeat(64)]);
  }));
