/** kill -9 while layers are made: nothing half-written is ever taken, what is left goes, and the next build works. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, statfs, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openLayerStore } from '../../src/builds/layers/store.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, start, temporaryHome, WITH_LAYERS } from '../kiln.ts';
import { writeTemplate } from './templates.ts';

const KEY = 'a'.repeat(64);

/** Dies at the Nth call; whether it got to the end. */
function killedAt(deadly: number, work: 'keep' | 'take' | 'remove', cache: string, file: string, id: string): boolean {
  const maker = join(import.meta.dirname, 'layer-maker.ts');
  const args = [maker, work, cache, file, id, String(deadly)];
  const { signal, status, stdout, stderr } = spawnSync(process.execPath, args);
  if (signal === 'SIGKILL') return true;
  assert.equal(status, 0, String(stderr));
  assert.equal(String(stdout), 'done');
  return false;
}

const keepHere = async (cache: string, file: string, id: string) =>
  (await openLayerStore(cache)).keep({
    ...{ key: KEY, id, parent: undefined, name: 'boot x', runId: 'run', seconds: 1, facts: {} },
    files: { 'layer-1.qcow2': file, 'memory-1': file },
  });

for (const [title, before] of [
  ['a new layer', false],
  ['a layer in the place of another', true],
] as const)
  test(`killed at every point of making ${title}`, async () => {
    const root = await mkdtemp(join(tmpdir(), 'kiln-layers-'));
    try {
      const [old, fresh] = [join(root, 'old'), join(root, 'new')];
      await writeFile(old, 'old');
      await writeFile(fresh, 'new');
      let ended = false;
      let point = 0;
      while (!ended) {
        const cache = join(root, `cache-${++point}`);
        if (before) await keepHere(cache, old, 'old');
        ended = !killedAt(point, 'keep', cache, fresh, 'new');
        const store = await openLayerStore(cache);
        const found = await store.look(KEY);
        if (found) {
          assert.ok(found.id === 'new' || (before && found.id === 'old'), found.id);
          const into = join(root, `run-${point}`);
          await mkdir(into);
          assert.equal(await (await store.take(found, into)).damage, undefined, `point ${point}`);
          assert.equal(await readFile(join(into, 'layer-1.qcow2'), 'utf8'), found.id);
        }
        await store.sweep();
        const names = (await readdir(store.directory)).filter(name => name !== '.locks');
        assert.deepEqual(names, found ? [KEY] : [], `point ${point}`);
        await keepHere(cache, fresh, 'new');
        assert.equal((await store.look(KEY))?.id, 'new');
      }
      assert.ok(point > 20, `only ${point} points`);
    } finally {
      await rm(root, { recursive: true });
    }
  });

test('killed at every point of taking a layer, or of removing one: it is there whole, or it is not there', async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-layers-'));
  try {
    const file = join(root, 'file');
    await writeFile(file, 'text');
    for (const work of ['take', 'remove'] as const) {
      const cache = join(root, work);
      let point = 0;
      for (let killed = true; killed; ) {
        await keepHere(cache, file, 'id');
        const into = join(root, `${work}-${++point}`);
        await mkdir(into);
        killed = killedAt(point, work, cache, into, 'id');
        const store = await openLayerStore(cache);
        await store.sweep();
        const found = await store.look(KEY);
        if (work === 'take') assert.ok(found, `point ${point}`);
        assert.deepEqual((await readdir(store.directory)).sort(), found ? ['.locks', KEY] : ['.locks']);
        // What a dead run has taken by halves is in its own directory.
        const again = join(into, 'again');
        await mkdir(again);
        if (found) assert.equal(await (await store.take(found, again)).damage, undefined, `point ${point}`);
      }
      assert.ok(point > 3, `only ${point} points of ${work}`);
    }
  } finally {
    await rm(root, { recursive: true });
  }
});

