import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../processes/process.ts';
import { receiveDevices } from './devices-file.ts';

let scratch: string;
before(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-memory-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

const connectTo = (uri: string) => net.connect({ path: uri.slice('unix:'.length) });

test('what comes through the socket is in the file, for its owner alone; the socket is gone', async () => {
  const [socket, file] = [path.join(scratch, 'socket'), path.join(scratch, 'memory')];
  const bytes = randomBytes(3_000_000);
  {
    await using receiver = await receiveDevices(socket, file);
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
    connectTo(receiver.uri).end(bytes);
    await receiver.received;
  }
  assert.deepEqual(await readFile(file), bytes);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(scratch), ['memory']);
});

test('a socket below a path that is too long for one', async () => {
  const deep = path.join(scratch, ...Array.from({ length: 5 }, () => 'd'.repeat(30)));
  await mkdir(deep, { recursive: true });
  const file = path.join(deep, 'memory');
  await using receiver = await receiveDevices(path.join(deep, 'memory.sock'), file);
  // As QEMU does: another process of the same user, which has the address and nothing else.
  const script = 'net.connect({ path: process.argv[1] }).end("all of it")';
  await run(process.execPath, ['-e', `import net from 'node:net'; ${script}`, receiver.uri.slice('unix:'.length)]);
  await receiver.received;
  assert.equal(await readFile(file, 'utf8'), 'all of it');
});

test('a file that cannot be made is told, and a file that is there is not overwritten', async () => {
  const file = path.join(scratch, 'memory');
  const there = await readFile(file);
  for (const target of [file, path.join(scratch, 'none', 'memory')]) {
    await using receiver = await receiveDevices(path.join(scratch, 'socket'), target);
    connectTo(receiver.uri)
      .on('error', () => {})
      .end('other');
    await assert.rejects(receiver.received, { code: target === file ? 'EEXIST' : 'ENOENT' });
  }
  assert.deepEqual(await readFile(file), there);
});

test('nobody waits for a QEMU that does not come', async () => {
  const receiver = await receiveDevices(path.join(scratch, 'socket'), path.join(scratch, 'never'));
  await receiver[Symbol.asyncDispose]();
  await assert.rejects(receiver.received, /did not hand over/);
  assert.ok(!(await readdir(scratch)).includes('never'));
});

test('a full file system is told as one', { skip: process.getuid?.() !== 0 && 'needs root' }, async () => {
  const small = path.join(scratch, 'small');
  await mkdir(small);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
  try {
    await using receiver = await receiveDevices(path.join(scratch, 'socket'), path.join(small, 'memory'));
    connectTo(receiver.uri)
      .on('error', () => {})
      .end(randomBytes(3_000_000));
    await assert.rejects(receiver.received, { code: 'ENOSPC' });
  } finally {
    await run('umount', [small]);
  }
});
