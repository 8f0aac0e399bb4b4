import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, readdir, readFile, rm, stat, statfs, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { checksumFile } from '../../disks/checksum.ts';
import { PIECE } from '../../disks/pieces.ts';
import { type KeptMemory, loadMemory, openGuestMemory, saveMemory } from './guest-memory.ts';

const MIB = 1024 * 1024;
const scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-ram-'));
after(() => rm(scratch, { recursive: true, force: true }));

/** Where a memory is kept for the nth time. */
const kept = (name: string, n = 1) => ({
  file: path.join(scratch, `${name}-${n}`),
  list: path.join(scratch, `${name}-${n}.list`),
});
const allocated = async (file: string) => (await stat(file)).blocks * 512;

test('what is in a memory is in another that was loaded from where it was saved; holes stay holes', async () => {
  await using one = await openGuestMemory(64, scratch);
  const bytes = randomBytes(3 * MIB);
  await one.write(bytes, 0, bytes.length, 40 * MIB);
  const to = kept('saved');
  const saved = await saveMemory(one, to);
  assert.equal(saved.checksum, await checksumFile(to.file));
  const { size, mode } = await stat(to.file);
  assert.deepEqual([size, mode & 0o777, (await stat(to.list)).mode & 0o777], [64 * MIB, 0o600, 0o600]);
  assert.ok((await allocated(to.file)) < 8 * MIB);
  await using other = await openGuestMemory(64, scratch);
  assert.deepEqual((await loadMemory({ files: [to.file], list: to.list }, other)).files, [to.file]);
  const read = Buffer.alloc(bytes.length);
  await other.read(read, 0, read.length, 40 * MIB);
  assert.ok(read.equals(bytes));
  assert.equal((await other.stat()).size, 64 * MIB);
  await assert.rejects(saveMemory(one, to), { code: 'EEXIST' });
  assert.equal((await readFile(to.file)).length, 64 * MIB);
});

test('a memory that is kept again costs what has changed, and is what it was at each of these moments', async () => {
  await using memory = await openGuestMemory(16, scratch);
  const write = (bytes: Buffer, at: number) => memory.write(bytes, 0, bytes.length, at);
  const content = async (file: FileHandle) => (await file.read(Buffer.alloc(16 * MIB), 0, 16 * MIB, 0)).buffer;
  await write(randomBytes(8 * MIB), 0);
  const moments: { files: readonly string[]; list: string; content: Buffer }[] = [];
  let before: KeptMemory | undefined;
  const keep = async () => {
    const to = kept('again', moments.length + 1);
    before = await saveMemory(memory, to, { before });
    moments.push({ files: before.files, list: to.list, content: await content(memory) });
    return await allocated(to.file);
  };
  assert.ok((await keep()) >= 8 * MIB);
  assert.equal(await keep(), 0, 'nothing has changed');
  await write(Buffer.from('x'), 5 * MIB + 7);
  await write(randomBytes(PIECE), 12 * MIB);
  assert.equal(await keep(), 2 * PIECE);
  // What becomes zeros, and what becomes what it was two moments ago.
  await write(Buffer.alloc(MIB), 2 * MIB);
  await write(moments[0]!.content.subarray(5 * MIB, 5 * MIB + PIECE), 5 * MIB);
  assert.equal(await keep(), PIECE);
  for (const moment of moments) {
    await using other = await openGuestMemory(16, scratch);
    const loaded = await loadMemory(moment, other);
    assert.ok((await content(other)).equals(moment.content));
    // Who goes on from there keeps what changes from then on.
    await other.write(Buffer.from('y'), 0, 1, 9 * MIB);
    const to = kept('branch', moments.indexOf(moment));
    const { files } = await saveMemory(other, to, { before: loaded });
    assert.deepEqual(files, [...moment.files, to.file]);
    assert.equal(await allocated(to.file), PIECE);
  }
});

test('another content than was kept is found, wherever it lies', async () => {
  await using memory = await openGuestMemory(4, scratch);
  await memory.write(randomBytes(MIB), 0, MIB, MIB);
  const [first, second] = [kept('damaged', 1), kept('damaged', 2)];
  const before = await saveMemory(memory, first);
  await memory.write(Buffer.from('x'), 0, 1, MIB);
  const { files } = await saveMemory(memory, second, { before });
  const load = async () => {
    await using other = await openGuestMemory(4, scratch);
    return await loadMemory({ files, list: second.list }, other);
  };
  await load();
  const damage = async (file: string, at: number) => {
    const whole = await readFile(file);
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1;
    await writeFile(file, bytes);
    return () => writeFile(file, whole);
  };
  for (const [file, at] of [
    [first.file, MIB + PIECE + 5],
    [second.file, MIB + 3],
  ] as const) {
    const mend = await damage(file, at);
    await assert.rejects(load(), /not what was kept/);
    await mend();
  }
  // The form, a piece's number, its file.
  for (const at of [0, 16 + 2, 16 + 5]) {
    const mend = await damage(second.list, at);
    await assert.rejects(load(), /list of a memory's pieces is damaged/);
    await mend();
  }
  await load();
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
  const { file, list } = kept('cut');
  await saveMemory(memory, { file, list });
  await truncate(file, MIB);
  await assert.rejects(loadMemory({ files: [file], list }, memory), /1048576 bytes/);
});
