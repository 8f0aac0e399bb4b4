import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capped, sizeNames, sizeOf } from './sizes.ts';

const roomy = { processors: 128, memoryMiB: 4096 * 1024, freeMemoryMiB: 4096 * 1024 };

test('sizes are those of Azure, in any case', () => {
  for (const [name, processors, gib] of [
    ['Standard_A1_v2', 1, 2],
    ['Standard_D1_v2', 1, 3.5],
    ['standard_ds5_V2', 16, 56],
    ['Standard_D2s_v3', 2, 8],
    ['Standard_D2ds_v4', 2, 8],
    ['Standard_D4ads_v5', 4, 16],
    ['Standard_B1ms', 1, 2],
    ['Standard_B20ms', 20, 80],
    ['Standard_E64_v3', 64, 432],
    ['Standard_F72s_v2', 72, 144],
    ['STANDARD_F4S', 4, 8],
  ] as const) {
    const size = sizeOf(name);
    assert.deepEqual([size?.processors, size?.memoryMiB], [processors, gib * 1024], name);
  }
  assert.equal(sizeOf('Standard_D3_v9'), undefined);
});

test('an empty size is the default of the generation', () => {
  assert.equal(sizeOf('')?.name, 'Standard_D1_v2');
  assert.equal(sizeOf('', 'V2')?.name, 'Standard_D2ds_v4');
});

test('a size that fits is given whole and in silence', () => {
  assert.deepEqual(capped(sizeOf('Standard_D2s_v3')!, roomy), { processors: 2, memoryMiB: 8192 });
});

test('a cut size is told', () => {
  const cut = capped(sizeOf('Standard_D16s_v3')!, { processors: 4, memoryMiB: 16384, freeMemoryMiB: 12000 });
  assert.equal(
    cut.sentence,
    'Standard_D16s_v3 is cut to what this host can give: 4 of 16 processors and 8 of 64 GiB of memory.',
  );
});

test('what is free at the moment changes nothing but a sentence', () => {
  const size = sizeOf('Standard_D2s_v3')!;
  const busy = capped(size, { processors: 4, memoryMiB: 16384, freeMemoryMiB: 1536 });
  assert.equal(busy.memoryMiB, 8192);
  assert.match(busy.sentence!, /up to 8 GiB of memory, and only 1\.5 GiB are free/);
});

test('no host gives more than it has, nor less than 1 GiB', () => {
  const host = fc.record({
    processors: fc.integer({ min: 1, max: 256 }),
    memoryMiB: fc.integer({ min: 512, max: 1 << 22 }),
    freeMemoryMiB: fc.integer({ min: 0, max: 1 << 22 }),
  });
  fc.assert(
    fc.property(fc.constantFrom(...sizeNames()), host, (name, capacity) => {
      const size = sizeOf(name)!;
      const given = capped(size, capacity);
      assert.ok(given.processors >= 1 && given.processors <= Math.min(size.processors, capacity.processors));
      assert.ok(given.memoryMiB >= 1024);
      assert.ok(given.memoryMiB === 1024 || given.memoryMiB <= capacity.memoryMiB / 2);
      assert.equal(
        given.sentence !== undefined,
        given.processors < size.processors ||
          given.memoryMiB < size.memoryMiB ||
          given.memoryMiB > capacity.freeMemoryMiB,
      );
    }),
  );
});
