import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../processes/process.ts';
import { cloneOrCopy } from './copy.ts';
import { lockFile } from './file-lock.ts';
import { sha256File } from './hash.ts';
import { convertDisk, createOverlay, inspect, MIB } from './qemu-img.ts';

let directory: string;
const at = (name: string) => join(directory, name);
before(async () => {
  // The characters that QEMU's own file names would trip over.
  directory = await mkdtemp(join(tmpdir(), 'kiln,disks:-'));
  const handle = await open(at('sparse.raw'), 'w');
  await handle.truncate(40 * MIB);
  await handle.write(Buffer.alloc(5000, 1), 0, 5000, 0);
  await handle.write(Buffer.alloc(70_000, 2), 0, 70_000, 17 * MIB + 123);
  await handle.close();
});
after(() => rm(directory, { recursive: true, force: true }));

test('an overlay grows its disk and never shrinks it', async () => {
  const backing = { path: at('sparse.raw'), format: 'raw' as const };
  const { virtualSize } = await createOverlay({ backing, path: at('grown.qcow2'), virtualSize: 64 * MIB });
  const grown = await inspect(at('grown.qcow2'));
  assert.deepEqual([virtualSize, grown.virtualSize], [64 * MIB, 64 * MIB]);
  assert.equal(grown.backingFile, backing.path);
  assert.equal(grown.backingFormat, 'raw');
  await createOverlay({ backing, path: at('same.qcow2'), virtualSize: MIB });
  const same = await inspect(at('same.qcow2'));
  assert.equal(same.virtualSize, 40 * MIB);
  assert.ok(same.allocatedSize < MIB);
});

test('a converted overlay holds everything and needs nobody', async () => {
  await createOverlay({ backing: { path: at('sparse.raw'), format: 'raw' }, path: at('over.qcow2') });
  const info = await convertDisk(
    { path: at('over.qcow2'), format: 'qcow2' },
    { to: at('flat.qcow2'), format: 'qcow2' },
  );
  assert.equal(info.backingFile, undefined);
  await run('qemu-img', ['compare', '-q', at('flat.qcow2'), at('sparse.raw')]);
});

test('a failed or canceled conversion leaves nothing behind', async () => {
  await writeFile(at('broken.qcow2'), 'no disk');
  const before = await readdir(directory);
  const to = at('never.vhd');
  await assert.rejects(convertDisk({ path: at('broken.qcow2'), format: 'qcow2' }, { to, format: 'vhd' }));
  const signal = AbortSignal.abort(new Error('enough'));
  await assert.rejects(convertDisk({ path: at('sparse.raw'), format: 'raw' }, { to, format: 'vhd', signal }), /enough/);
  assert.deepEqual(await readdir(directory), before);
});

test('the hash of a sparse file is that of its bytes', async () => {
  const expected = createHash('sha256')
    .update(await readFile(at('sparse.raw')))
    .digest('hex');
  assert.equal(await sha256File(at('sparse.raw')), expected);
  await writeFile(at('odd'), Buffer.alloc(4_500_001, 3));
  const odd = createHash('sha256')
    .update(await readFile(at('odd')))
    .digest('hex');
  assert.equal(await sha256File(at('odd')), odd);
  const handle = await open(at('holey'), 'w');
  await handle.truncate(9 * MIB + 77);
  await handle.close();
  assert.equal(
    await sha256File(at('holey')),
    createHash('sha256')
      .update(Buffer.alloc(9 * MIB + 77))
      .digest('hex'),
  );
  await writeFile(at('nothing'), '');
  assert.equal(await sha256File(at('nothing')), createHash('sha256').digest('hex'));
});

test('hashing can be canceled and reports a missing file', async () => {
  const controller = new AbortController();
  const hashing = sha256File(at('sparse.raw'), { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(hashing, /enough/);
  await assert.rejects(sha256File(at('missing')), { code: 'ENOENT' });
});

test('a copy is equal and as sparse', async () => {
  await cloneOrCopy(at('sparse.raw'), at('copy.raw'));
  assert.equal(await sha256File(at('copy.raw')), await sha256File(at('sparse.raw')));
  assert.ok((await stat(at('copy.raw'))).blocks <= (await stat(at('sparse.raw'))).blocks + 64);
  assert.equal((await inspect(at('copy.raw'), 'raw')).virtualSize, 40 * MIB);
});

test('a lock is held by one, and free when its holder is killed', async () => {
  const path = at('lock');
  let waited = 0;
  const first = await lockFile(path);
  const second = lockFile(path, { onWait: () => waited++ });
  const impatient = lockFile(path, { signal: AbortSignal.timeout(100) });
  await assert.rejects(impatient, { name: 'TimeoutError' });
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  assert.equal(waited, 1);

  const module = new URL('./file-lock.ts', import.meta.url).href;
  const killed = `const { lockFile } = await import(${JSON.stringify(module)});
    await lockFile(${JSON.stringify(path)}); process.kill(process.pid, 'SIGKILL')`;
  await run(process.execPath, ['--input-type=module', '-e', killed], { ok: [128, 137] });
  await (await lockFile(path))[Symbol.asyncDispose]();
});
