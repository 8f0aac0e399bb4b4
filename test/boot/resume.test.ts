/**
 * A real guest is frozen three times while it goes on, and machines are resumed from what was frozen: they go on where it was, share nothing that one
 * could use against the other, and are frozen again. How long each part takes is printed.
 */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import {
  chmod,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { memoryOf } from '../../src/builds/layers/overlays.ts';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { DISTRIBUTIONS } from '../../src/images/catalogue/debian/distributions.ts';
import { hostMirrors } from '../../src/images/catalogue/debian/mirrors.ts';
import type { SourceImage } from '../../src/images/source.ts';
import type { Checkpoint, Machine, MachineRequest } from '../../src/machines/machine.ts';
import { qemuFactory } from '../../src/machines/qemu/factory.ts';
import { slotsOf } from '../../src/machines/qemu/slot.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory } from '../kiln.ts';
import { openOffline } from './offline-disk.ts';

let source: SourceImage;
let scratch: string;
const factory = qemuFactory({ cacheFile: path.join(cacheDirectory(), 'accelerator.json') });

before(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-resume-'));
  await chmod(scratch, 0o711);
  source = await acquirePlatformImage(
    { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    { cacheDirectory: path.join(cacheDirectory(), 'sources') },
  );
});

after(async () => rm(scratch, { recursive: true, force: true }));

const layer = (directory: string, number: number) => path.join(directory, `layer-${number}.qcow2`);

/** A run's directory with a chain of linked layers, and an empty overlay on top. */
async function ground(name: string, layers: readonly Checkpoint[], checkpoints: number): Promise<MachineRequest> {
  const directory = path.join(scratch, name);
  await mkdir(directory, { mode: 0o711 });
  await symlink(source.disk.path, path.join(directory, 'source.qcow2'));
  for (const { disk } of layers) await link(disk.path, path.join(directory, path.basename(disk.path)));
  const top = layers.length + 1;
  const below = layers.length === 0 ? 'source.qcow2' : `layer-${layers.length}.qcow2`;
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', layer(directory, top)]);
  return {
    ...{ id: name, directory, name: 'build', kind: 'qemu', processors: 2, memoryMiB: 1024 },
    ...{ firmware: source.firmware, provisioning: source.provisioning },
    disk: { path: layer(directory, top), format: 'qcow2' },
    checkpoints: Array.from({ length: checkpoints }, (_, index) => layer(directory, top + 1 + index)),
    consolePath: path.join(directory, 'console.log'),
    report: line => console.log(`  ${name}: ${line}`),
  };
}

async function resumed(name: string, layers: readonly Checkpoint[], checkpoints = 0): Promise<Machine> {
  const request = await ground(name, layers, checkpoints);
  const begun = performance.now();
  const machine = await factory.resume!({ ...request, checkpoint: layers.at(-1)! });
  await answer(machine, 'true');
  console.log(`  ${name}: resume until the first command has run: ${since(begun)}`);
  return machine;
}

async function frozen(machine: Machine, directory: string, number: number): Promise<Checkpoint> {
  const begun = performance.now();
  const made = await machine.checkpoint!({ memory: memoryOf(directory, number) });
  const size = (await stat(made.memory!.ram)).blocks * 512;
  const [all, still] = [since(begun), (made.pausedMs / 1000).toFixed(2)];
  console.log(`  checkpoint ${number}: ${all}, of which ${still} s still; memory ${(size / 1e6).toFixed(0)} MB`);
  return made;
}

const since = (begun: number) => `${((performance.now() - begun) / 1000).toFixed(2)} s`;

async function answer(machine: Machine, command: string): Promise<string> {
  let text = '';
  const { exitCode } = await machine.exec(command, {
    output: chunk => {
      text += chunk.toString('utf8');
    },
  });
  assert.equal(exitCode, 0, `${command}: ${text}`);
  return text.trim();
}

/** What a command finds itself in; but for what tells of a login where there was one. */
const session = async (machine: Machine): Promise<string[]> =>
  (await answer(machine, 'id -un; pwd; umask; ulimit -a; id; env | sort | grep -vE "^(SSH_|XDG_SESSION_ID)"')).split(
    '\n',
  );

interface Identity {
  readonly machineId: string;
  readonly hostKeys: string;
  readonly random: string;
  readonly login: string;
}

async function identityOf(machine: Machine): Promise<Identity> {
  const ask = (command: string) => answer(machine, command);
  return {
    machineId: await ask('cat /etc/machine-id'),
    hostKeys: await ask('cat /etc/ssh/ssh_host_*_key.pub; sudo sha256sum /etc/ssh/ssh_host_*_key'),
    random: await ask('head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n"'),
    login: await ask('cat ~/.ssh/authorized_keys'),
  };
}

/** Both machines read these bytes first of all: what their kernels would give alike if nothing had been done. */
const EARLY = 'cat /proc/sys/kernel/random/uuid';
const TICKING = "setsid sh -c 'while :; do echo tick >> /tmp/ticks; sleep 0.2; done' >/dev/null 2>&1 </dev/null &";
const TICKS = 'wc -l < /tmp/ticks';
const LOGINS = 'ps -eo args= | grep "^sshd: kiln@" || echo none';
/** The guest's clock is set back by so many seconds before it is frozen. */
const BEHIND = 3 * 86_400;

describe('a machine that is frozen while it goes on', () => {
  const layers: Checkpoint[] = [];
  let directory: string;
  let first: Identity;
  let ticks: number;

  before(async () => {
    const request = await ground('first', [], 3);
    directory = request.directory;
    await using machine = await factory.start(request);
    await answer(machine, `echo ${SECRET} > before; ${TICKING}`);
    await answer(machine, `sudo date -s @$(( $(date +%s) - ${BEHIND} )); sudo hostname renamed`);
    layers.push(await frozen(machine, directory, 1));
    for (const number of [2, 3]) {
      await answer(machine, `echo ${number} > after-${number - 1}; head -c 3000000 /dev/urandom > large-${number}`);
      layers.push(await frozen(machine, directory, number));
    }
    await answer(machine, 'echo 3 > after-3');
    ticks = Number(await answer(machine, TICKS));
    first = await identityOf(machine);
    await machine.powerOff();
  });

  const SECRET = randomBytes(8).toString('hex');

  test('has frozen its disk overlay by overlay, its memory beside them, each a whole file', async () => {
    assert.deepEqual(
      layers.map(({ disk }) => disk.path),
      [1, 2, 3].map(number => layer(directory, number)),
    );
    for (const number of [1, 2, 3, 4]) await run('qemu-img', ['check', '-q', layer(directory, number)]);
    for (const { memory } of layers)
      for (const file of Object.values(memory!).flat()) assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.doesNotMatch(JSON.stringify(layers.map(({ facts }) => facts)), /PRIVATE|ssh-/);
  });

  test('goes on in it: a process ticks, a file is kept, the disk is whole, nothing is left', async () => {
    assert.ok(ticks > 2, `${ticks} ticks`);
    const left = (await readdir(directory)).filter(
      name => !/^(source|layer-\d)\.qcow2$|^(memory|pieces|devices)-\d$/.test(name),
    );
    assert.deepEqual(left, ['console.log']);
    if (process.getuid?.() === 0) assert.deepEqual(await slotsOf(directory), []);
  });

  describe('two machines resumed from its first checkpoint', () => {
    const seen: Identity[] = [];
    const early: string[] = [];

    before(async () => {
      for (const name of ['second', 'third']) {
        await using machine = await resumed(name, layers.slice(0, 1));
        early.push(await answer(machine, EARLY));
        seen.push(await identityOf(machine));
        if (name === 'third') continue;
        await answer(machine, `test "$(cat before)" = ${SECRET} && ! [ -e after-1 ]`);
      }
    });

    for (const what of ['machineId', 'hostKeys', 'random', 'login'] as const)
      test(`have another ${what}, and another than the one that was frozen`, () => {
        const values = [first, ...seen].map(identity => identity[what]);
        assert.equal(new Set(values).size, 3, values.join('\n'));
      });

    test('have the same forms of them: one key each, a machine-id of systemd’s', () => {
      for (const { machineId, hostKeys, login } of [first, ...seen]) {
        assert.match(machineId, /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
        assert.equal(hostKeys.split('\n').length, 2);
        assert.equal(login.split('\n').length, 1);
      }
    });

    test('have other random numbers from the first on', () => {
      assert.notEqual(early[0], early[1]);
    });
  });

  describe('a machine resumed from its third checkpoint', () => {
    let machine: Machine;
    let again: Checkpoint;

    before(async () => {
      machine = await resumed('fourth', layers, 1);
    });

    after(async () => machine?.destroy());

    test('has the files of every step before it, and none of later', async () => {
      const listed = await answer(machine, 'cat before after-1 after-2; ls after-3 2>/dev/null; stat -c %s large-*');
      assert.deepEqual(listed.split('\n'), [SECRET, '2', '3', '3000000', '3000000']);
    });

    test('has the processes that were running', async () => {
      const before = Number(await answer(machine, TICKS));
      assert.ok(before > 0);
      await answer(machine, `until [ $(${TICKS}) -gt ${before} ]; do sleep 0.1; done`);
    });

    test('has nobody else logged in', async () => {
      assert.equal(await answer(machine, LOGINS), 'none');
    });

    test('runs commands in the session that it was frozen with', async () => {
      assert.deepEqual((await session(machine)).slice(0, 3), ['kiln', '/home/kiln', '0022']);
      let said = '';
      const output = (chunk: Buffer, stream: string) => {
        said += `${stream}: ${chunk}`;
      };
      const { exitCode } = await machine.exec('cat; sleep 0.2; echo no >&2; exit 9', { stdin: 'its input\n', output });
      assert.deepEqual([exitCode, said], [9, 'stdout: its input\nstderr: no\n']);
      const aborting = AbortSignal.timeout(1500);
      await assert.rejects(machine.exec('sleep 1000', { signal: aborting }), aborting.reason);
      await answer(machine, 'for i in $(seq 50); do pgrep -f "sleep 100[0]" || exit 0; sleep 0.1; done; exit 1');
      const large = randomBytes(300_000).toString('hex');
      const same = `[ "$(sha256sum | cut -c 1-64)" = ${hash('sha256', large)} ]`;
      assert.equal((await machine.exec(same, { stdin: large })).exitCode, 0);
      assert.equal(await answer(machine, LOGINS), 'none');
    });

    test('takes a login where that session’s process has ended, and runs commands just so', async () => {
      await using other = await resumed('logged-in', layers, 1);
      const before = await session(other);
      await answer(other, "setsid sh -c 'sleep 1; pkill -x kiln-commands' >/dev/null 2>&1 </dev/null &");
      await sleep(3000);
      assert.match(await answer(other, LOGINS), /^sshd: kiln@notty$/);
      assert.deepEqual(await session(other), before);
      // Without it, it is frozen, and goes on.
      const without = await frozen(other, path.join(scratch, 'logged-in'), layers.length + 1);
      await other.destroy();
      await using last = await resumed('logged-in-again', [...layers, without]);
      assert.match(await answer(last, LOGINS), /^sshd: kiln@notty$/);
    });

    test('has the clock of the host, and the timers in between have not fired', async () => {
      const difference = Number(await answer(machine, 'date +%s')) - Date.now() / 1000;
      assert.ok(Math.abs(difference) < BEHIND / 100, `${difference} s apart`);
      const started = 'systemctl show -P ExecMainStartTimestamp apt-daily apt-daily-upgrade fstrim dpkg-db-backup';
      assert.equal((await answer(machine, started)).replaceAll('\n', ''), '');
      // They stay off in this machine; the image will have them as it always had.
      const active = 'systemctl list-units --type=timer --state=active --plain --no-legend';
      assert.equal(await answer(machine, active), '');
      assert.equal(await answer(machine, 'systemctl is-enabled apt-daily.timer'), 'enabled');
    });

    test('has the name that it had', async () => {
      assert.equal(await answer(machine, 'hostname'), 'renamed');
    });

    test('has a network, and its lease is new', async context => {
      await answer(machine, 'ip -4 -o address show | grep -q 10.0.2.15');
      const since = Math.floor(Date.now() / 1000 - BEHIND / 2);
      const renewed = `[ "$(stat -c %Y /run/systemd/netif/leases/* | sort -n | tail -n 1)" -gt ${since} ]`;
      await answer(machine, `for i in $(seq 50); do ${renewed} && exit; sleep 0.2; done; exit 1`);
      const name = /https?:\/\/([A-Za-z0-9.-]+)/.exec(
        (await hostMirrors(DISTRIBUTIONS.debian, 'bookworm')).join('\n'),
      )?.[1];
      const host = name && (await run('getent', ['ahostsv4', name], { ok: [0, 2] }));
      if (!name || !host || host.exitCode !== 0)
        return context.skip('the host cannot resolve the name of its package mirror');
      await answer(machine, `getent ahostsv4 ${name}`);
    });

    test('is frozen and resumed like the one it comes from', async () => {
      const own = path.join(scratch, 'fourth');
      await answer(machine, 'echo again > again');
      again = await frozen(machine, own, 4);
      const its = await identityOf(machine);
      await machine.destroy();
      await using last = await resumed('fifth', [...layers, again]);
      assert.equal(await answer(last, 'cat again'), 'again');
      const other = await identityOf(last);
      for (const what of ['machineId', 'hostKeys', 'random', 'login'] as const)
        assert.notEqual(its[what], other[what], what);
      await last.powerOff();
      await run('qemu-img', ['check', '-q', layer(path.join(scratch, 'fifth'), 5)]);
    });
  });

  describe('a machine that powers off', () => {
    /** @returns its disk, and what its console said */
    async function off(name: string, command: string) {
      const machine = await resumed(name, layers.slice(0, 1));
      await answer(machine, command);
      const begun = performance.now();
      await machine.powerOff();
      console.log(`  ${name}: powered off after ${since(begun)}`);
      await machine.destroy();
      const directory = path.join(scratch, name);
      const raw = path.join(directory, 'disk.raw');
      await run('qemu-img', ['convert', '-O', 'raw', layer(directory, 2), raw]);
      const disk = await openOffline(raw);
      await disk.requireClean();
      return { disk, console: await readFile(path.join(directory, 'console.log'), 'utf8') };
    }
    test('and is reached as root, though a step has ended the attendant', async () => {
      const machine = await resumed('unattended', layers.slice(0, 1));
      await answer(machine, 'sudo systemctl stop kiln-renewal');
      let said = '';
      const output = (chunk: Buffer) => {
        said += chunk.toString();
      };
      assert.equal((await machine.asRoot('id -u; exit 4', { output })).exitCode, 4);
      assert.equal(said, '0\n');
      await machine.powerOff();
      await machine.destroy();
      assert.match(await readFile(path.join(scratch, 'unattended', 'console.log'), 'utf8'), /Power down/);
    });

    const background = (script: string) => `nohup sh -c '${script}' >/dev/null 2>&1 </dev/null & sleep 0.5`;

    test('is unplugged when nothing is left to be written; a process that a step left running is told to end, and waited for', async () => {
      const { disk, console } = await off(
        'unplugged',
        // As generalizing does: the journal is written until then.
        `sudo journalctl --relinquish-var; ${background('trap "sleep 0.5; echo told > ~/ended; exit" TERM; while :; do sleep 0.1; done')}`,
      );
      assert.equal(await disk.text('/home/kiln/ended'), 'told\n');
      assert.doesNotMatch(console, /Power down/);
    });

    test('does it by itself where a disk would not be clean: with a swap file', async () => {
      const swap = 'sudo fallocate -l 16M /swap && sudo chmod 600 /swap && sudo mkswap /swap && sudo swapon /swap';
      assert.match((await off('swapping', swap)).console, /Power down/);
    });

    test('does it by itself where a disk cannot be made read-only: a process hides, and writes', async () => {
      // By its name it is one of systemd's.
      const hidden = 'cp /bin/sleep /tmp/systemd-hidden; (echo kept; exec /tmp/systemd-hidden 1000) > ~/held';
      const { disk, console } = await off('busy', background(hidden));
      assert.match(console, /Power down/);
      assert.equal(await disk.text('/home/kiln/held'), 'kept\n');
    });
  });

  describe('a checkpoint that cannot be resumed', () => {
    const refused = async (name: string, checkpoint: Pick<Checkpoint, 'memory' | 'facts'>, expected: object) => {
      const request = await ground(name, layers.slice(0, 1), 0);
      await assert.rejects(factory.resume!({ ...request, checkpoint }), expected);
      const left = (await readdir(request.directory)).filter(file => !/\.qcow2$|^console\.log$/.test(file));
      assert.deepEqual(left, []);
      if (process.getuid?.() === 0) assert.deepEqual(await slotsOf(request.directory), []);
    };

    test('because it is of another QEMU: said before anything starts', async () => {
      const { memory, facts } = layers[0]!;
      await refused(
        'other-qemu',
        { ...(memory && { memory }), facts: { ...facts, qemu: '1.0' } },
        {
          code: 'NotSupported',
          message: /qemu was 1\.0 and is/,
        },
      );
    });

    test('because its memory is cut off or something else: told, and nothing is left', async () => {
      const { memory, facts } = layers[0]!;
      const cut = path.join(scratch, 'cut');
      const whole = memory!;
      await copyFile(whole.devices, cut);
      await truncate(cut, 50_000);
      await refused('cut-off', { memory: { ...whole, devices: cut }, facts }, { code: 'MachineLost' });
      await writeFile(cut, 'not a memory');
      await refused('no-devices', { memory: { ...whole, devices: cut }, facts }, { code: 'MachineLost' });
      await refused('no-memory', { memory: { ...whole, ram: cut }, facts }, { code: 'MachineLost' });
      await copyFile(whole.ram, cut);
      const file = await open(cut, 'r+');
      await file.write('something else', 16 * 2 ** 20);
      await file.close();
      await refused('other-memory', { memory: { ...whole, ram: cut }, facts }, { code: 'MachineLost' });
      await refused('no-pieces', { memory: { ...whole, pieces: whole.devices }, facts }, /pieces is damaged/);
    });
  });
});
