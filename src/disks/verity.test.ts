import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { run } from '../processes/process.ts';
import { VERITY_BLOCK, VerityDigest, verityPart } from './verity.ts';

const BLOCK = VERITY_BLOCK;
/** What a block of the tree covers. */
const BRANCH = 128 * BLOCK;

const bytesOf = (size: number) => Buffer.from(Array.from({ length: size }, (_, n) => (n * 7 + (n >> 8)) & 255));

function digestOf(...parts: readonly (Buffer | number)[]): string {
  const digest = new VerityDigest();
  for (const part of parts)
    if (typeof part === 'number') digest.addZeros(part);
    else digest.add(part);
  return digest.digest();
}

/** The format as its documentation says it, level by level, of all that is there. */
function reference(bytes: Buffer): string {
  const sha256 = (data: Buffer) => createHash('sha256').update(data).digest();
  const hashes = (data: Buffer) =>
    Array.from({ length: Math.ceil(data.length / BLOCK) }, (_, n) => {
      const block = Buffer.alloc(BLOCK);
      data.copy(block, 0, n * BLOCK);
      return sha256(block);
    });
  let level = hashes(bytes);
  while (level.length > 1) level = hashes(Buffer.concat(level));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(bytes.length));
  const root = level[0] ?? Buffer.alloc(32);
  const descriptor = Buffer.concat([Buffer.of(1, 1, 12, 0, 0, 0, 0, 0), size, root, Buffer.alloc(256 - 16 - 32)]);
  return `sha256:${sha256(descriptor).toString('hex')}`;
}

/** Size, then what `fsverity digest` 1.5 says of bytesOf(size) and of as many zeros. */
const KNOWN: readonly (readonly [size: number, bytes: string, zeros: string])[] = [
  [
    0,
    '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95',
    '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95',
  ],
  [
    1,
    'b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551',
    'b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551',
  ],
  [
    4095,
    '036811a3f3360df7c779a29d40d2561d03d020f5219b2c42aa93d9d545e05e26',
    '5372beb83c78537c8970c8361e3254119fafdf1763854ecd57d3f0fe2da7c719',
  ],
  [
    4096,
    'dba6800c0bddc2369f4f0ab54798f65f5a8c1f49adc4a4792a831ff4b093e2d7',
    'babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e',
  ],
  [
    4097,
    'fefe00b4a113721b31dbc100ba46ff68ba3c9ca6dc62c6a3c1e71db190c68f9f',
    '093756e4ea9683329106d4a16982682ed182c14bf076463a9e7f97305cbac743',
  ],
  [
    524287,
    '7d77a2ed4f473ccb5e0362d05339f53dcedba8a80a77aa3d163318323c50d19a',
    '5b687cddd72baf4a3bac1bc525c4a8121ba81544c71fc48460f0a96d7ba8bef6',
  ],
  [
    524288,
    'eaae8cbd17127f6514707a04477de56880466f212f12d13c4397e929b54d8f5a',
    '2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1',
  ],
  [
    524289,
    '0e3b4b2d25eb9005be08661772bd35783c1fba25ba74e6a63693f072dad036ce',
    'e4143a5705610b7ad2eb85482cfc033c7062a89b9faf9118603f592d53fd10e0',
  ],
  [
    528384,
    'db02e81975b74d2111c24901d63965a9d34a8e0b02ca2aeb602d4260e7e0fffa',
    '2331d9bc1bfa1c8c1a2272b1bc04acca57ec879136c554d313b45b77b94f326e',
  ],
  [
    1048576,
    '642a69fae9edc3e909def3c647396d465113c0fefa7a84bc1fbb550ebd4a659d',
    'feb19a23e72cb1b8f935d668a09ecaad0bf7c5b9cdfa6dbba7c88a9998ed2b87',
  ],
  [
    1572869,
    '4377acdb6d28ea4fbfd7214f2de5422a92789bf4cd58777ffe6e63f83e428c36',
    'c588de9e23a94d1bc92001e16c95716e35a66082139374f10001868f9c8658bc',
  ],
];

