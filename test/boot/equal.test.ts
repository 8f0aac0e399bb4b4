/**
 * One template built in every way that there is: in a virtual machine that boots, from the memory of a booted one, from that of its last step but one, and in a
 * container, without layers and with them. The images hold the same files, but for those that are listed in image-differences.ts, each with its reason.
 */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome, WITH_LAYERS } from '../kiln.ts';
import { SPARSE_BYTES, writeEqual } from './equal-template.ts';
import { ALWAYS, BOOTED, comparable, KINDS, same } from './image-differences.ts';
import type { ImageFiles } from './image-files.ts';

const root = process.getuid?.() === 0;
const since = Date.now();
let home: Awaited<ReturnType<typeof temporaryHome>>;
let env: NodeJS.ProcessEnv;
let template: string;
/** Of the first build of each kind. */
const cold = new Map<'vm' | 'container', ImageFiles>();

before(async () => {
  home = await temporaryHome();
  const cache = join(home.path, 'cache');
  await mkdir(cache);
  await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
  env = { KILN_CACHE: cache, ...WITH_LAYERS };
  template = await writeEqual(home.path);
});
after(async () => home?.remove());

/** The files of the image, and how many phases were not run. */
async function build(machine: 'vm' | 'container', ...args: string[]) {
  const all = ['--home', home.path, '--json', 'build', template, '--machine', machine, ...args];
  const { exitCode, stdout, stderr } = await kiln(all, env);
  assert.equal(exitCode, 0, stderr);
  const { run: made } = JSON.parse(stdout);
  const cached: string[] = made.phases.filter((one: Phase) => one.cached).map(({ kind }: Phase) => kind);
  return { cached, files: await comparable(made.outputs[0].path, since) };
}

interface Phase {
  readonly kind: string;
  readonly cached: boolean;
}

describe('images of one template', { skip: !root && 'mounting disks takes root', concurrency: 1 }, () => {
  test('built in a container, from its last step on: the same files', async () => {
    const made = await build('container');
    cold.set('container', made.files);
    const again = await build('container', '--fresh', 'last');
    assert.deepEqual(again.cached, ['source', 'boot', 'customize', 'customize', 'customize', 'customize']);
    same(again.files, made.files, {});
    const plain = await build('container', '--no-cache');
    assert.deepEqual(plain.cached, ['source']);
    same(plain.files, made.files, ALWAYS);
  });

  test('the image holds everything as the steps made it, and nothing of the build', () => {
    const files = cold.get('container')!;
    const odd = (name: string) => files.get(`/opt/odd/${name}`) ?? 'is not there';
    for (const [name, expected] of [
      ['setuid', /^file 4755 0:0 /],
      ['sticky', /^directory 1777 /],
      ['large-ids', / 4000000000:3000000000 /],
      ['capability', / security\.capability=0x0100000200040000/],
      ['acl', / system\.posix_acl_access=0x/],
      ['attribute', / user\.kiln=0x76616c75652000ff$/],
      ['hard-2', / the same as \/opt\/odd\/hard-1$/],
      ['sparse', new RegExp(` ${SPARSE_BYTES} bytes with holes `)],
      ['long-link', /^link 777 0:0 x{3000}/],
      ['fifo', /^fifo 640 /],
      ['old', / of 2001-09-09T01:46:40\.000Z$/],
      ['before-1970', / of 1969-/],
      ['\xff\xfe not UTF-8', /^file 644 /],
    ] as const)
      assert.match(odd(name), expected, name);
    assert.match(files.get('')!, /Filesystem state: +clean;/);
    assert.match(files.get('/etc/machine-id')!, /^file 444 0:0 0 bytes /);
    const left = [...files.keys()].filter(path => /kiln/.test(path) && !/kiln-(equal|tmpfiles)/.test(path));
    assert.deepEqual(left, []);
    assert.equal(files.get('/tmp/kiln-equal.deb'), undefined);
    assert.match(files.get('/tmp/left')!, /^file /);
  });

  test('built in a virtual machine that boots: the same files', async () => {
    const { files } = await build('vm');
    cold.set('vm', files);
    same(files, cold.get('container')!, KINDS);
  });

  test('built from the memory of the booted machine: the same files', async () => {
    const { files, cached } = await build('vm', '--fresh', '1');
    assert.deepEqual(cached, ['source', 'boot']);
    same(files, cold.get('vm')!, BOOTED);
  });

  test('built from the memory of the last step but one: the same files', async () => {
    const { files, cached } = await build('vm', '--fresh', 'last');
    assert.equal(cached.filter(kind => kind === 'customize').length, 4);
    same(files, cold.get('vm')!, BOOTED);
    assert.deepEqual(await leftovers(home.path), []);
  });
});
