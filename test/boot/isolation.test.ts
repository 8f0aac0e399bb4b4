/** A real guest tries to reach what it must not reach, and machines end on every path without leaving anything. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createOverlay } from '../../src/disks/qemu-img.ts';
import { acquirePlatformImage } from '../../src/images/catalogue/acquire.ts';
import { DISTRIBUTIONS } from '../../src/images/catalogue/debian/distributions.ts';
import { hostMirrors } from '../../src/images/catalogue/debian/mirrors.ts';
import type { SourceImage } from '../../src/images/source.ts';
import type { Machine, MachineRequest } from '../../src/machines/machine.ts';
import { qemuFactory } from '../../src/machines/qemu/factory.ts';
import { type OpenedNetwork, openNetwork, SSH_FORWARD_PORT } from '../../src/machines/qemu/network.ts';
import { probe } from '../../src/machines/qemu/probe.ts';
import { startTimeOf } from '../../src/machines/qemu/process.ts';
import { SLOT_PREFIX, slotsOf } from '../../src/machines/qemu/slot.ts';
import { sweepMachines } from '../../src/machines/qemu/sweep.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory } from '../kiln.ts';

const isRoot = process.getuid?.() === 0;
const OUTSIDE = { name: 'kilntest-out', host: '198.51.100.1', address: '198.51.100.2', port: 7777 };

let source: SourceImage;
let scratch: string;
const children: ChildProcess[] = [];

before(async () => {
  const cache = cacheDirectory();
  scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-isolation-'));
  source = await acquirePlatformImage(
    { publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    { cacheDirectory: path.join(cache, 'sources') },
  );
});

after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(scratch, { recursive: true, force: true });
});

async function request(name: string): Promise<MachineRequest> {
  const directory = path.join(scratch, name);
  await mkdir(directory, { mode: 0o700 });
  const disk = { path: path.join(directory, 'disk.qcow2'), format: 'qcow2' as const };
  await createOverlay({ backing: source.disk, path: disk.path });
  return {
    ...{ id: name, directory, name: 'build', kind: 'qemu', disk, processors: 2, memoryMiB: 1024 },
    ...{ firmware: source.firmware, provisioning: 'cloud-init', consolePath: path.join(directory, 'console.log') },
    report: line => lines.push(line),
  };
}

const lines: string[] = [];
const factory = qemuFactory();

/** A listener in a namespace, or on this host; each connection gets a word. */
async function listen(namespace: string | undefined, port: number): Promise<ChildProcess> {
  const script = `require('net').createServer(s => s.on('error', () => {}).end('reached')).listen(${port}, '0.0.0.0', () => console.log('up'))`;
  const enter = namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace];
  const [program, ...args] = [...enter, process.execPath, '-e', script];
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout!, 'data');
  return child;
}

