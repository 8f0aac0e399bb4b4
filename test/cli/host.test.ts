/** A host that is not fit: no QEMU, a state directory that cannot be written or belongs to a newer Kiln. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { openEmbedded } from '../../src/database/embedded.ts';
import { openHome } from '../../src/home.ts';
import { run } from '../../src/processes/process.ts';
import { kiln, leftovers, type Outcome, ROOT, temporaryHome } from '../kiln.ts';
import { assertError, errorOf, writeTemplate } from './bad-input.ts';

let home: Awaited<ReturnType<typeof temporaryHome>>;
let template: string;

before(async () => {
  home = await temporaryHome();
  template = await writeTemplate(home.path, 'template', () => {});
});
after(async () => home?.remove());

const PRIVATE = ['unshare', '--user', '--map-root-user', '--mount'];
/** Mounts of one's own; without them some hosts cannot be imitated. */
const unshared = await run(PRIVATE[0]!, [...PRIVATE.slice(1), 'true']).then(
  () => true,
  () => false,
);
const skip = !unshared && 'this host gives nobody mounts of their own';

/**
 * Runs kiln where some files are hidden or directories read-only, for it alone.
 * @param user `root` may install packages, an ordinary `user` may not
 */
async function kilnWhere(mounts: readonly string[], user: 'root' | 'user', args: readonly string[]): Promise<Outcome> {
  const node = [process.execPath, join(ROOT, 'src/cli/main.ts'), ...args].map(quoted).join(' ');
  const last = user === 'root' ? `exec ${node}` : `exec unshare --user --map-user=1000 --map-group=1000 ${node}`;
  const text = ['set -e', ...mounts, last].join('\n');
  const child = spawn(PRIVATE[0]!, [...PRIVATE.slice(1), 'sh', '-c', text], {
    env: { ...process.env, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', chunk => {
      said[stream] += chunk;
    });
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) => resolve({ exitCode, signal, ...said }));
  });
}

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;

describe('without QEMU', { skip }, () => {
  const hide = (program: string) =>
    `if path=$(command -v ${program}); then mount --bind /dev/null "$(readlink -f "$path")"; fi`;

  test('a user is told which packages to install', async () => {
    const args = ['--home', join(home.path, 'no-qemu'), 'build', template];
    const outcome = await kilnWhere([hide('qemu-system-x86_64')], 'user', args);
    assertError(
      outcome,
      'host',
      /Programs that Kiln needs are not installed/,
      /qemu-system-x86_64: runs the guests \(package qemu-system-x86\)/,
      /Type: sudo apt-get update && sudo apt-get install --no-install-recommends .*qemu-system-x86/,
    );
  });

  test('on a system without apt-get as well, even root is told what is missing', async () => {
    const args = ['--home', join(home.path, 'no-qemu'), '--json', 'build', template];
    const hidden = ['qemu-system-x86_64', 'qemu-img', 'apt-get'].map(hide);
    const error = errorOf(await kilnWhere(hidden, 'root', args), 'ToolMissing');
    assert.match(error.message, /no apt-get/);
    assert.deepEqual(error.details?.map(detail => detail.target).sort(), ['qemu-img', 'qemu-system-x86_64']);
  });

  after(async () => {
    assert.ok(!(await readdir(home.path)).includes('no-qemu'), 'nothing is made before the programs are there');
  });
});

describe('a state directory', () => {
  test('that is read-only', { skip }, async () => {
    const path = join(home.path, 'read-only');
    await mkdir(path);
    const mounts = [`mount --bind ${quoted(path)} ${quoted(path)}`, `mount -o remount,bind,ro ${quoted(path)}`];
    const outcome = await kilnWhere(mounts, 'root', ['--home', path, 'build', template]);
    assertError(outcome, 'host', /cannot be used: .*: the file system is read-only/, /--home or KILN_HOME/);
    assert.deepEqual(await readdir(path), []);
  });

  test('that the user may not write', { skip }, async () => {
    const path = join(home.path, 'closed');
    await mkdir(path, { mode: 0o555 });
    for (const args of [['build', template], ['runs', 'list'], ['logs']]) {
      const outcome = await kilnWhere([], 'user', ['--home', path, ...args]);
      assertError(outcome, 'host', /permission denied/, /--home or KILN_HOME/);
    }
    assert.deepEqual(await readdir(path), []);
  });

  test('that is no directory', async () => {
    const path = join(home.path, 'file');
    await writeFile(path, 'mine');
    for (const where of [path, join(path, 'below')])
      errorOf(await kiln(['--home', where, '--json', 'build', template]), 'StateUnwritable');
    assert.equal(await readFile(path, 'utf8'), 'mine');
  });

  test('of a newer layout', async () => {
    const path = join(home.path, 'layout');
    await mkdir(path);
    await writeFile(join(path, 'version'), '99\n');
    for (const args of [
      ['build', template],
      ['runs', 'list'],
    ])
      assertError(await kiln(['--home', path, ...args]), 'host', /has layout 99; this Kiln knows layouts up to \d+/);
    assert.deepEqual(await readdir(path), ['version']);
    assert.equal(await readFile(join(path, 'version'), 'utf8'), '99\n');
  });

  test("that is something else's", async () => {
    const path = join(home.path, 'foreign');
    await mkdir(path);
    await writeFile(join(path, 'version'), 'v2.1-beta\n');
    assertError(await kiln(['--home', path, 'runs', 'list']), 'host', /does not hold the number of a layout/, /--home/);
    assert.deepEqual(await readdir(path), ['version']);
  });

  test('whose database a newer Kiln wrote: refused, and as it was', async () => {
    const path = join(home.path, 'migrated');
    await mkdir(path, { mode: 0o711 });
    assert.equal((await kiln(['--home', path, 'runs', 'list'])).exitCode, 0);
    const names = await database(path, async client => {
      await client.query("insert into kiln.kysely_migration values ('9999-from-the-future', now()::text)");
      return (await client.query('select name from kiln.kysely_migration order by name')).rows;
    });
    for (const args of [['build', template], ['runs', 'list'], ['logs']])
      assertError(
        await kiln(['--home', path, ...args]),
        'host',
        /newer Kiln \(it has 9999-from-the-future\)/,
        /another --home/,
      );
    errorOf(await kiln(['--home', path, '--json', 'runs', 'list']), 'StateTooNew');
    const after = await database(path, async client => {
      return (await client.query('select name from kiln.kysely_migration order by name')).rows;
    });
    assert.deepEqual(after, names);
    assert.deepEqual(await leftovers(path), []);
  });
});

test('several commands at once on a new state directory: all of them work, and all of them end', async () => {
  const path = join(home.path, 'several');
  for (const round of ['the first make it', 'the others find it']) {
    const outcomes = await Promise.all(Array.from({ length: 4 }, () => kiln(['--home', path, 'runs', 'list'])));
    for (const { exitCode, stdout, stderr } of outcomes)
      assert.deepEqual([exitCode, stdout, stderr], [0, 'Nothing was built here yet.\n', ''], round);
  }
  assert.deepEqual(await leftovers(path), []);
});

test('nothing runs on', async () => {
  assert.deepEqual(await leftovers(home.path), []);
});

async function database<T>(path: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const server = await openEmbedded(await openHome({ home: path }), () => {});
  const client = new pg.Client(server.config);
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end();
    await server.close();
  }
}
