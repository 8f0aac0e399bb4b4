/** kill -9 while layers are made: nothing half-written is ever taken, what is left goes, and the next build works. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openLayerStore } from '../../src/builds/layers/store.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, start, temporaryHome, WITH_LAYERS } from '../kiln.ts';
import { writeTemplate } from './templates.ts';

const KEY = 'a'.repeat(64);

/** Dies at the Nth call; whether it got to the end. */
function keep(cache: string, file: string, id: string, deadly: number): boolean {
  const maker = join(import.meta.dirname, 'layer-maker.ts');
  const { signal, status, stdout, stderr } = spawnSync(process.execPath, [maker, cache, file, id, String(deadly)]);
  if (signal === 'SIGKILL') return false;
  assert.equal(status, 0, String(stderr));
  assert.equal(String(stdout), 'kept');
  return true;
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
        ended = keep(cache, fresh, 'new', point);
        const store = await openLayerStore(cache);
        const found = await store.look(KEY);
        if (found) {
          assert.ok(found.id === 'new' || (before && found.id === 'old'), found.id);
          const into = join(root, `run-${point}`);
          await mkdir(into);
          assert.equal(await store.take(found, into), undefined, `point ${point}`);
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
        assert.equal(await store.take(record, into), undefined, record.name);
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
});
