import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { inlineScript, shellPhase } from './shell.ts';
import type { StepPlace } from './step.ts';

test('lines of a template and a file of the same bytes are two steps: Windows line endings are mended in files only', () => {
  const place: StepPlace = { role: 'customize', number: 1, count: 1, type: 'Shell', name: '' };
  const inline = ['echo a\r', 'echo b'];
  const sha256 = createHash('sha256').update(inlineScript(inline)).digest('hex');
  const file = { sha256, path: '/nowhere', size: 1, uri: 'https://example.com/a.sh' };
  assert.notDeepEqual(shellPhase(place, { inline }).inputs, shellPhase(place, { file }).inputs);
  const elsewhere = { ...file, uri: 'https://example.com/b.sh' };
  assert.deepEqual(shellPhase(place, { file }).inputs, shellPhase(place, { file: elsewhere }).inputs);
});
