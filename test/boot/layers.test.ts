/** The step cache with real container builds: what is taken, what runs, and that the images have the same files. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory, kiln, leftovers, temporaryHome, WITH_LAYERS } from '../kiln.ts';

const root = process.getuid?.() === 0;

let home: Awaited<ReturnType<typeof temporaryHome>>;
let env: NodeJS.ProcessEnv;

before(async () => {
  home = await temporaryHome();
  const cache = join(home.path, 'cache');
  await mkdir(cache);
  await run('cp', ['--archive', '--link', join(cacheDirectory(), 'sources'), cache]);
  env = { KILN_CACHE: cache, ...WITH_LAYERS };
});
after(async () => home?.remove());

async function write(name: string, last: string, tags = {}): Promise<string> {
  const path = join(home.path, `${name}.json`);
  const shell = (step: string, ...inline: string[]) => ({ type: 'Shell', name: step, inline });
  await writeFile(
    path,
    JSON.stringify({
      type: 'Microsoft.VirtualMachineImages/imageTemplates',
      ...{ apiVersion: '2024-02-01', name, location: 'westeurope' },
      tags: { 'kiln.bootProof': 'off', 'kiln.machine': 'container', ...tags },
      properties: {
        source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
        customize: [
          shell('files', 'sudo mkdir -p /opt/made', 'seq 100000 | sudo tee /opt/made/numbers >/dev/null'),
          shell('user', 'sudo useradd --system --create-home made', 'echo between > /tmp/between'),
          shell('last', 'cat /tmp/between', 'sudo rm /opt/made/numbers', last),
        ],
        distribute: [{ type: 'VHD', runOutputName: name }],
      },
    }),
  );
  return path;
}

async function build(path: string, ...args: string[]) {
  const { exitCode, stdout, stderr } = await kiln(
    ['--home', home.path, '--json', 'build', path, '--machine', 'template', ...args],
    env,
  );
  const report = JSON.parse(stdout || '{}');
  const phases: { kind: string; name: string; cached: boolean; state: string }[] = report.run?.phases ?? [];
  const ran = phases.filter(({ cached, state }) => !cached && state !== 'Skipped').map(({ kind }) => kind);
  return { exitCode, stdout, stderr, report, ran, path: report.run?.outputs?.[0]?.path as string };
}

/** What differs between two builds of one template, however they are made: logs, times, ids, caches with times in them. */
const DIFFERENT: readonly RegExp[] = [
  /^\/var\/log\//,
  /^\/var\/cache\/ldconfig\/aux-cache$/,
  /^\/etc\/(passwd|shadow|group|gshadow|subuid|subgid)-?$/,
  /^\/var\/lib\/waagent\//,
];

/** Path, type, mode, owner and, of files, the checksum, for all files of the image. */
async function filesOf(vhd: string): Promise<Map<string, string>> {
  const { stdout } = await run('sfdisk', ['--json', vhd]);
  const { partitions } = (JSON.parse(stdout) as { partitiontable: { partitions: { start: number; size: number }[] } })
    .partitiontable;
  const largest = partitions.reduce((a, b) => (b.size > a.size ? b : a));
  const at = await mkdtemp(join(home.path, 'mounted-'));
  await run('mount', ['-o', `ro,noload,loop,offset=${largest.start * 512},sizelimit=${largest.size * 512}`, vhd, at]);
  try {
    const found = new Map<string, string>();
    const add = (path: string, fact: string) => found.set(path, `${found.get(path) ?? ''} ${fact}`);
    await run('find', [at, '-xdev', '-printf', '%y %m %U:%G %l\t/%P\n'], {
      onLine(line) {
        const [facts = '', path = ''] = line.split('\t');
        if (path !== '') add(path, facts);
      },
    });
    await run('sh', ['-c', 'cd "$1" && find . -xdev -type f -print0 | xargs -0 sha256sum', 'sh', at], {
      onLine(line) {
        const match = /^\\?([0-9a-f]{64}) [ *]\.(.*)$/.exec(line);
        if (match) add(match[2]!, match[1]!);
      },
    });
    for (const path of [...found.keys()]) if (DIFFERENT.some(one => one.test(path))) found.delete(path);
    return found;
  } finally {
    await run('umount', [at]);
    await rm(at, { recursive: true });
  }
}

function same(a: Map<string, string>, b: Map<string, string>): void {
  const paths = [...new Set([...a.keys(), ...b.keys()])].filter(path => a.get(path) !== b.get(path));
  assert.deepEqual(
    paths.map(path => `${path}: ${a.get(path)} / ${b.get(path)}`),
    [],
  );
  assert.ok(a.size > 5000, `only ${a.size} files`);
}

describe('layers of container builds', { skip: !root && 'mounting disks takes root', concurrency: 1 }, () => {
  test('cold, all cached, last step changed, resumed: each runs what it must, and the files are the same', async () => {
    const path = await write('cached', 'echo one | sudo tee /opt/made/last');
    const cold = await build(path);
    assert.equal(cold.exitCode, 0, cold.stderr);
    assert.ok(cold.ran.includes('capture'));
    const again = await build(path);
    assert.equal(again.exitCode, 0, again.stderr);
    assert.deepEqual(again.ran, ['distribute']);
    assert.ok(again.report.run.cache.savedSeconds > 0);
    assert.notEqual(again.path, cold.path);
    await run('cmp', [cold.path, again.path]);

    const failing = await write('cached', 'exit 3');
    const failed = await build(failing);
    assert.notEqual(failed.exitCode, 0);
    assert.deepEqual(failed.ran, ['customize']);
    const changed = await build(await write('cached', 'echo two | sudo tee /opt/made/last'));
    assert.equal(changed.exitCode, 0, changed.stderr);
    assert.deepEqual(changed.ran, ['customize', 'generalize', 'capture', 'distribute']);
    const plain = await build(await write('cached', 'echo two | sudo tee /opt/made/last'), '--no-cache');
    assert.equal(plain.exitCode, 0, plain.stderr);
    assert.equal(plain.report.run.cache.cached, 0);
    same(await filesOf(changed.path), await filesOf(plain.path));
    assert.deepEqual(await leftovers(home.path), []);
  });

  test('tags, --fresh and --from reach the build; prune empties the store', async () => {
    const path = await write('tagged', 'true', { 'kiln.cache.last': 'never' });
    for (const ran of [4, 4]) {
      const built = await build(path);
      assert.equal(built.exitCode, 0, built.stderr);
      assert.equal(built.ran.length, ran);
    }
    const fresh = await build(path, '--fresh', 'user');
    assert.deepEqual(fresh.ran, ['customize', 'customize', 'generalize', 'capture', 'distribute']);
    const wrong = await build(path, '--from', 'nothing');
    assert.match(wrong.stdout + wrong.stderr, /no step \\?"nothing/);
    const pruned = await kiln(['--home', home.path, '--json', 'cache', 'prune', '--budget', '0'], env);
    assert.equal(pruned.exitCode, 0, pruned.stderr);
    assert.ok(JSON.parse(pruned.stdout).layers.length > 0);
    assert.deepEqual(
      (await readdir(join(env.KILN_CACHE!, 'layers'))).filter(name => name !== '.locks'),
      [],
    );
    const refused = await build(path, '--from', 'last');
    assert.equal(refused.report.error?.code, 'NotFound');
  });
});
