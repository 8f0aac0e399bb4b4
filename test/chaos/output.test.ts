/** What a guest prints: floods, endless lines, the run's secrets, and the last words of a step that fails. One guest for all of it. */
import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { tracesOf } from './traces.ts';

const MIB = 1024 * 1024;

/** Of the URL that the first step's script comes from. */
const SIGNATURE = 'kIlN0fD1e2A3d4B5e6E7f8C9a0F1f2E3+/9=';
const QUERY = `sv=2024-11-04&sp=r&sig=${encodeURIComponent(SIGNATURE)}`;
const LEAKY = ['#!/bin/sh', `echo 'signed by ${SIGNATURE}' >&2`, `echo 'fetch https://store/a.sh?${QUERY}'`]
  .concat(`printf 'in halves: ${SIGNATURE.slice(0, 9)}'; sleep 2; echo '${SIGNATURE.slice(9)} over'`, '')
  .join('\n');

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
  [`echo 'last words: ${SIGNATURE}'`, 'apt-get install --yes nginx'],
] as const;

const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;
let server: Server;

before(async () => {
  guest = await makeQuickGuest(directory.path);
  server = createServer((_, response) => response.end(LEAKY));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
});

after(async () => {
  server?.close();
  await home.remove();
  await directory.remove();
});

test('a flood of output neither stops nor bloats a build; a step that fails says why', async t => {
  const env = { KILN_CACHE: guest.cache };
  const { port } = server.address() as AddressInfo;
  const leaky = { type: 'Shell', name: 'leaky', scriptUri: `http://127.0.0.1:${port}/leaky.sh?${QUERY}` };
  const loud = STEPS.map((inline, index) => ({ type: 'Shell', name: `step ${index + 2}`, inline }));
  const template = await writeTemplate(directory.path, 'loud', { customize: [leaky, ...loud] });
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
    ['Succeeded', 'Succeeded', 'Succeeded', 'Succeeded', 'Succeeded', 'Failed'],
  );
  assert.equal(error.code, 'StepFailed');
  assert.match(error.message, /^Step 6\/6 Shell "step 6" failed with exit code 100\./);
  assert.match(error.message, /Last lines:\n.*Permission denied/s);
  assert.match(error.message, /last words: <sensitive>/);
  assert.match(error.hint, /sudo/);
  assert.match(stderr, /are you root\?/);
  assert.match(stderr, /^ {2}hint: .*sudo/m);

  const log = join(home.path, 'logs', id, 'customization.log');
  assert.ok((await stat(log)).size < 80 * MIB, `customization.log has ${(await stat(log)).size} bytes`);
  const text = await readFile(log, 'utf8');
  assert.match(text, /The guest printed more than \d+ MiB/);
  assert.ok(text.split('\n').every(line => line.length < 10_000));
  assert.match(text, /lines of the guest were not kept/);
  assert.match(text, /PACKER OUT Build 'azure-arm' errored: Step 6\/6 /);
  assert.match(
    text.slice(-1000),
    /==> Builds finished but no artifacts were created\.\n.*\(telemetry\) Finalizing\.\n$/,
  );

  for (const line of ['==> azure-arm: signed by <sensitive>', 'azure-arm: in halves: <sensitive> over'])
    assert.ok(text.includes(`${line}\n`), line);
  assert.ok(text.includes('fetch https://store/a.sh?sv=2024-11-04&sp=r&sig=<sensitive>\n'));
  const rows = (await kiln(['--home', home.path, 'logs', id], env)).stdout;
  const kept = await Promise.all(
    (await readdir(join(log, '..'))).map(name => readFile(join(log, '..', name), 'latin1')),
  );
  for (const said of [...kept, rows, stderr, stdout])
    for (const secret of [SIGNATURE, encodeURIComponent(SIGNATURE)]) assert.ok(!said.includes(secret));
  assert.deepEqual(await tracesOf(home.path, id), []);
  assert.deepEqual(await leftovers(home.path), []);
});
