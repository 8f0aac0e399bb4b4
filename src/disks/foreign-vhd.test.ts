import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { run } from '../processes/process.ts';
import { type FilePart, joinParts, readParts, wholeFile } from './file-parts.ts';
import { readForeignVhd } from './foreign-vhd.ts';
import { importVhd } from './import-vhd.ts';
import { inspect, MIB } from './qemu-img.ts';
import { checksum, FOOTER_SIZE } from './vhd.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-foreign-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const signal = new AbortController().signal;
const SECTOR = 512;

/** A disk with some text at its beginning, in its middle and near its end. */
async function rawDisk(name: string, mebibytes: number): Promise<string> {
  const path = join(directory, `${name}.raw`);
  const handle = await open(path, 'w');
  await handle.truncate(mebibytes * MIB);
  for (const at of [0, (mebibytes * MIB) / 2, mebibytes * MIB - 4096]) await handle.write(`${name} at ${at}`, at);
  await handle.close();
  return path;
}

async function vhd(
  name: string,
  subformat: 'fixed' | 'dynamic',
  mebibytes = 8,
): Promise<{ raw: string; path: string }> {
  const raw = await rawDisk(name, mebibytes);
  const path = join(directory, `${name}.vhd`);
  const options = `subformat=${subformat},force_size=on`;
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', '-o', options, raw, path]);
  return { raw, path };
}

const partOf = async (path: string): Promise<FilePart[]> => [{ path, offset: 0, size: (await stat(path)).size }];

/** Cut into pieces, each a file of its own with something before and behind it that does not belong; pieces of nothing but zeros have no file. */
async function inPieces(path: string, cuts: readonly number[]): Promise<FilePart[]> {
  const bytes = await readFile(path);
  const ends = [...new Set(cuts.map(cut => cut % bytes.length))].filter(cut => cut > 0).sort((a, b) => a - b);
  const parts: FilePart[] = [];
  for (const [index, end] of [...ends, bytes.length].entries()) {
    const start = index === 0 ? 0 : ends[index - 1]!;
    const size = end - start;
    if (bytes.subarray(start, end).every(byte => byte === 0)) {
      parts.push({ path: undefined, offset: 0, size });
      continue;
    }
    const piece = `${path}.${index}`;
    await writeFile(piece, Buffer.concat([Buffer.from('before'), bytes.subarray(start, end), Buffer.from('behind')]));
    parts.push({ path: piece, offset: 6, size });
  }
  return parts;
}

const identical = async (raw: string, imported: string) =>
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, imported]);

test('a dynamic VHD whose blocks are all the same bytes is refused', async () => {
  const { path } = await vhd('repeated', 'dynamic');
  const bytes = await readFile(path);
  const table = Number(bytes.readBigUInt64BE(512 + 16));
  const [first] = [0, 4, 8, 12].map(at => bytes.readUInt32BE(table + at)).filter(block => block !== 0xffff_ffff);
  for (const at of [0, 4, 8, 12]) bytes.writeUInt32BE(first!, table + at);
  await writeFile(path, bytes);
  const found = await readForeignVhd(await partOf(path));
  assert.ok('wrong' in found && /same bytes in several blocks/.test(found.because), JSON.stringify(found));
});

for (const subformat of ['fixed', 'dynamic'] as const)
  test(`a ${subformat} VHD becomes a sparse qcow2 with the same content, whole or in pieces`, async () => {
    const { raw, path } = await vhd(subformat, subformat);
    for (const [index, parts] of [
      await partOf(path),
      await inPieces(path, [1, 70_000, 3 * MIB + 5, 5 * MIB]),
    ].entries()) {
      assert.deepEqual(await readForeignVhd(parts), { type: subformat, virtualSize: 8 * MIB });
      const to = join(directory, `${subformat}-${index}.qcow2`);
      const imported = await importVhd(parts, { to, signal });
      assert.equal(imported.virtualSize, 8 * MIB);
      await identical(raw, to);
      assert.ok(imported.allocatedSize < 2 * MIB, 'what is empty takes no room');
      assert.equal((await inspect(to, 'qcow2')).backingFile, undefined);
    }
  });

test('a fixed VHD whose content looks like a qcow2 with a backing file is taken for what its footer says', async () => {
  const { path } = await vhd('disguised', 'fixed');
  const header = Buffer.alloc(104);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(3, 4);
  header.writeBigUInt64BE(200n, 8);
  header.writeUInt32BE(11, 16);
  const handle = await open(path, 'r+');
  await handle.write(header, 0, header.length, 0);
  await handle.write('/etc/shadow', 200);
  await handle.close();
  const to = join(directory, 'disguised.qcow2');
  await importVhd(await partOf(path), { to, signal });
  assert.equal((await inspect(to, 'qcow2')).backingFile, undefined);
  await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', to, `${to}.raw`]);
  const content = await readFile(`${to}.raw`);
  assert.equal(content.toString('latin1', 0, 4), 'QFI\xfb');
  assert.equal(content.length, 8 * MIB);
});

