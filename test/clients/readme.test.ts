/** The README's commands for the service, word for word, as a person pastes them: only the build itself, which takes minutes, is not waited for. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { ROOT } from '../kiln.ts';
import { azOf } from './az.ts';
import { type Served, serve } from './served.ts';

let served: Served;
before(async () => {
  served = await serve(['--workers', '0']);
});
after(() => served?.stop());

test('the README’s commands make an identity, give it its role, make a template and run it', async () => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const block = /^## As a service\n\n((?: {4}.*\n|\n)+)/m.exec(readme)![1]!;
  const commands = block.slice(block.indexOf('    az group create')).replaceAll(/^ {4}/gm, '');
  const waiting = /^az image builder run .*?(?= +#|$)/m;
  assert.match(commands, waiting);
  const script = `set -e\n${commands.replace(waiting, '$& --no-wait')}`;
  const { exitCode, stdout, stderr } = await run('bash', ['-c', script], {
    env: served.env,
    cwd: ROOT,
    ok: [0, 1, 2, 3],
  });
  assert.equal(exitCode, 0, `${script}\n${stdout}\n${stderr}\n${served.printed()}`);

  const az = azOf(served);
  const template = await az.json('image', 'builder', 'show', '-g', 'images', '-n', 'web');
  assert.equal(template.provisioningState, 'Succeeded');
  assert.equal(template.lastRunStatus.runState, 'Running');
  await az.json('image', 'builder', 'cancel', '-g', 'images', '-n', 'web');
  const canceled = await az.json('image', 'builder', 'show', '-g', 'images', '-n', 'web');
  assert.match(canceled.lastRunStatus.runState, /^Cancel/);
});
