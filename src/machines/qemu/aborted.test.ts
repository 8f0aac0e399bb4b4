import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { aborted } from './aborted.ts';

const late = async () => {
  await sleep(10);
  throw new Error('late');
};

test('a promise that fails after the signal ends no process, even one that was aborted before', async () => {
  await assert.rejects(aborted(late(), AbortSignal.abort(new Error('before'))), { message: 'before' });
  await assert.rejects(aborted(late(), AbortSignal.timeout(1)), { name: 'TimeoutError' });
  await sleep(50);
});

test('a promise that is in time counts, whatever it comes to', async () => {
  const { signal } = new AbortController();
  assert.equal(await aborted(Promise.resolve(1), signal), 1);
  await assert.rejects(aborted(late(), signal), { message: 'late' });
});
