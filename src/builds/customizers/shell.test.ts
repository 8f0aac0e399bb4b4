import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Machine } from '../../machines/machine.ts';
import { uploadThrough } from '../../machines/upload.ts';
import type { BuildLog } from '../log.ts';
import type { PhaseContext } from '../phase.ts';
import { filePhase } from './file.ts';
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

test('what Kiln runs in the guest around a step is in its key', async () => {
  const place: StepPlace = { role: 'customize', number: 1, count: 1, type: 'Shell', name: '' };
  const commands: string[] = [];
  const machine = {
    async exec(command: string) {
      commands.push(command);
      return { exitCode: 0 };
    },
    upload: (source: Readable, path: string) => uploadThrough({ ...machine, user: 'kiln' }, source, path),
  };
  const log = new Proxy({}, { get: () => () => {} }) as BuildLog;
  const context = { log, signal: new AbortController().signal } as PhaseContext;
  const path = fileURLToPath(import.meta.url);
  const file = { sha256: '', path, size: 1, uri: 'https://example.com/a.sh' };
  const [shell, copy] = [shellPhase(place, { inline: ['true'] }), filePhase(place, file, '-a/')];
  for (const phase of [shell, copy]) await phase.run({ machine: machine as unknown as Machine }, context);
  const sha256 = createHash('sha256').update(commands[0]!).digest('hex');
  assert.deepEqual([shell.inputs.wrapper, copy.inputs.command], [sha256, commands[1]]);
});