test('a second footer at the beginning, which QEMU would go by, has to say the same', async () => {
  for (const subformat of ['fixed', 'dynamic'] as const) {
    const { path } = await vhd(`two-${subformat}`, subformat);
    const bytes = await readFile(path);
    const footer = Buffer.from(bytes.subarray(-FOOTER_SIZE));
    footer.writeBigUInt64BE(2n ** 50n, 48);
    footer.writeUInt32BE(checksum(footer), 64);
    bytes.set(footer, 0);
    await writeFile(path, bytes);
    const found = await readForeignVhd(await partOf(path));
    assert.ok('wrong' in found && /contradicts/.test(found.because), JSON.stringify(found));
  }
});

test('sizes that Azure refuses are refused, each as what it is', async () => {
  const { path } = await vhd('odd', 'fixed');
  const resized = async (bytes: number) => {
    const content = await readFile(path);
    const footer = Buffer.from(content.subarray(-FOOTER_SIZE));
    footer.writeBigUInt64BE(BigInt(bytes), 48);
    footer.writeUInt32BE(checksum(footer), 64);
    const copy = join(directory, `odd-${bytes}.vhd`);
    await writeFile(copy, Buffer.alloc(0));
    await truncate(copy, bytes);
    const handle = await open(copy, 'r+');
    await handle.write(footer, 0, FOOTER_SIZE, bytes);
    await handle.close();
    return await readForeignVhd(await partOf(copy));
  };
  const kind = async (bytes: number) => {
    const found = await resized(bytes);
    return 'wrong' in found ? found.wrong : found.type;
  };
  assert.equal(await kind(8 * MIB), 'fixed');
  assert.equal(await kind(8 * MIB + SECTOR), 'size');
  assert.equal(await kind(MIB - SECTOR), 'limit');
  assert.equal(await kind(5 * 1024 ** 4), 'limit');
});

test('no changed byte of a footer or a dynamic header goes unnoticed', async () => {
  for (const subformat of ['fixed', 'dynamic'] as const) {
    const { path } = await vhd(`broken-${subformat}`, subformat);
    const bytes = await readFile(path);
    const ranges: [number, number][] = [[bytes.length - FOOTER_SIZE, FOOTER_SIZE]];
    if (subformat === 'dynamic') ranges.push([FOOTER_SIZE, 1024]);
    const copy = join(directory, `broken-${subformat}-copy.vhd`);
    await writeFile(copy, bytes);
    await fc.assert(
      fc.asyncProperty(fc.nat(1023), fc.integer({ min: 1, max: 255 }), fc.nat(9), async (at, change, which) => {
        const [start, length] = ranges[which % ranges.length]!;
        const position = start + (at % length);
        const handle = await open(copy, 'r+');
        const original = bytes[position]!;
        await handle.write(Buffer.of(original ^ change), 0, 1, position);
        const found = await readForeignVhd(await partOf(copy));
        await handle.write(Buffer.of(original), 0, 1, position);
        await handle.close();
        assert.ok('wrong' in found, `byte ${at}`);
      }),
      { numRuns: 60 },
    );
    assert.ok('type' in (await readForeignVhd(await partOf(copy))));
  }
});

test('any bytes at all are judged, not fallen over', async () => {
  const path = join(directory, 'anything.vhd');
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 4096 }),
      fc.boolean(),
      fc.uint8Array({ minLength: 504, maxLength: 504 }),
      async (content, dressed, rest) => {
        const footer = Buffer.concat([Buffer.from('conectix', 'latin1'), rest]);
        // With a right checksum the fields themselves are judged.
        footer.writeUInt32BE(0x10000, 12);
        footer.writeUInt32BE(2 + (rest[0]! % 3), 60);
        footer.writeUInt32BE(checksum(footer), 64);
        await writeFile(path, dressed ? Buffer.concat([content, footer]) : content);
        const found = await readForeignVhd(await partOf(path));
        assert.ok('wrong' in found);
      },
    ),
    { numRuns: 100 },
  );
});

test('parts are read, and joined, as the file that they are', async () => {
  const path = join(directory, 'whole');
  const bytes = Buffer.concat([Buffer.from('some bytes'), Buffer.alloc(3 * MIB), Buffer.from('and more')]);
  await writeFile(path, bytes);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(bytes.length), { maxLength: 4 }),
      fc.nat(bytes.length),
      fc.nat(5000),
      async (cuts, at, length) => {
        const parts = await inPieces(path, cuts);
        assert.deepEqual(await readParts(parts, at, length), bytes.subarray(at, at + length));
        const joined = `${path}.joined`;
        await joinParts(parts, joined, signal);
        assert.ok((await readFile(joined)).equals(bytes));
        assert.ok((await stat(joined)).blocks * SECTOR < 3 * MIB);
      },
    ),
    { numRuns: 20 },
  );
  assert.equal(await wholeFile(await partOf(path)), path);
  assert.equal(await wholeFile([{ path, offset: 0, size: 5 }]), undefined);
  assert.equal(await wholeFile(await inPieces(path, [5])), undefined);
});
