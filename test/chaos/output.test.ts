/** What a guest prints: floods, endless lines, and the last words of a step that fails. One guest for all of it. */
import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { tracesOf } from './traces.ts';

const MIB = 1024 * 1024;

const STEPS = [
  // The cruellest way to print 100 MB: lines of one character.
  ["yes | head -c 100000000; echo 'the flood is over'"],
  ["head -c 1000000 /dev/zero | tr '\\0' x; echo; echo 'the line is over'"],
  ['sudo systemctl restart ssh', 'echo survived the restart of ssh'],
  [
    'nic=$(ls /sys/class/net | grep -v ^lo$ | head -n 1)',
    'sudo sh -c "ip link set $nic down; sleep 1; ip link set $nic up; ip route add default via 10.0.2.2"',
    'echo survived the loss of the network',
  ],
  ['apt-get install --yes nginx'],
] as const;

const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;

before(async () => {
  guest = await makeQuickGuest(directory.path);
});

after(async () => {
  await home.remove();
  await directory.remove();
});

test('a flood of output neither stops nor bloats a build; a step that fails says why', async t => {
  const env = { KILN_CACHE: guest.cache };
  const template = await writeTemplate(directory.path, 'loud', { steps: STEPS });
  const building = start(['--home', home.path, 'build', template, '--catalogue', guest.catalogue], env);
  const id = (await building.until(/^run ([0-9a-f-]{36})$/m))[1]!;
  let peak = 0;
  const watch = setInterval(async () => {
    const text = await readFile(`/proc/${building.child.pid}/status`, 'utf8').catch(() => '');
    peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024);
  }, 500);
  const { exitCode, stderr } = await building.ended.finally(() => clearInterval(watch));
  assert.equal(exitCode, 4, stderr);
  t.diagnostic(`kiln took at most ${Math.round(peak / MIB)} MiB of memory`);
  assert.ok(peak > 0 && peak < 700 * MIB, `kiln grew to ${Math.round(peak / MIB)} MiB`);

  const { stdout } = await kiln(['--home', home.path, '--json', 'runs', 'show', id], env);
  const { state, error, phases } = JSON.parse(stdout);
  assert.equal(state, 'Failed');
  assert.deepEqual(
    phases
      .filter((phase: { kind: string }) => phase.kind === 'customize')
      .map((phase: { state: string }) => phase.state),
    ['Succeeded', 'Succeeded', 'Succeeded', 'Succeeded', 'Failed'],
  );
  assert.equal(error.code, 'StepFailed');
  assert.match(error.message, /^Step 5\/5 Shell "step 5" failed with exit code 100\./);
  assert.match(error.message, /Last lines:\n.*Permission denied/s);
  assert.match(error.hint, /sudo/);
  assert.match(stderr, /are you root\?/);
  assert.match(stderr, /^ {2}hint: .*sudo/m);

  const log = join(home.path, 'logs', id, 'customization.log');
  assert.ok((await stat(log)).size < 80 * MIB, `customization.log has ${(await stat(log)).size} bytes`);
  const text = await readFile(log, 'utf8');
  assert.match(text, /The guest printed more than \d+ MiB/);
  assert.ok(text.split('\n').every(line => line.length < 10_000));
  assert.match(text, /lines of the guest were not kept/);
  assert.deepEqual(await tracesOf(home.path, id), []);
  assert.deepEqual(await leftovers(home.path), []);
});