const mounting = process.getuid?.() === 0;
const SOURCE = { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' };

describe('container builds with layers', { skip: !mounting && 'mounting disks takes root' }, () => {
  test('killed in the middle, and run again: it goes on after what was kept', async () => {
    const home = await temporaryHome();
    // A cache of its own, with the source image of all tests.
    const cache = join(home.path, 'cache');
    await mkdir(cache);
    await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
    const env = { KILN_CACHE: cache, ...WITH_LAYERS };
    const args = (path: string) => ['--home', home.path, '-v', 'build', path, '--machine', 'container'];
    try {
      const steps = ['one', 'two', 'three'].map(name => [
        `echo ${name} | sudo tee -a /opt/steps`,
        'sudo dd if=/dev/urandom of=/opt/noise bs=1M count=20 status=none',
        `echo "did ${name}"`,
      ]);
      const path = await writeTemplate(home.path, 'layers', { source: SOURCE, steps });
      let runs = 0;
      for (const moment of [/did one/, /did two/, /^capture: .*\.\.\.$/m]) {
        const running = start(args(path), env);
        await running.until(moment);
        running.child.kill('SIGKILL');
        await running.ended;
        runs++;
      }
      const store = await openLayerStore(cache);
      for (const record of await store.list()) {
        const into = await mkdtemp(join(home.path, 'taken-'));
        assert.equal(await (await store.take(record, into)).damage, undefined, record.name);
      }
      const last = await kiln(args(path), env);
      assert.equal(last.exitCode, 0, last.stderr);
      // It was killed while it captured: by then both steps before the last had long been kept.
      assert.match(last.stderr, /CACHED customize 2\/3/);
      assert.doesNotMatch(last.stderr, /^ {2}did one$/m);
      assert.equal(runs, 3);
      assert.ok((await readdir(store.directory)).every(name => !/^\.(staged|removed)/.test(name)));
      assert.deepEqual(await leftovers(home.path), []);
    } finally {
      await home.remove();
    }
  });

  test('two builds that need the same new layers make them once, and a build goes on while everything is removed', async () => {
    const homes = await Promise.all([temporaryHome(), temporaryHome()]);
    const cache = join(homes[0]!.path, 'cache');
    await mkdir(cache);
    await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
    const env = { KILN_CACHE: cache, ...WITH_LAYERS };
    try {
      const template = (last: string) =>
        writeTemplate(homes[0]!.path, 'twice', {
          source: SOURCE,
          steps: [
            ['echo "did one"', 'sleep 2'],
            [last, 'sleep 5'],
          ],
        });
      const path = await template('echo "did two"');
      const begin = (home: string) => start(['--home', home, '-v', 'build', path, '--machine', 'container'], env);
      const both = await Promise.all(homes.map(({ path: home }) => begin(home).ended));
      for (const { exitCode, stderr } of both) assert.equal(exitCode, 0, stderr);
      const waited = both.filter(({ stderr }) => /Another build is making/.test(stderr));
      const ran = both.filter(({ stderr }) => /^ {2}did (one|two)$/m.test(stderr));
      assert.deepEqual([waited.length, ran.length], [1, 1]);

      await template('echo "did three"');
      const third = begin(homes[0]!.path);
      await third.until(/^ {2}did three$/m);
      const pruned = await kiln(['--home', homes[1]!.path, '--json', 'cache', 'prune', '--all'], env);
      assert.equal(pruned.exitCode, 0, pruned.stderr);
      assert.ok(JSON.parse(pruned.stdout).layers.length > 3);
      assert.deepEqual(await readdir(join(cache, 'layers')), ['.locks']);
      const { exitCode, stderr } = await third.ended;
      assert.equal(exitCode, 0, stderr);
      assert.match(stderr, /CACHED customize 1\/2/);
      for (const home of homes) assert.deepEqual(await leftovers(home.path), []);
    } finally {
      for (const home of homes.reverse()) await home.remove();
    }
  });

  test('a store on another file system is copied to and from; when that is full, the build goes on', async () => {
    const home = await temporaryHome();
    const cache = join(home.path, 'cache');
    await mkdir(cache);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1200m', 'tmpfs', cache]);
    await symlink(join(cacheDirectory(), 'sources'), join(cache, 'sources'));
    const env = { KILN_CACHE: cache, KILN_CACHE_BUDGET: '10GiB', ...WITH_LAYERS };
    const build = async (last: string) => {
      const steps = [['echo "did one"'], [last]];
      const path = await writeTemplate(home.path, 'elsewhere', { source: SOURCE, steps });
      const { exitCode, stderr } = await kiln(
        ['--home', home.path, '-v', 'build', path, '--machine', 'container'],
        env,
      );
      assert.equal(exitCode, 0, stderr);
      return stderr;
    };
    try {
      assert.match(await build('true'), /^ {2}did one$/m);
      assert.match(await build('true'), /CACHED capture/);
      const { bavail, bsize } = await statfs(cache);
      await run('dd', [
        'if=/dev/zero',
        `of=${join(cache, 'filler')}`,
        'bs=1M',
        `count=${Math.floor((bavail * bsize) / 2 ** 20) - 10}`,
      ]);
      const full = await build('sudo dd if=/dev/urandom of=/opt/noise bs=1M count=50 status=none');
      assert.match(full, /CACHED customize 1\/2/);
      assert.match(full, /customize 2\/2 .* cannot be kept as a layer, nor what follows: .*[Nn]o space/);
      // To make room, it gave up what was kept.
      assert.deepEqual(await readdir(join(cache, 'layers')), ['.locks']);
      await run('umount', [cache]);
      assert.deepEqual(await leftovers(home.path), []);
    } finally {
      await run('umount', [cache], { ok: [0, 32] });
      await home.remove();
    }
  });
});
