/**
 * kill -9 of real builds at every point of keeping a virtual machine as a layer, and of taking one; one bit of it changed. Nothing that is half there is ever
 * taken, nothing is left, and the same template builds.
 */
import assert from 'node:assert/strict';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { type LayerStore, openLayerStore } from '../../src/builds/layers/store.ts';
import { extentsOfFile } from '../../src/disks/holes.ts';
import { kiln, leftovers, type Running, start, temporaryHome, WITH_LAYERS } from '../kiln.ts';
import { makeQuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { slotNumbers, tracesOf } from './traces.ts';

const DEADLY = pathToFileURL(join(import.meta.dirname, 'deadly.ts')).href;

let home: Awaited<ReturnType<typeof temporaryHome>>;
let env: NodeJS.ProcessEnv;
let args: string[];
let store: LayerStore;

before(async () => {
  home = await temporaryHome();
  const guest = await makeQuickGuest(home.path);
  env = { KILN_CACHE: guest.cache, ...WITH_LAYERS };
  const path = await writeTemplate(home.path, 'machine', { steps: [['echo "did one"'], ['echo "did two"']] });
  args = ['--home', home.path, '-v', 'build', path, '--catalogue', guest.catalogue];
  store = await openLayerStore(guest.cache);
});
after(async () => home?.remove());

/** Whatever is stored is whole. @returns the names of the layers */
async function whole(): Promise<string[]> {
  const names: string[] = [];
  for (const record of await store.list()) {
    const into = await mkdtemp(join(home.path, 'taken-'));
    assert.equal(await (await store.take(record, into)).damage, undefined, record.name);
    await rm(into, { recursive: true });
    names.push(record.name.split(' ').slice(0, 2).join(' '));
  }
  return names.sort();
}

async function killed(moment: string): Promise<string> {
  const running: Running = start(args, { ...env, NODE_OPTIONS: `--import=${DEADLY}`, KILN_TEST_DEADLY: moment });
  const [, runId = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
  const slots = new Set<number>();
  const watch = setInterval(async () => {
    for (const slot of await slotNumbers(home.path, runId)) slots.add(slot);
  }, 500);
  const { signal, stdout, stderr } = await running.ended;
  clearInterval(watch);
  assert.equal(signal, 'SIGKILL', `${moment}: ${stdout}\n${stderr}`);
  // The next start is what clears up.
  const shown = await kiln(['--home', home.path, '--json', 'runs', 'show', runId], env);
  assert.equal(JSON.parse(shown.stdout).error?.code, 'WorkerLost');
  assert.deepEqual(await tracesOf(home.path, runId, [...slots]), [], moment);
  return stderr;
}

/** In the middle of a file. */
/** Where it has something else than a hole. */
async function changeBit(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const data = (await extentsOfFile(path, (await file.stat()).size)).filter(({ zero }) => !zero);
  const at = data[Math.floor(data.length / 2)]!.start;
  const { buffer } = await file.read({ buffer: Buffer.alloc(1), position: at });
  buffer[0]! ^= 1;
  await file.write(buffer, 0, 1, at);
}

describe('layers of virtual machines', { concurrency: 1 }, () => {
  // The calls between these are all in layers.test.ts, without a guest. What has booted once is gone on from: a boot takes longer than all the rest.
  test('killed when it has its name: it is whole', async () => {
    await killed('when it has its name');
    assert.deepEqual(await whole(), ['boot virtual']);
  });

  for (const moment of [
    'while it is taken',
    'before its devices are handed over',
    'while the memory is written',
    'between memory and disk',
    'before the machine goes on',
    'while its disk is hashed',
    'when its memory is there',
  ])
    test(`killed ${moment}: the layer before stays, nothing else is stored`, async () => {
      await killed(moment);
      assert.deepEqual(await whole(), ['boot virtual']);
      await store.sweep();
      const keys = (await store.list()).map(({ key }) => key);
      assert.deepEqual((await readdir(store.directory)).sort(), ['.locks', ...keys].sort());
    });

  test('the next build takes what is whole', async () => {
    const built = await kiln(args, env);
    assert.equal(built.exitCode, 0, built.stderr);
    assert.match(built.stderr, /CACHED boot/);
    assert.match(built.stderr, /^ {2}did two$/m);
    assert.deepEqual(await whole(), ['boot virtual', 'capture power', 'customize 1/2', 'customize 2/2']);
    assert.deepEqual(await leftovers(home.path), []);
  });

  test('one bit of its memory changed: said, and made again from the layer before', async () => {
    const layers = await store.list();
    const of = (name: string) => layers.find(layer => layer.name.startsWith(name))!;
    await store.remove(of('capture').key);
    const path = join(store.directory, of('customize 2/2').key, 'memory-3');
    await changeBit(path);
    const built = await kiln(args, env);
    assert.equal(built.exitCode, 0, built.stderr);
    assert.match(built.stderr, /customize 2\/2 .* is damaged \(memory-3 has another content\); it is made again/);
    assert.match(built.stderr, /CACHED customize 1\/2/);
    assert.doesNotMatch(built.stderr, /^ {2}did one$/m);
    assert.match(built.stderr, /^ {2}did two$/m);
    assert.deepEqual(await whole(), ['boot virtual', 'capture power', 'customize 1/2', 'customize 2/2']);
    assert.deepEqual(await leftovers(home.path), []);
  });
});
