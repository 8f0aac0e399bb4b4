import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { HOME_VERSION, openHome } from './home.ts';

const execute = promisify(execFile);
const isRoot = process.getuid?.() === 0;
const env = {};

async function temporary(t: { after(done: () => Promise<void>): void }): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'kiln-home-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('a new home has its version and its directories, and opens again', async t => {
  const root = join(await temporary(t), 'new', 'home');
  const home = await openHome({ home: root, env });
  assert.equal(await readFile(join(root, 'version'), 'utf8'), `${HOME_VERSION}\n`);
  assert.deepEqual((await readdir(root)).sort(), [
    'blobs',
    'cache',
    'files',
    'logs',
    'regions',
    'runs',
    'sockets',
    'version',
  ]);
  assert.equal((await stat(home.files)).mode & 0o777, 0o700);
  assert.equal((await stat(home.runs)).mode & 0o777, isRoot ? 0o711 : 0o700);
  assert.deepEqual(await openHome({ home: root, env }), home);
  assert.ok(Object.isFrozen(home));
});

test('ten opening one empty directory at once agree', async t => {
  const root = join(await temporary(t), 'home');
  const homes = await Promise.all(Array.from({ length: 10 }, () => openHome({ home: root, env })));
  for (const home of homes) assert.deepEqual(home, homes[0]);
  assert.deepEqual(
    (await readdir(root)).filter(name => name.startsWith('version')),
    ['version'],
  );
});

test('the option wins over KILN_HOME; KILN_CACHE moves the cache only', async t => {
  const path = await temporary(t);
  const set = { KILN_HOME: join(path, 'environment'), KILN_CACHE: join(path, 'shared') };
  assert.equal((await openHome({ env: set })).root, set.KILN_HOME);
  const home = await openHome({ home: join(path, 'option'), env: set });
  assert.equal(home.root, join(path, 'option'));
  assert.equal(home.sources, join(path, 'shared', 'sources'));
  assert.equal(home.runs, join(path, 'option', 'runs'));
});

test('a newer layout is refused and left alone', async t => {
  const root = await temporary(t);
  await writeFile(join(root, 'version'), `${HOME_VERSION + 1}\n`);
  await assert.rejects(openHome({ home: root, env }), { code: 'StateTooNew', target: root });
  assert.deepEqual(await readdir(root), ['version']);
});

test('a version that is no number is refused', async t => {
  const root = await temporary(t);
  await writeFile(join(root, 'version'), 'something else');
  await assert.rejects(openHome({ home: root, env }), { code: 'StateUnwritable' });
});

test('a file in the way is named', async t => {
  const path = join(await temporary(t), 'file');
  await writeFile(path, '');
  await assert.rejects(openHome({ home: path, env }), { code: 'StateUnwritable', target: path });
  await assert.rejects(openHome({ home: join(path, 'below'), env }), {
    code: 'StateUnwritable',
    message: /not a directory/,
  });
});

test('where it is the shared cache that cannot be used, that is said', async t => {
  const root = await temporary(t);
  const file = join(root, 'file');
  await writeFile(file, '');
  await assert.rejects(openHome({ home: join(root, 'home'), env: { ...env, KILN_CACHE: file } }), {
    code: 'StateUnwritable',
    target: file,
    message: /^The cache cannot/,
    hint: /KILN_CACHE/,
  });
});

test('a long path keeps its sockets in a private directory elsewhere', async t => {
  const root = join(await temporary(t), 'l'.repeat(100));
  const home = await openHome({ home: root, env });
  t.after(() => rm(home.sockets, { recursive: true, force: true }));
  assert.ok(!home.sockets.startsWith(root));
  assert.ok(Buffer.byteLength(home.sockets) <= 60);
  assert.equal((await stat(home.sockets)).mode & 0o022, 0);
  assert.equal((await openHome({ home: root, env })).sockets, home.sockets);
});

test('a socket directory that others may write is refused', async t => {
  const root = join(await temporary(t), 'l'.repeat(100));
  const { sockets } = await openHome({ home: root, env });
  t.after(() => rm(sockets, { recursive: true, force: true }));
  await execute('chmod', ['777', sockets]);
  await assert.rejects(openHome({ home: root, env }), { code: 'StateUnwritable', target: sockets });
});

// Permissions do not bind root, so these two show the errors from where they do: another user, a read-only mount.
const script = (root: string) => [
  '--input-type=module',
  '-e',
  `import { openHome } from ${JSON.stringify(join(import.meta.dirname, 'home.ts'))};
   const error = await openHome({ home: ${JSON.stringify(root)}, env: {} }).then(() => ({ code: 'none' }), error => error);
   console.log(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));`,
];

test('a directory of somebody else is unwritable', {
  skip: !isRoot && 'needs root to become another user',
}, async t => {
  const root = await temporary(t);
  await execute('chmod', ['755', root]);
  const { stdout } = await execute('setpriv', ['--reuid=65534', '--clear-groups', process.execPath, ...script(root)]);
  const error = JSON.parse(stdout);
  assert.equal(error.code, 'StateUnwritable');
  assert.match(error.message, /permission denied/);
  assert.match(error.hint, /--home/);
});

test('a shared cache that can only be read is used, if source images can be in it', {
  skip: !isRoot && 'needs root to mount',
}, async t => {
  const root = await temporary(t);
  const cache = join(root, 'cache');
  await mkdir(join(cache, 'sources'), { recursive: true });
  const open = async () => {
    const mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"';
    const wanted = script(join(root, 'home')).map(text => text.replace('env: {}', `env: { KILN_CACHE: '${cache}' }`));
    const { stdout } = await execute('unshare', ['-m', 'sh', '-c', mount, cache, process.execPath, ...wanted]);
    return JSON.parse(stdout);
  };
  assert.deepEqual(await open(), { code: 'none' });
  await rm(join(cache, 'sources'), { recursive: true });
  const { code, hint } = await open();
  assert.equal(code, 'StateUnwritable');
  assert.match(hint, /KILN_CACHE/);
});

test('a read-only file system is unwritable', { skip: !isRoot && 'needs root to mount' }, async t => {
  const root = await temporary(t);
  const command = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"';
  const { stdout } = await execute('unshare', ['-m', 'sh', '-c', command, root, process.execPath, ...script(root)]);
  const error = JSON.parse(stdout);
  assert.equal(error.code, 'StateUnwritable');
  assert.match(error.message, /read-only/);
});
