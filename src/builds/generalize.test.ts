/**
 * The script of the generalize phase, run in guests of files alone: a root directory with a shell, the tools that the script names, and what one wants to find there. Whole
 * guests are generalized in test/boot.
 */
import assert from 'node:assert/strict';
import { chmod, lstat, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { run } from '../processes/process.ts';
import { generalizeScript, identityIn } from './generalize.ts';
import { EMPTIED, REMOVED, TOLD, TRACES } from './traces.ts';

/** Of the host; a guest has no other programs but its own. */
const TOOLS = [
  'bin/sh',
  'bin/cat',
  'bin/cut',
  'bin/sed',
  'bin/ln',
  'bin/chmod',
  'bin/rm',
  'bin/rmdir',
  'sbin/userdel',
  'sbin/groupdel',
];

const ACCOUNTS: Files = {
  '/etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\nkiln:x:1000:1000::/home/kiln:/bin/sh\nkilnkeeper:x:1001:1001::/home/kilnkeeper:/bin/sh\n',
  '/etc/shadow': 'root:*:19000:0:99999:7:::\nkiln:!:19000:0:99999:7:::\nkilnkeeper:!:19000:0:99999:7:::\n',
  '/etc/group': 'root:x:0:\nkiln:x:1000:\nkilnkeeper:x:1001:\n',
  '/etc/gshadow': 'root:*::\nkiln:!::\nkilnkeeper:!::\n',
  '/etc/machine-id': '0123456789abcdef0123456789abcdef\n',
  '/proc/uptime': '10.25 20.00\n',
  '/etc/hostname': 'web\n',
  '/etc/resolv.conf': 'nameserver 10.0.2.3\n',
  '/home/kiln/.ssh/authorized_keys': 'ssh-ed25519 AAAA kiln build\n',
  '/home/kilnkeeper/kept': 'kept\n',
};

type Files = Readonly<Record<string, string>>;

interface Guest extends AsyncDisposable {
  /** Runs the script; what it said, both streams. */
  generalize(): Promise<{ exitCode: number; said: string }>;
  /** `undefined`: there is no such file. */
  text(path: string): Promise<string | undefined>;
}

/** @param files path → content; what begins with `#!` can be run */
async function guest(files: Files): Promise<Guest> {
  const root = await mkdtemp(join(tmpdir(), 'kiln-guest-'));
  for (const directory of ['host/usr', 'usr/bin', 'usr/sbin', 'dev', 'tmp', 'run'])
    await mkdir(join(root, directory), { recursive: true });
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${name}`, join(root, name));
  for (const name of ['lib', 'lib64']) await symlink(`/host/usr/${name}`, join(root, 'usr', name));
  for (const tool of TOOLS) await symlink(`/host/usr/${tool}`, join(root, 'usr', tool));
  await writeFile(join(root, 'dev/null'), '');
  // The host's disks are nobody's business here.
  const all: Files = { ...ACCOUNTS, '/usr/bin/sync': '#!/bin/sh\n', ...files };
  for (const [path, text] of Object.entries(all)) {
    const at = join(root, path);
    await mkdir(dirname(at), { recursive: true });
    await writeFile(at, text);
    if (text.startsWith('#!')) await chmod(at, 0o755);
  }
  const enter =
    'mount --bind -o ro /usr "$1/host/usr" && mount --bind /dev/null "$1/dev/null" && exec chroot "$1" /bin/sh -s 2>&1';
  return {
    async generalize() {
      const options = {
        input: generalizeScript('kiln'),
        ok: [0, 1, 90],
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      };
      const { exitCode, stdout } = await run('unshare', ['--mount', 'sh', '-c', enter, 'sh', root], options);
      return { exitCode, said: stdout };
    },
    text: async path => {
      const there = await lstat(join(root, path)).catch(() => undefined);
      return there?.isFile() ? await readFile(join(root, path), 'utf8') : undefined;
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true }),
  };
}

/** A file that a pattern of the table stands for. */
const example = (pattern: string) => `${pattern.replaceAll('*', 'planted')}${pattern.endsWith('/') ? 'file' : ''}`;

/** A comment in every language: one of the traces is a script. */
const PLANTED = '# planted\n';

const AGENT = '#!/bin/sh\necho "waagent $*"\n';
const root = process.getuid?.() === 0;

const id = '0123456789abcdef0123456789abcdef';
const keys = ['ecdsa-sha2-nistp256 AAAAE2VjZHNh', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5'];

test('who a machine is is found by its looks, among what else is printed', () => {
  assert.deepEqual(identityIn([id, ...keys]), { machineId: id, hostKeys: keys });
  assert.deepEqual(identityIn(['Welcome to our image.', '', id, ...keys]), { machineId: id, hostKeys: keys });
});

test('where a template has emptied the machine-id or removed the keys, none is taken for the other', () => {
  assert.deepEqual(identityIn(['', ...keys]), { machineId: '', hostKeys: keys });
  assert.deepEqual(identityIn(keys), { machineId: '', hostKeys: keys });
  assert.deepEqual(identityIn(['uninitialized']), { machineId: '', hostKeys: [] });
  assert.deepEqual(identityIn([]), { machineId: '', hostKeys: [] });
});

describe('generalizing', { skip: !root && 'entering a root directory takes root' }, () => {
  test('every trace of the table is treated as it says, and the build user goes', async () => {
    const kept = TRACES.flatMap(trace => trace.kept ?? []);
    const paths = [...REMOVED, ...EMPTIED, ...TOLD, ...kept].map(example);
    await using one = await guest({
      ...Object.fromEntries(paths.map(path => [path, PLANTED])),
      '/var/lib/dbus/machine-id': '0123456789abcdef0123456789abcdef\n',
      '/root/.ssh/authorized_keys':
        'command="echo \'Please login as the user "kiln"\'" ssh-ed25519 AAAA kiln build\nssh-ed25519 BBBB own\n',
      '/etc/sudoers.d/90-kiln-build': 'kiln ALL=(ALL) NOPASSWD:ALL\n',
      '/etc/sysconfig/network-scripts/ifcfg-eth0':
        '# Created by cloud-init on instance boot automatically, do not edit.\nHWADDR=52:54:00:6b:69:6c\n',
      '/etc/sysconfig/network-scripts/ifcfg-eth1': 'DEVICE=eth1\nHWADDR=00:0d:3a:00:00:01\n',
      // What only begins like a log of the system.
      '/var/log/cronicle/settings': PLANTED,
    });
    const { exitCode, said } = await one.generalize();
    assert.equal(exitCode, 0, said);
    for (const path of REMOVED.map(example)) assert.equal(await one.text(path), undefined, path);
    for (const path of EMPTIED) assert.equal(await one.text(path), '', path);
    for (const path of [...TOLD, ...kept].map(example)) assert.equal(await one.text(path), PLANTED, path);
    for (const path of TOLD) assert.ok(said.includes(`The image keeps ${path}: `), path);
    assert.equal(said.match(/The image keeps/g)?.length, TOLD.length, said);
    assert.equal(await one.text('/etc/machine-id'), '');
    assert.equal(await one.text('/var/lib/dbus/machine-id'), undefined);
    assert.equal(await one.text('/root/.ssh/authorized_keys'), 'ssh-ed25519 BBBB own\n');
    assert.equal(await one.text('/etc/sudoers.d/90-kiln-build'), undefined);
    assert.equal(await one.text('/etc/sysconfig/network-scripts/ifcfg-eth0'), undefined);
    assert.match((await one.text('/etc/sysconfig/network-scripts/ifcfg-eth1'))!, /HWADDR/);
    assert.equal(await one.text('/var/log/cronicle/settings'), PLANTED);
    for (const file of ['passwd', 'shadow', 'group', 'gshadow']) {
      const text = (await one.text(`/etc/${file}`))!;
      assert.doesNotMatch(text, /^kiln:/m, file);
      assert.match(text, /^kilnkeeper:/m, file);
      assert.equal(await one.text(`/etc/${file}-`), undefined, file);
    }
    assert.equal(await one.text('/home/kiln/.ssh/authorized_keys'), undefined);
    assert.equal(await one.text('/home/kilnkeeper/kept'), 'kept\n');
  });

  for (const path of ['/usr/sbin/waagent', '/usr/bin/waagent'])
    test(`runs ${path} as Azure does`, async () => {
      await using one = await guest({ [path]: AGENT });
      const { exitCode, said } = await one.generalize();
      assert.equal(exitCode, 0, said);
      assert.match(said, /^Running waagent -force -deprovision\+user\.\nwaagent -force -deprovision\+user\n/m);
    });

  test('runs an agent by python3 where its own first line names an interpreter that is not there', async () => {
    const files = { '/usr/sbin/waagent': '#!/usr/bin/python\n', '/usr/bin/python3': '#!/bin/sh\necho "python3 $*"\n' };
    await using one = await guest(files);
    const { exitCode, said } = await one.generalize();
    assert.equal(exitCode, 0, said);
    assert.match(said, /^python3 -u \/usr\/sbin\/waagent -force -deprovision\+user$/m);
  });

  test('an agent that fails, or that nothing can run, fails the build', async () => {
    for (const [files, code] of [
      [{ '/usr/sbin/waagent': '#!/bin/sh\nexit 3\n', '/usr/bin/python3': '#!/bin/sh\n' }, 3],
      [{ '/usr/sbin/waagent': '#!/usr/bin/python\n' }, 127],
      [{ '/tmp/DeprovisioningScript.sh': 'exit 7\n' }, 7],
    ] as const) {
      await using one = await guest(files);
      const { exitCode, said } = await one.generalize();
      assert.equal(exitCode, 90, said);
      assert.match(said, new RegExp(`It ended with exit code ${code}\\.$`, 'm'));
    }
  });

  test("the template's script runs instead of the agent, and Kiln's part is done all the same", async () => {
    const files = { '/usr/sbin/waagent': AGENT, '/tmp/DeprovisioningScript.sh': 'echo "own, as $0"\n' };
    await using one = await guest({ ...files, '/etc/ssh/ssh_host_ed25519_key': 'secret\n' });
    const { exitCode, said } = await one.generalize();
    assert.equal(exitCode, 0, said);
    assert.match(said, /^own, as \/tmp\/DeprovisioningScript\.sh$/m);
    assert.doesNotMatch(said, /waagent/);
    assert.equal(await one.text('/etc/ssh/ssh_host_ed25519_key'), undefined);
    assert.equal(await one.text('/tmp/DeprovisioningScript.sh'), undefined);
  });

  test('says what an image without an agent lacks', async () => {
    await using bare = await guest({});
    assert.match((await bare.generalize()).said, /neither waagent nor cloud-init/);
    await using one = await guest({ '/usr/bin/cloud-init': '#!/bin/sh\nexit 1\n' });
    const { exitCode, said } = await one.generalize();
    assert.equal(exitCode, 0, said);
    assert.match(said, /has no waagent, only cloud-init/);
  });

  test("the build machine's own name goes, one of the template's stays", async () => {
    await using unnamed = await guest({ '/etc/hostname': 'kiln\n' });
    await unnamed.generalize();
    assert.equal(await unnamed.text('/etc/hostname'), 'localhost.localdomain\n');
    await using named = await guest({ '/etc/hostname': 'kiln-web\n' });
    await named.generalize();
    assert.equal(await named.text('/etc/hostname'), 'kiln-web\n');
  });

  test('what cloud-init told sshd for the build goes, what a step made of it stays', async () => {
    const path = '/etc/ssh/sshd_config.d/50-cloud-init.conf';
    for (const [text, left] of [
      ['PasswordAuthentication no\n', undefined],
      ['PasswordAuthentication yes\n', 'PasswordAuthentication yes\n'],
      ['PasswordAuthentication no\nPermitRootLogin no\n', 'PasswordAuthentication no\nPermitRootLogin no\n'],
    ] as const) {
      await using one = await guest({ [path]: text });
      const { exitCode, said } = await one.generalize();
      assert.equal(exitCode, 0, said);
      assert.equal(await one.text(path), left);
    }
  });

  describe('with SELinux', () => {
    const contexts = '/etc/selinux/targeted/contexts/files/file_contexts';
    const guestOf = (mode: string, files: Files = {}) =>
      guest({
        '/etc/selinux/config': `# SELINUX= can take one of three values\nSELINUX=${mode}\nSELINUXTYPE=targeted\n`,
        [contexts]: '/.* system_u:object_r:default_t:s0\n',
        '/usr/sbin/setfiles': '#!/bin/sh\necho "setfiles $*"\n',
        '/usr/sbin/restorecon': '#!/bin/sh\necho "restorecon $*"\n',
        ...files,
      });

    for (const mode of ['enforcing', 'permissive'])
      test(`${mode}: where no policy ran, all files are labelled`, async () => {
        await using one = await guestOf(mode);
        const { said } = await one.generalize();
        assert.match(said, new RegExp(`^setfiles -m -F .* -e /run .* ${contexts} /$`, 'm'));
        assert.equal(await one.text('/.autorelabel'), undefined);
      });

    test('what cannot be labelled here is left to the first boot', async () => {
      await using one = await guestOf('enforcing', { '/usr/sbin/setfiles': '#!/bin/sh\nexit 255\n' });
      const { exitCode, said } = await one.generalize();
      assert.equal(exitCode, 0, said);
      assert.equal(await one.text('/.autorelabel'), '');
    });

    test('where its policy runs, only what was written anew is', async () => {
      await using one = await guestOf('enforcing', { '/sys/fs/selinux/enforce': '1' });
      const { said } = await one.generalize();
      assert.match(said, /^restorecon \/etc\/machine-id /m);
      assert.doesNotMatch(said, /setfiles/);
    });

    test('disabled, or without a policy: nothing', async () => {
      for (const one of [
        await guestOf('disabled'),
        await guest({ '/etc/selinux/config': 'SELINUX=enforcing\nSELINUXTYPE=x\n' }),
      ]) {
        await using held = one;
        assert.doesNotMatch((await held.generalize()).said, /setfiles|restorecon|label/i);
      }
    });
  });
});
