/** kill -9 of who holds the machine of a failed step: it goes with its holder, and the next start forgets it and clears its directory. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { slotNumbers, tracesOf } from './traces.ts';

const root = process.getuid?.() === 0;
const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;
let env: NodeJS.ProcessEnv;

before(async () => {
  guest = await makeQuickGuest(directory.path);
  env = { KILN_CACHE: guest.cache };
});
after(async () => {
  await home.remove();
  await directory.remove();
});

for (const machine of ['vm', 'container'])
  test(`kill -9 beside a kept ${machine}`, {
    skip: machine === 'container' && !root && 'mounting disks takes root',
  }, async () => {
    const template = await writeTemplate(directory.path, machine, { steps: [['exit 3']] });
    const args = ['--catalogue', guest.catalogue, '--machine', machine, '--on-error', 'keep'];
    const running = start(['--home', home.path, 'build', template, ...args], env);
    const [, runId = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
    await running.until(/The machine is kept until .* In another terminal:/);
    const slots = await slotNumbers(home.path, runId);
    assert.equal(slots.length, root ? 1 : 0, 'there was a network to take down');
    running.child.kill('SIGKILL');
    assert.equal((await running.ended).signal, 'SIGKILL');
    const shown = await kiln(['--home', home.path, '--json', 'runs', 'show', runId], env);
    const { state, error, kept } = JSON.parse(shown.stdout);
    // The run had its end before; that is the truth still.
    assert.deepEqual([state, error.code, kept], ['Failed', 'StepFailed', null]);
    assert.deepEqual(await tracesOf(home.path, runId, slots), []);
    assert.deepEqual(await leftovers(home.path), []);
    const dropped = await kiln(['--home', home.path, 'runs', 'drop', runId], env);
    assert.equal(dropped.exitCode, 6, dropped.stderr);
  });
