/** The order of what is asked of QEMU, and what is left when it refuses; the real one is in test/boot/resume.test.ts. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type FileHandle, mkdtemp, readdir, readFile, readlink, realpath, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checksumFile } from '../../disks/checksum.ts';
import { run } from '../../processes/process.ts';
import { freeze, thaw } from './checkpoint.ts';
import { receiveDevices } from './devices-file.ts';
import { DISK_NODE, dataNode, descriptors, diskChain } from './disk-nodes.ts';
import { openGuestMemory } from './guest-memory.ts';
import { type OpenDisk, openDisk } from './open-disk.ts';
import { Qmp } from './qmp.ts';

type Answers = Readonly<Record<string, (args: Record<string, unknown>) => unknown>>;

/** A session with something that answers as it is told to; everything else with `{}`. */
function session(answers: Answers): { qmp: Qmp; asked: string[] } {
  const asked: string[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const { execute, arguments: args = {}, id } = JSON.parse(String(chunk));
      asked.push(execute);
      let answer: object;
      try {
        answer = { return: answers[execute]?.(args) ?? {} };
      } catch (error) {
        answer = { error: { class: 'GenericError', desc: (error as Error).message } };
      }
      this.push(`${JSON.stringify({ ...answer, id })}\n`);
      done();
    },
  });
  return { qmp: new Qmp(stream), asked };
}

const signal = new AbortController().signal;
const scratch = await realpath(await mkdtemp(path.join(os.tmpdir(), 'kiln-freeze-')));
const ram = await openGuestMemory(16, scratch);
after(async () => {
  await ram.close();
  await rm(scratch, { recursive: true, force: true });
});

const memoryOf = (name: string) => ({
  ram: path.join(scratch, `${name}.ram`),
  pieces: path.join(scratch, `${name}.pieces`),
  devices: path.join(scratch, `${name}.devices`),
});
const DISKS = [
  { node: 'disk', overlayFd: 9, writtenFd: 7 },
  { node: 'lun0', overlayFd: 15, writtenFd: 13 },
];
const requestOf = (name: string) => ({ index: 1, disks: DISKS, ram, memory: memoryOf(name), signal });
const receiver = (received: Promise<void>) => ({
  uri: 'unix:/nowhere',
  received,
  [Symbol.asyncDispose]: async () => {},
});

test('memory first, then the new overlays of all disks at once; the guest stands still from before to behind it', async () => {
  const snapshots: unknown[] = [];
  const { qmp, asked } = session({
    'query-migrate': () => ({ status: 'completed' }),
    transaction: args => void snapshots.push(args.actions),
    'query-fdsets': () => [],
  });
  const request = { ...requestOf('whole'), receiver: receiver(Promise.resolve()) };
  const { pausedMs, kept } = await freeze(qmp, request);
  assert.ok(pausedMs >= 0);
  assert.equal(kept.checksum, await checksumFile(memoryOf('whole').ram));
  assert.deepEqual(asked, [
    ...['migrate-set-capabilities', 'blockdev-add', 'blockdev-add'],
    ...['stop', 'migrate', 'query-migrate', 'transaction', 'cont', 'query-fdsets', 'query-fdsets'],
  ]);
  const snapshot = (disk: string) => ({
    type: 'blockdev-snapshot',
    data: { node: `${disk}-overlay-0`, overlay: `${disk}-overlay-1` },
  });
  assert.deepEqual(snapshots, [[snapshot('disk'), snapshot('lun0')]]);
  const { size, mode } = await stat(memoryOf('whole').ram);
  assert.deepEqual([size, mode & 0o777], [16 * 1024 * 1024, 0o600]);
});

test('where one of the overlays is refused, none is left, and the guest does not even stand still', async () => {
  const removed: unknown[] = [];
  const { qmp, asked } = session({
    'blockdev-add': args => {
      if (args['node-name'] === 'lun0-overlay-1') throw new Error('no room');
    },
    'blockdev-del': args => void removed.push(args['node-name']),
  });
  const request = { ...requestOf('refused'), receiver: receiver(Promise.resolve()) };
  await assert.rejects(freeze(qmp, request), /no room/);
  assert.ok(removed.includes('disk-overlay-1'));
  assert.ok(!asked.includes('stop'));
});

const REFUSALS: readonly (readonly [string, Answers, () => Promise<void>, object])[] = [
  [
    'QEMU cannot hand over the memory',
    { 'query-migrate': () => ({ status: 'failed', 'error-desc': 'no way' }) },
    async () => {},
    { code: 'InternalError', message: /no way/ },
  ],
  [
    'the host has no space left',
    { 'query-migrate': () => ({ status: 'failed' }) },
    () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })),
    { code: 'DiskFull' },
  ],
  [
    'the host has no space left, which QEMU learns of first',
    { 'query-migrate': () => ({ status: 'failed' }) },
    async () => {
      await sleep(50);
      throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    },
    { code: 'DiskFull' },
  ],
  [
    'QEMU refuses the overlays',
    {
      'query-migrate': () => ({ status: 'completed' }),
      transaction: () => {
        throw new Error('busy');
      },
    },
    async () => {},
    { code: 'InternalError', message: /busy/ },
  ],
];