test('the digests are those that fsverity prints', () => {
  for (const [size, bytes, zeros] of KNOWN) {
    assert.equal(digestOf(bytesOf(size)), `sha256:${bytes}`, `${size}`);
    assert.equal(digestOf(Buffer.alloc(size)), `sha256:${zeros}`, `${size}`);
    assert.equal(digestOf(size), `sha256:${zeros}`, `${size}`);
  }
});

test('a hole of any size costs nothing', () => {
  const started = performance.now();
  // What fsverity says of a file that is nothing but a hole.
  assert.equal(
    digestOf(127 * 1024 ** 3 + 512),
    'sha256:e601d20c01bebe28c041c1cff24dbc5a4d59809d84e7e7c0df7d93df2498102d',
  );
  assert.ok(performance.now() - started < 1000);
});

const part = fc.record({ blocks: fc.oneof(fc.nat({ max: 5 }), fc.nat({ max: 300 })), zero: fc.boolean() });

test('holes between data are as the zeros that they stand for', () => {
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), fc.nat({ max: 2 * BLOCK }), fc.boolean(), (parts, rest, zero) => {
      const all = [...parts.map(({ blocks, zero }) => ({ size: blocks * BLOCK, zero })), { size: rest, zero }].map(
        ({ size, zero }) => ({ size, bytes: zero ? Buffer.alloc(size) : bytesOf(size), zero }),
      );
      const expected = reference(Buffer.concat(all.map(({ bytes }) => bytes)));
      assert.equal(digestOf(...all.map(({ size, bytes, zero }) => (zero ? size : bytes))), expected);
      assert.equal(digestOf(Buffer.concat(all.map(({ bytes }) => bytes))), expected);
    }),
    { numRuns: 60 },
  );
});

test('parts that were computed apart make the same digest', () => {
  const size = fc.oneof(fc.nat({ max: 3 }), fc.constant(7)).map(branches => branches * BRANCH);
  fc.assert(
    fc.property(fc.array(size, { maxLength: 5 }), fc.nat({ max: BRANCH + BLOCK }), (sizes, rest) => {
      const parts = [...sizes, rest].map((size, n) => bytesOf(size + n).subarray(n));
      const digest = new VerityDigest();
      for (const [n, part] of parts.entries()) {
        digest.addPart(verityPart(part));
        if (n < sizes.length) digest.addZeros(2 * BRANCH);
      }
      const whole = parts.flatMap((part, n) => (n < sizes.length ? [part, 2 * BRANCH] : [part]));
      assert.equal(digest.digest(), digestOf(...whole));
    }),
    { numRuns: 10 },
  );
  const torn = new VerityDigest();
  torn.addZeros(BLOCK);
  assert.throws(() => torn.addPart(verityPart(bytesOf(BLOCK))), RangeError);
  assert.throws(() => verityPart(Buffer.alloc(128 * BRANCH)), RangeError);
});

const installed = await run('fsverity', ['--version']).then(
  () => true,
  () => false,
);

test('the program itself says so', { skip: !installed && 'fsverity is not installed' }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-verity-'));
  try {
    for (const [before, size, after] of [
      [0, 0, 0],
      [0, 1, 0],
      [BLOCK, BLOCK - 1, 0],
      [BRANCH - BLOCK, 3 * BLOCK, 5 * BRANCH + 1],
      [128 * BRANCH - BLOCK, 2 * BLOCK, 200 * BRANCH + 512],
    ] as const) {
      const path = join(directory, 'file');
      await writeFile(path, '');
      await truncate(path, before);
      await writeFile(path, bytesOf(size), { flag: 'a' });
      await truncate(path, before + size + after);
      const { stdout } = await run('fsverity', ['digest', '--compact', path]);
      assert.equal(digestOf(before, bytesOf(size), after), `sha256:${stdout.trim()}`);
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
