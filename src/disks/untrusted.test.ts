import assert from 'node:assert/strict';
import { copyFile, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { KilnError } from '../arm/errors.ts';
import { run } from '../processes/process.ts';
import { MIB } from './qemu-img.ts';
import { inspectUntrusted } from './untrusted.ts';

let directory: string;
const at = (name: string) => join(directory, name);
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-untrusted-'));
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', at('plain.qcow2'), '8M']);
});
after(() => rm(directory, { recursive: true, force: true }));

const refused = (path: string, message: RegExp, limits?: { maxVirtualSize: number }) =>
  assert.rejects(inspectUntrusted(path, limits), (error: unknown) => {
    assert.ok(error instanceof KilnError);
    assert.equal(error.code, 'SourceUnusable');
    assert.match(error.message, message);
    assert.match(error.message, new RegExp(path.replaceAll('.', '\\.')));
    return true;
  });

async function patched(name: string, offset: number, bytes: readonly number[]): Promise<string> {
  await copyFile(at('plain.qcow2'), at(name));
  const handle = await open(at(name), 'r+');
  await handle.write(Buffer.from(bytes), 0, bytes.length, offset);
  await handle.close();
  return at(name);
}

test('a plain qcow2, a dynamic and a fixed VHD, a raw disk', async () => {
  assert.equal((await inspectUntrusted(at('plain.qcow2'))).format, 'qcow2');
  for (const subformat of ['dynamic', 'fixed']) {
    const path = at(`${subformat}.vhd`);
    await run('qemu-img', ['create', '-q', '-f', 'vpc', '-o', `subformat=${subformat},force_size=on`, path, '8M']);
    const info = await inspectUntrusted(path);
    assert.equal(info.format, 'vhd');
    assert.equal(info.virtualSize, 8 * MIB);
  }
  const sector = Buffer.alloc(2 * MIB);
  sector.writeUInt16LE(0xaa55, 510);
  await writeFile(at('disk.raw'), sector);
  const raw = await inspectUntrusted(at('disk.raw'));
  assert.equal(raw.format, 'raw');
  assert.equal(raw.virtualSize, 2 * MIB);
});

test('a backing file is refused, even one that does not exist', async () => {
  await run('qemu-img', [
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-b',
    '/etc/shadow',
    '-F',
    'raw',
    at('overlay.qcow2'),
    '8M',
  ]);
  await refused(at('overlay.qcow2'), /backing file/);
});

test('an external data file is refused', async () => {
  const file = at('split.qcow2');
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    `data_file=${at('data.raw')},data_file_raw=on`,
    file,
    '8M',
  ]);
  await refused(file, /another file/);
});

test('encryption, corruption, unknown features and versions are refused', async () => {
  await refused(await patched('crypt.qcow2', 32, [0, 0, 0, 1]), /encrypted/);
  await refused(await patched('corrupt.qcow2', 79, [2]), /corrupt/);
  await refused(await patched('future.qcow2', 72, [1]), /unknown/);
  await refused(await patched('version.qcow2', 7, [9]), /version 9/);
});

test('what people hand over by mistake is named', async () => {
  await writeFile(at('disk.qcow2.gz'), Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(2000)]));
  await refused(at('disk.qcow2.gz'), /gzip/);
  await writeFile(at('page.html'), '<!doctype html><title>Not found</title>');
  await refused(at('page.html'), /web page/);
  const iso = Buffer.alloc(0x9000);
  iso.write('CD001', 0x8001);
  await writeFile(at('cd.iso'), iso);
  await refused(at('cd.iso'), /ISO/);
  await writeFile(at('empty'), '');
  await refused(at('empty'), /0 bytes/);
  await refused(at('missing'), /cannot be read/);
  await refused(directory, /not a file|cannot be read/);
  await writeFile(at('zeros'), Buffer.alloc(MIB));
  await refused(at('zeros'), /boot sector/);
});

test('a disk beyond the limit, a VHD that was cut off or depends on another', async () => {
  await refused(at('plain.qcow2'), /at most 1048576/, { maxVirtualSize: MIB });
  const fixed = await readFile(at('fixed.vhd'));
  const footer = fixed.subarray(-512);
  footer[60 + 3] = 4;
  await writeFile(at('child.vhd'), fixed);
  await refused(at('child.vhd'), /checksum/);
  const dynamic = await readFile(at('dynamic.vhd'));
  await writeFile(at('cut.vhd'), dynamic.subarray(0, dynamic.length - 512));
  await refused(at('cut.vhd'), /cut off/);
});

test('arbitrary bytes are refused or read, never anything else', async () => {
  const path = at('arbitrary');
  const header = fc.uint8Array({ minLength: 104, maxLength: 2048 });
  await fc.assert(
    fc.asyncProperty(header, async bytes => {
      await writeFile(path, Buffer.concat([Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), bytes]));
      await assert.rejects(inspectUntrusted(path), { code: 'SourceUnusable' });
    }),
    { numRuns: 25 },
  );
});
