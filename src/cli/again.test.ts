import assert from 'node:assert/strict';
import { test } from 'node:test';
import { again } from './again.ts';

test('who wanted steps to run is not told that the same command skips them', () => {
  assert.equal(again({ use: true }), 'The same command again goes on after the last good step.');
  assert.match(again({ use: true, fresh: 'install' }), /^Without --fresh the same command goes on/);
  assert.match(again({ use: true, from: '2' }), /^Without --from the same command goes on/);
  assert.match(again({ use: false }), /^The same command runs every step again; without --no-cache/);
});
