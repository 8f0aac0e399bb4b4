import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { openService } from '../../service.ts';
import { askedBudget, chosenToGo, parseSize } from './budget.ts';
import type { StoredLayer } from './store.ts';

const layer = (id: string, parent: string | undefined, used: number, allocated: number): StoredLayer =>
  ({ id, key: id, ...(parent !== undefined && { parent }), usedAt: new Date(used), allocated }) as StoredLayer;

test('least recently used first, what others stand on after these', () => {
  const chain = [layer('1', undefined, 1, 10), layer('2', '1', 2, 10), layer('3', '2', 9, 10), layer('x', '1', 3, 10)];
  const order = (budget: number) => chosenToGo(chain, { budget }).map(({ id }) => id);
  assert.deepEqual(order(40), []);
  assert.deepEqual(order(39), ['x']);
  assert.deepEqual(order(20), ['x', '3']);
  assert.deepEqual(order(0), ['x', '3', '2', '1']);
  assert.deepEqual(
    chosenToGo(chain, { usedBefore: new Date(4) }).map(({ id }) => id),
    ['x'],
  );
});

test('what was used while the clock was wrong goes first', () => {
  const [now, day] = [new Date(1e12), 24 * 3600 * 1000];
  const layers = [
    layer('ahead', undefined, 1e12 + 2 * day, 10),
    layer('old', undefined, 1, 10),
    layer('new', undefined, 1e12, 10),
  ];
  const order = (budget: number) => chosenToGo(layers, { budget, now }).map(({ id }) => id);
  assert.deepEqual(order(20), ['ahead']);
  assert.deepEqual(order(0), ['ahead', 'old', 'new']);
});

test('what stays fits, and stands on what stays', () => {
  const forest = fc
    .array(fc.tuple(fc.nat(), fc.nat(100), fc.nat(50)), { maxLength: 12 })
    .map(all =>
      all.map(([parent, used, size], n) =>
        layer(String(n), n > 0 && parent % 3 > 0 ? String(parent % n) : undefined, used, size),
      ),
    );
  fc.assert(
    fc.property(forest, fc.nat(300), (layers, budget) => {
      const gone = new Set(chosenToGo(layers, { budget }));
      const left = layers.filter(one => !gone.has(one));
      assert.ok(left.reduce((sum, { allocated }) => sum + allocated, 0) <= budget);
      for (const { parent } of left) assert.ok(parent === undefined || left.some(({ id }) => id === parent));
    }),
  );
});

test('sizes are read as people write them', () => {
  assert.equal(parseSize('40GiB', '--budget'), 40 * 1024 ** 3);
  assert.equal(parseSize('1.5 T', '--budget'), 1.5 * 1024 ** 4);
  assert.equal(parseSize('512', '--budget'), 512);
  assert.throws(() => parseSize('much', '--budget'), { code: 'UsageError' });
});

test('a KILN_CACHE_BUDGET that is no size is refused before anything is opened', async t => {
  assert.equal(askedBudget({ KILN_CACHE_BUDGET: '2GiB' }), 2 * 1024 ** 3);
  assert.equal(askedBudget({}), undefined);
  const { KILN_CACHE_BUDGET: before } = process.env;
  t.after(() => {
    if (before === undefined) delete process.env.KILN_CACHE_BUDGET;
    else process.env.KILN_CACHE_BUDGET = before;
  });
  process.env.KILN_CACHE_BUDGET = 'plenty';
  await assert.rejects(openService({ home: '/dev/null/none', log: () => undefined }), {
    code: 'UsageError',
    message: 'KILN_CACHE_BUDGET takes a size such as 40GiB, not "plenty".',
  });
});
