import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, readdir, readFile, rm, stat, statfs, truncate } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { checksumFile } from '../../disks/checksum.ts';
import { loadMemory, openGuestMemory, saveMemory } from './guest-memory.ts';

const MIB = 1024 * 1024;
const scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-ram-'));
after(() => rm(scratch, { recursive: true, force: true }));

test('what is in a memory is in another that was loaded from where it was saved; holes stay holes', async () => {
  await using one = await openGuestMemory(64, scratch);
  const bytes = randomBytes(3 * MIB);
  await one.write(bytes, 0, bytes.length, 40 * MIB);
  const file = path.join(scratch, 'saved');
  const saved = await saveMemory(one, file);
  assert.equal(saved, await checksumFile(file));
  const { size, blocks, mode } = await stat(file);
  assert.deepEqual([size, mode & 0o777], [64 * MIB, 0o600]);
  assert.ok(blocks * 512 < 8 * MIB, `${blocks} blocks`);
  await using other = await openGuestMemory(64, scratch);
  assert.equal(await loadMemory(file, other), saved);
  const read = Buffer.alloc(bytes.length);
  await other.read(read, 0, read.length, 40 * MIB);
  assert.ok(read.equals(bytes));
  assert.equal((await other.stat()).size, 64 * MIB);
  await assert.rejects(saveMemory(one, file), { code: 'EEXIST' });
  assert.equal((await readFile(file)).length, 64 * MIB);
});

test('nothing has a name, neither in the host’s memory nor where it goes without', async () => {
  const names = async (directory: string) => (await readdir(directory)).filter(name => name.startsWith('kiln-'));
  const before = await names('/dev/shm');
  // More than any host has: it lies in the directory.
  for (const mebibytes of [1, 2 ** 23]) {
    await using memory = await openGuestMemory(mebibytes, scratch);
    assert.equal((await memory.stat()).nlink, 0);
  }
  assert.deepEqual([await names('/dev/shm'), await names(scratch)], [before, []]);
});

test('what one guest was promised of the host’s memory is not promised to another, until it ends', async () => {
  const { bavail, bsize } = await statfs('/dev/shm');
  const most = Math.floor((0.6 * bavail * bsize) / MIB);
  const { dev } = await stat('/dev/shm');
  const inShared = async (memory: FileHandle) => (await memory.stat()).dev === dev;
  const [one, two] = await Promise.all([openGuestMemory(most, scratch), openGuestMemory(most, scratch)]);
  await using other = two;
  assert.deepEqual([await inShared(one), await inShared(other)], [true, false]);
  await one.close();
  await using third = await openGuestMemory(most, scratch);
  assert.ok(await inShared(third));
});

test('a file that was cut off is refused', async () => {
  await using memory = await openGuestMemory(2, scratch);
  const file = path.join(scratch, 'cut');
  await saveMemory(memory, file);
  await truncate(file, MIB);
  await assert.rejects(loadMemory(file, memory), /1048576 bytes/);
});
