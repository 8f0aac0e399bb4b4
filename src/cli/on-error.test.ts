import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorWish, spoken } from './on-error.ts';

const TERMINAL = { stdin: { isTTY: true }, stderr: { isTTY: true } };
const NONE = { stdin: {}, stderr: {} };
const PLAIN = { yes: false, json: false };

test('who can answer is asked, everybody else’s machine is ended', () => {
  assert.deepEqual(errorWish({}, PLAIN, TERMINAL), { action: 'ask' });
  assert.deepEqual(errorWish({}, PLAIN, NONE), { action: 'clean' });
  assert.deepEqual(errorWish({}, PLAIN, { ...TERMINAL, stdin: {} }), { action: 'clean' });
  assert.deepEqual(errorWish({}, PLAIN, { ...TERMINAL, stderr: {} }), { action: 'clean' });
  for (const global of [
    { yes: true, json: false },
    { yes: false, json: true },
  ])
    assert.deepEqual(errorWish({}, global, TERMINAL), { action: 'clean' });
});

test('what is said counts, unless nobody could answer', () => {
  for (const action of ['keep', 'clean'] as const)
    assert.deepEqual(errorWish({ onError: action }, PLAIN, NONE), { action });
  assert.deepEqual(errorWish({ onError: 'ask' }, { yes: true, json: true }, TERMINAL), { action: 'ask' });
  assert.throws(() => errorWish({ onError: 'ask' }, PLAIN, NONE), { code: 'UsageError' });
});

test('times are minutes, or have a unit', () => {
  const minutes = (keepFor: string) => errorWish({ onError: 'keep', keepFor }, PLAIN, NONE).minutes;
  assert.equal(minutes('90'), 90);
  assert.equal(minutes('90m'), 90);
  assert.equal(minutes('2h'), 120);
  assert.equal(minutes('30s'), 0.5);
  for (const wrong of ['0', '-1', '25h', '1d', 'h', '', '1.5h', ' 1h'])
    assert.throws(() => minutes(wrong), { code: 'UsageError' }, wrong);
  assert.throws(() => errorWish({ keepFor: '1h' }, PLAIN, NONE), { code: 'UsageError' });
  assert.deepEqual([0.5, 60, 120, 90].map(spoken), ['30 s', 'an hour', '2 hours', '90 minutes']);
});