async function answers(address: string, port: number): Promise<boolean> {
  const socket = net.connect({ host: address, port, timeout: 3000 });
  try {
    await Promise.race([
      once(socket, 'data'),
      once(socket, 'timeout').then(() => Promise.reject(new Error('timeout'))),
    ]);
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function leftovers(directory: string): Promise<string[]> {
  const found = (await readdir(directory)).filter(name => !['disk.qcow2', 'console.log'].includes(name));
  if (isRoot) found.push(...(await slotsOf(directory)).map(slot => slot.name));
  return found;
}

async function qemuOf(directory: string): Promise<number> {
  return JSON.parse(await readFile(path.join(directory, 'build.qemu.json'), 'utf8')).pid;
}

async function appears(file: string): Promise<void> {
  while (!existsSync(file)) await sleep(20);
}

test('the probe guest runs under emulation: what it says about an accelerator is about the accelerator', async () => {
  assert.deepEqual(await probe('qemu-system-x86_64', 'tcg', 'qemu64'), { works: true, reason: '' });
});

describe('a guest that looks around', { skip: !isRoot && 'needs root' }, () => {
  let machine: Machine;
  let made: MachineRequest;
  let other: OpenedNetwork;
  let hostPort: number;
  let slotName: string;

  before(async () => {
    made = await request('looking');
    machine = await factory.start(made);
    slotName = (await slotsOf(made.directory))[0]!.name;
    await run('ip', ['netns', 'add', OUTSIDE.name]);
    await run('ip', ['link', 'add', OUTSIDE.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', OUTSIDE.name]);
    await run('ip', ['address', 'add', `${OUTSIDE.host}/30`, 'dev', OUTSIDE.name]);
    await run('ip', ['link', 'set', OUTSIDE.name, 'up']);
    await run('ip', ['-n', OUTSIDE.name, 'address', 'add', `${OUTSIDE.address}/30`, 'dev', 'eth0']);
    await run('ip', ['-n', OUTSIDE.name, 'link', 'set', 'eth0', 'up']);
    other = await openNetwork(path.join(scratch, 'other'), () => {});
    const free = net.createServer().listen(0);
    await once(free, 'listening');
    hostPort = (free.address() as net.AddressInfo).port;
    free.close();
    await listen(undefined, hostPort);
    await listen(OUTSIDE.name, OUTSIDE.port);
    await listen(other.network.namespace, 7777);
  });

  after(async () => {
    await machine?.destroy();
    await other?.close();
    await run('ip', ['link', 'delete', OUTSIDE.name], { ok: [0, 1] });
    await run('ip', ['netns', 'delete', OUTSIDE.name], { ok: [0, 1] });
  });

  async function inGuest(command: string): Promise<{ exitCode: number | null; text: string }> {
    const chunks: Buffer[] = [];
    const { exitCode } = await machine.exec(command, { output: chunk => void chunks.push(chunk) });
    return { exitCode, text: Buffer.concat(chunks).toString('utf8') };
  }

  async function reaches(address: string, port: number): Promise<boolean> {
    const { text } = await inGuest(`timeout 6 bash -c 'exec 3<>/dev/tcp/${address}/${port} && cat <&3'`);
    return text.includes('reached');
  }

  test('it works as the build user, in its home, without a terminal', async () => {
    const { text } = await inGuest('id -un; pwd; tty; sudo -n id -u');
    assert.equal(text, `${machine.user}\n/home/${machine.user}\nnot a tty\n0\n`);
  });

  test('it reaches the outside', async () => {
    assert.equal(await reaches(OUTSIDE.address, OUTSIDE.port), true);
  });

  test('it reaches neither the host nor another build', async () => {
    // Links of builds that others run on this host come and go; ours stay.
    const ours = [slotName, other.slot!.name];
    const own = Object.entries(os.networkInterfaces())
      .filter(([name]) => !name.startsWith(SLOT_PREFIX) || ours.includes(name))
      .flatMap(([, entries]) => entries ?? [])
      .filter(entry => entry.family === 'IPv4')
      .map(entry => entry.address);
    assert.ok(own.includes('127.0.0.1'));
    for (const address of new Set(own)) {
      assert.equal(await answers(address, hostPort), true, `the host itself reaches ${address}`);
      assert.equal(await reaches(address, hostPort), false, address);
    }
    assert.equal(await reaches('10.0.2.2', hostPort), false, "the user-mode network's name for the host's loopback");
    assert.equal(await answers(other.network.address, 7777), true, 'the host reaches the other build');
    assert.equal(await reaches(other.network.address, 7777), false, 'another build');
  });

  test('nobody outside reaches it', async () => {
    const [slot] = await slotsOf(made.directory);
    const dial = `const s=require('net').connect(${SSH_FORWARD_PORT},'${slot!.address}');s.on('data',()=>{console.log('reached');process.exit()});s.on('error',()=>process.exit());setTimeout(()=>process.exit(),3000)`;
    await run('ip', ['-n', OUTSIDE.name, 'route', 'add', 'default', 'via', OUTSIDE.host]);
    const { stdout } = await run('ip', ['netns', 'exec', OUTSIDE.name, process.execPath, '-e', dial]);
    assert.equal(stdout, '');
  });

  test('it resolves names when the host does', async context => {
    const name = /https?:\/\/([A-Za-z0-9.-]+)/.exec(
      (await hostMirrors(DISTRIBUTIONS.debian, 'bookworm')).join('\n'),
    )?.[1];
    const host = name && (await run('getent', ['ahostsv4', name], { ok: [0, 2] }));
    if (!name || !host || host.exitCode !== 0)
      return context.skip('the host cannot resolve the name of its package mirror');
    const { exitCode, text } = await inGuest(`getent ahostsv4 ${name}`);
    assert.equal(exitCode, 0, text);
  });

  test('its QEMU is nobody and may do nothing', async () => {
    const pid = await qemuOf(made.directory);
    const [slot] = await slotsOf(made.directory);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1];
    assert.equal(field('Uid'), Array(4).fill(slot!.uid).join('\t'));
    assert.equal(field('Gid'), Array(4).fill(slot!.uid).join('\t'));
    assert.deepEqual([field('Groups')?.trim(), field('NoNewPrivs'), field('Seccomp')], ['', '1', '2']);
    assert.equal(BigInt(`0x${field('CapEff')}`), 0n);
    assert.equal((await stat(made.disk.path)).uid, 0);
  });

  test('a flood of output does not fill memory', async () => {
    let bytes = 0;
    const before = process.memoryUsage().rss;
    const { exitCode } = await machine.exec('head -c 50000000 /dev/zero', {
      output: chunk => {
        bytes += chunk.length;
      },
    });
    assert.deepEqual([exitCode, bytes], [0, 50_000_000]);
    assert.ok(process.memoryUsage().rss - before < 200e6);
  });

  test('files arrive as they are, and only where the build user may write', async () => {
    const bytes = randomBytes(3_000_000);
    assert.equal(await machine.upload(Readable.from([bytes]), "it's here", { mode: 0o750 }), bytes.length);
    const { text } = await inGuest(`cd && sha256sum < "it's here"; stat -c %a "it's here"`);
    assert.equal(text, `${createHash('sha256').update(bytes).digest('hex')}  -\n750\n`);
    await assert.rejects(machine.upload(Readable.from([bytes]), '/etc/kiln'), { code: 'StepFailed' });
  });

  test('a command is ended by its signal; the machine goes on', async () => {
    await assert.rejects(machine.exec('sleep 1000', { signal: AbortSignal.timeout(500) }), { name: 'TimeoutError' });
    assert.equal((await machine.exec('exit 7')).exitCode, 7);
    assert.deepEqual(await machine.exec('kill -TERM $$'), { exitCode: null, signal: 'TERM' });
  });

  test('it powers off, its disk is whole, and nothing is left', async () => {
    await machine.exec('echo kept > proof');
    const pid = await qemuOf(made.directory);
    await machine.powerOff();
    assert.equal(startTimeOf(pid), undefined);
    await run('qemu-img', ['check', made.disk.path]);
    await machine.destroy();
    assert.deepEqual(await leftovers(made.directory), []);
    assert.doesNotMatch((await run('ip', ['netns', 'list'])).stdout, new RegExp(`^${slotName}\\b`, 'm'));
    assert.doesNotMatch((await run('nft', ['list', 'tables'])).stdout, new RegExp(`${slotName}$`, 'm'));
    assert.equal(existsSync(`/sys/class/net/${slotName}`), false);
    assert.equal(existsSync(`/etc/netns/${slotName}`), false);
    await assert.rejects(machine.exec('true'), { code: 'MachineLost' });
    assert.match(await readFile(made.consolePath, 'utf8'), /Power down/i);
  });
});

describe('a machine that ends before its time', () => {
  test('a killed QEMU is told, and nothing is left', async () => {
    const made = await request('killed');
    const starting = factory.start(made);
    starting.catch(() => {});
    await appears(path.join(made.directory, 'build.qemu.json'));
    process.kill(await qemuOf(made.directory), 'SIGKILL');
    await assert.rejects(starting, { code: 'MachineLost', message: /SIGKILL/ });
    assert.deepEqual(await leftovers(made.directory), []);
  });

  test('a cancelled start rejects with its reason, and nothing is left', async () => {
    const made = await request('cancelled');
    const cancel = new AbortController();
    const starting = factory.start({ ...made, signal: cancel.signal });
    starting.catch(() => {});
    await appears(path.join(made.directory, 'build.qemu.json'));
    const pid = await qemuOf(made.directory);
    cancel.abort(new Error('no longer wanted'));
    await assert.rejects(starting, /no longer wanted/);
    assert.equal(startTimeOf(pid), undefined);
    assert.deepEqual(await leftovers(made.directory), []);
  });

  test('kill -9 of the owner ends QEMU; the sweep takes the rest, and again', async () => {
    const { report: _, ...made } = await request('orphan');
    const owner = `import { qemuFactory } from ${JSON.stringify(new URL('../../src/machines/qemu/factory.ts', import.meta.url).href)};
      await qemuFactory().start({ ...${JSON.stringify(made)}, report() {} });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', owner], { stdio: 'ignore' });
    await appears(path.join(made.directory, 'build.qemu.json'));
    const pid = await qemuOf(made.directory);
    const startTime = startTimeOf(pid);
    assert.notEqual(startTime, undefined);
    child.kill('SIGKILL');
    await once(child, 'close');
    const deadline = Date.now() + 10_000;
    while (startTimeOf(pid) === startTime && Date.now() < deadline) await sleep(20);
    assert.notEqual(startTimeOf(pid), startTime, 'the kernel ended QEMU with its owner');
    await sweepMachines(made.directory);
    await sweepMachines(made.directory);
    const left = (await leftovers(made.directory)).filter(name => name !== 'build.seed.img');
    assert.deepEqual(left, []);
  });
});
