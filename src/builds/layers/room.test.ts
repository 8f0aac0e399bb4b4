import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../processes/process.ts';
import { keepRoom } from './room.ts';
import { openLayerStore } from './store.ts';

const skip = process.getuid?.() !== 0 && 'needs root to mount a small file system';
const MIB = 1024 ** 2;

/** 40 MiB with a store and a run in it, of which less than 4 is little and 8 is enough. */
async function ground(t: TestContext, cacheElsewhere = false) {
  const root = await mkdtemp(join(tmpdir(), 'kiln-room-'));
  const [disk, other] = [join(root, 'disk'), join(root, 'other')];
  for (const path of [disk, other]) {
    await mkdir(path);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', path]);
  }
  t.after(async () => {
    await run('umount', [disk, other]);
    await rm(root, { recursive: true });
  });
  const store = await openLayerStore(cacheElsewhere ? other : disk);
  const directory = join(disk, 'run');
  await mkdir(directory);
  const keep = async (key: string, parent?: string) => {
    const file = join(cacheElsewhere ? other : disk, 'file');
    await writeFile(file, Buffer.alloc(5 * MIB, key));
    await store.keep({
      ...{ key: key.repeat(64), id: key, parent, name: key, runId: 'run', seconds: 1, facts: {} },
      files: { layer: file },
    });
    await rm(file);
    await sleep(5);
  };
  const left = async () =>
    (await store.list())
      .map(({ id }) => id)
      .sort()
      .join('');
  const write = (name: string, mebibytes: number) => writeFile(join(directory, name), Buffer.alloc(mebibytes * MIB, 1));
  return { store, directory, keep, left, write };
}

test('layers go when the disk runs full while a build writes, not before, and not those that are in use', {
  skip,
}, async t => {
  const { store, directory, keep, left, write } = await ground(t);
  await keep('a');
  await keep('b', 'a');
  await keep('c');
  await keep('d');
  // A build stands on b, and so on a.
  await (await store.take((await store.look('b'.repeat(64)))!, directory)).damage;
  const said: string[] = [];
  await using _room = await keepRoom(store, directory, sentence => said.push(sentence));
  await write('some', 10);
  await sleep(1500);
  assert.equal(await left(), 'abcd');
  await write('more', 6.5);
  for (let tries = 0; (await left()) === 'abcd' && tries < 50; tries++) await sleep(100);
  assert.equal(await left(), 'abd', 'least recently used, and as few as needed');
  await write('still more', 5);
  for (let tries = 0; (await left()) === 'abd' && tries < 50; tries++) await sleep(100);
  assert.equal(await left(), 'ab');
  assert.match(
    said.join('\n'),
    /^(The disk runs full: 1 stored layers \(5 MiB\) that no build uses made room\.\n?){2}$/,
  );
});

test('room is made before a build begins', { skip }, async t => {
  const { store, directory, keep, left, write } = await ground(t);
  for (const key of ['a', 'b', 'c']) await keep(key);
  await write('all', 22);
  await using _room = await keepRoom(store, directory, () => {});
  assert.equal(await left(), 'c');
});

test('layers on another file system make no room here', { skip }, async t => {
  const { store, directory, keep, left, write } = await ground(t, true);
  await keep('a');
  await write('all', 39);
  await using _room = await keepRoom(store, directory, () => {});
  assert.equal(await left(), 'a');
});

test('no more layers go than needed where the file system shows late what was freed', { skip }, async t => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-room-'));
  const [image, disk] = [join(root, 'image'), join(root, 'disk')];
  await mkdir(disk);
  await run('truncate', ['--size', '300M', image]);
  try {
    await run('mkfs.btrfs', ['-q', '--mixed', image]);
    await run('mount', ['-o', 'loop', image, disk]);
  } catch {
    await rm(root, { recursive: true });
    return t.skip('needs btrfs');
  }
  t.after(async () => {
    await run('umount', [disk]);
    await rm(root, { recursive: true });
  });
  const store = await openLayerStore(disk);
  const directory = join(disk, 'run');
  await mkdir(directory);
  const fill = (path: string, mebibytes: number) => writeFile(path, randomBytes(mebibytes * MIB), { flush: true });
  for (const key of ['a', 'b', 'c']) {
    await fill(join(disk, 'file'), 60);
    await store.keep({
      ...{ key: key.repeat(64), id: key, parent: undefined, name: key, runId: 'run', seconds: 1, facts: {} },
      files: { layer: join(disk, 'file') },
    });
    await rm(join(disk, 'file'));
  }
  const free = async () => {
    const { bavail, bsize } = await statfs(disk);
    return (bavail * bsize) / MIB;
  };
  for (let part = 0; (await free()) > 28; part++) await fill(join(directory, `part${part}`), 2);
  const said: string[] = [];
  await using _room = await keepRoom(store, directory, sentence => said.push(sentence));
  await sleep(2500);
  assert.deepEqual((await store.list()).map(({ id }) => id).sort(), ['b', 'c'], said.join('\n'));
});