for (const [what, answers, received, expected] of REFUSALS)
  test(`${what}: said, nothing left, and the guest goes on as before`, async () => {
    const { memory, ...request } = requestOf('half');
    await writeFile(memory.devices, 'half of it');
    const { qmp, asked } = session(answers);
    await assert.rejects(freeze(qmp, { ...request, memory, receiver: receiver(received()) }), expected);
    for (const file of Object.values(memory)) assert.equal(existsSync(file), false);
    assert.equal(asked.filter(one => one === 'blockdev-del').length, DISKS.length);
    assert.equal(asked.at(-1), 'cont');
  });

test('a machine that does not go on is lost, though what was frozen is whole', async () => {
  const { qmp } = session({
    'query-migrate': () => ({ status: 'completed' }),
    cont: () => {
      throw new Error('no');
    },
  });
  const request = { ...requestOf('lost'), receiver: receiver(Promise.resolve()) };
  await assert.rejects(freeze(qmp, request), { code: 'MachineLost' });
});

test('a machine that comes in runs when it is all there', async () => {
  const states = ['inmigrate', 'inmigrate', 'paused'];
  const { qmp, asked } = session({ 'query-status': () => ({ status: states.shift() }) });
  await thaw(qmp, 7, signal);
  const coming = ['query-status', 'query-status', 'query-status'];
  assert.deepEqual(asked, ['migrate-set-capabilities', 'migrate-incoming', ...coming, 'cont']);
});

/** How often a process has a file open for writing. */
async function writers(pid: number, file: string): Promise<number> {
  let count = 0;
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== file) continue;
    const flags = /flags:\s*([0-7]+)/.exec(await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))![1]!;
    if ((Number.parseInt(flags, 8) & 3) !== 0) count++;
  }
  return count;
}

test('QEMU itself can no longer write to what is frozen: other builds start from it', async () => {
  await using held = new AsyncDisposableStack();
  const files: FileHandle[] = [];
  held.defer(async () => void (await Promise.all(files.map(file => file.close()))));
  const hand = (file: FileHandle) => 3 + files.push(file);
  const opened: OpenDisk[] = [];
  for (const node of [DISK_NODE, dataNode(3)]) {
    const [first, ...behind] = [0, 1, 2].map(n => path.join(scratch, `${node}-${n}.qcow2`));
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', first!, '16M']);
    opened.push(await openDisk(node, { path: first!, format: 'qcow2' }, behind, hand));
  }
  const [disk, data] = opened as [OpenDisk, OpenDisk];
  const args = [
    ...['-nodefaults', '-display', 'none', '-machine', 'q35', '-m', '16M', '-accel', 'tcg'],
    ...opened.flatMap(({ chain, overlays }) => [...chain, ...overlays]).flatMap(descriptors),
    ...['-chardev', 'socket,id=qmp,fd=3,server=off', '-mon', 'chardev=qmp,mode=control'],
    ...['-blockdev', JSON.stringify(diskChain(disk.chain)), '-device', 'virtio-blk-pci,drive=disk'],
    ...['-blockdev', JSON.stringify(diskChain(data.chain, data.node)), '-device', 'virtio-scsi-pci,id=data'],
    ...['-device', `scsi-hd,bus=data.0,channel=0,scsi-id=0,lun=3,drive=${data.node}`],
  ];
  const fds = files.map(file => file.fd);
  const qemu = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'ignore', 'inherit', 'pipe', ...fds] });
  const exited = new Promise(resolve => qemu.once('close', resolve));
  held.defer(async () => {
    qemu.kill('SIGKILL');
    await exited;
  });
  const qmp = new Qmp(qemu.stdio[3] as Duplex);
  await qmp.open();
  for (const { written } of opened) assert.ok((await writers(qemu.pid!, written[0]!.path)) > 0);
  for (const index of [0, 1]) {
    const memory = memoryOf(`memory-${index}`);
    await using receiver = await receiveDevices(path.join(scratch, 'socket'), memory.devices);
    const disks = opened.map(({ node, chain, overlays }) => ({
      ...{ node, overlayFd: overlays[index]!.fd, writtenFd: (overlays[index - 1] ?? chain[0]!).fd },
    }));
    await freeze(qmp, { index, disks, ram, memory, receiver, signal });
    for (const { written } of opened) {
      assert.equal(await writers(qemu.pid!, written[index]!.path), 0);
      assert.ok((await writers(qemu.pid!, written[index + 1]!.path)) > 0);
    }
  }
});
