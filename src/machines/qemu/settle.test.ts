/** The script that waits in a guest, run in root directories that hold what guests of several distributions have while their package manager works. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { run } from '../../processes/process.ts';
import { SETTLE_SCRIPT } from './settle.ts';

/** Every wait ends after one turn: the package manager's process has ended by then. */
const SLEEP =
  '#!/bin/sh\necho "slept $1" >&2\nrm -rf /proc/locks /proc/4711; : > /proc/locks; : > /run/cloud-init/result.json\n';

async function settle(files: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'kiln-settle-'));
  try {
    for (const directory of ['host/usr', 'usr/bin', 'run/cloud-init', 'proc/4711'])
      await mkdir(join(root, directory), { recursive: true });
    for (const name of ['bin', 'lib', 'lib64']) await symlink(`usr/${name}`, join(root, name));
    for (const name of ['lib', 'lib64']) await symlink(`/host/usr/${name}`, join(root, 'usr', name));
    for (const tool of ['sh', 'cat', 'rm']) await symlink(`/host/usr/bin/${tool}`, join(root, 'usr/bin', tool));
    const all = {
      '/dev/null': '',
      '/proc/locks': '',
      '/run/cloud-init/result.json': '{}\n',
      '/usr/bin/sleep': SLEEP,
      // A file's inode is what the fixture says it is.
      '/usr/bin/stat': '#!/bin/sh\n[ -s "$3" ] && read -r inode < "$3" && echo "$inode"\n',
      ...files,
    };
    for (const [path, text] of Object.entries(all)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), text);
      if (text.startsWith('#!')) await chmod(join(root, path), 0o755);
    }
    const enter = 'mount --bind -o ro /usr "$1/host/usr" && exec chroot "$1" /bin/sh -s';
    const options = { input: SETTLE_SCRIPT, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } };
    return (await run('unshare', ['--mount', 'sh', '-c', enter, 'sh', root], options)).stderr;
  } finally {
    await rm(root, { recursive: true });
  }
}

/** A line of /proc/locks, as the kernel writes it for an fcntl lock. */
const locked = (inode: number) => `1: POSIX  ADVISORY  WRITE 4711 fe:01:${inode} 0 EOF\n`;
const root = process.getuid?.() === 0;

describe('settling', { skip: !root && 'entering a root directory takes root' }, () => {
  for (const [name, path] of [
    ['dpkg', '/var/lib/dpkg/lock-frontend'],
    ['apt, fetching lists', '/var/lib/apt/lists/lock'],
    ['rpm', '/var/lib/rpm/.rpm.lock'],
  ] as const)
    test(`waits for ${name}, by the lock's inode`, async () => {
      assert.equal(await settle({ [path]: '131\n', '/proc/locks': locked(131) }), `waiting for ${path}\nslept 1\n`);
      assert.equal(await settle({ [path]: '131\n', '/proc/locks': locked(1310) }), '');
    });

  for (const path of [
    '/var/cache/dnf/metadata_lock.pid',
    '/var/cache/dnf/download_lock.pid',
    '/var/lib/dnf/rpmdb_lock.pid',
    '/run/yum.pid',
    '/run/zypp.pid',
  ])
    test(`waits for the process that ${path} names, while it lives`, async () => {
      assert.equal(await settle({ [path]: '4711\n' }), `waiting for ${path}\nslept 1\n`);
      assert.equal(await settle({ [path]: '4712\n' }), '');
      // dnf writes no line's end.
      assert.equal(await settle({ [path]: '4711' }), `waiting for ${path}\nslept 1\n`);
    });
});
