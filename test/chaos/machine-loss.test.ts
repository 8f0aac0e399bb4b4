/** Machines that go wrong: QEMU is killed, the guest never answers, the finished image does not boot. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { kiln, leftovers, type Running, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { slotNumbers, tracesOf } from './traces.ts';

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

async function begin(template: string, more: NodeJS.ProcessEnv = {}, catalogue = guest.catalogue) {
  const running = start(['--home', home.path, '-v', 'build', template, '--catalogue', catalogue], { ...env, ...more });
  const [, id = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
  return { running, id };
}

/** Waits for a build that fails, and looks for what it leaves. @returns its error as the rows have it, and what the person saw */
async function failure(running: Running, id: string, slots: readonly number[] = []) {
  const { exitCode, stderr } = await running.ended;
  assert.deepEqual(await tracesOf(home.path, id, slots), []);
  const { stdout } = await kiln(['--home', home.path, '--json', 'runs', 'show', id], env);
  const { state, error } = JSON.parse(stdout) as {
    state: string;
    error: { code: string; message: string; hint?: string; target?: string };
  };
  assert.equal(state, 'Failed', stderr);
  return { exitCode, stderr, ...error };
}

/** How long a guest takes here to answer; what a broken one is given is a multiple of it. Seconds. */
let answered = 0;

test('QEMU is killed while a step runs', async () => {
  const template = await writeTemplate(directory.path, 'killed', { steps: [['echo the step runs', 'sleep 600']] });
  const { running, id } = await begin(template);
  answered = Number((await running.until(/The guest answers after ([\d.]+) s/))[1]);
  await running.until(/the step runs$/m);
  const slots = await slotNumbers(home.path, id);
  const { stdout } = await run('ps', ['-eo', 'pid=,args=']);
  const pid = new RegExp(`^ *(\\d+) .*-name kiln-${id}-build `, 'm').exec(stdout)?.[1];
  assert.ok(pid, stdout);
  process.kill(Number(pid), 'SIGKILL');
  const { exitCode, code, message, hint, target } = await failure(running, id, slots);
  assert.deepEqual([exitCode, code], [4, 'MachineLost']);
  assert.match(message, /ended by SIGKILL/);
  assert.match(hint ?? '', /killed the process/);
  assert.match(target ?? '', /customize: 1\/1/);
});

describe('within their deadline', { concurrency: 2 }, () => {
  test('a disk with nothing on it never answers', async () => {
    const empty = join(directory.path, 'empty.qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', empty, '1G']);
    const catalogue = join(directory.path, 'empty-catalogue.json');
    await writeFile(catalogue, JSON.stringify({ 'Chaos:empty:disk': { file: empty } }));
    const source = { type: 'PlatformImage', publisher: 'Chaos', offer: 'empty', sku: 'disk', version: 'latest' };
    const template = await writeTemplate(directory.path, 'empty', { source });
    const { running, id } = await begin(template, { KILN_BOOT_DEADLINE: '5' }, catalogue);
    const { exitCode, code, message, target, stderr } = await failure(running, id);
    assert.deepEqual([exitCode, code], [4, 'GuestUnreachable']);
    assert.match(message, /^The guest was not ready within 5 s\./);
    assert.match(message, /Nothing came on its serial console: either the disk does not boot/);
    assert.match(target ?? '', /console\.log$/);
    assert.match(stderr, /^error: The guest was not ready within 5 s\. Nothing came/m);
  });

  test('an image whose customizer removed the kernel is not published', async () => {
    const steps = [['sudo rm /boot/vmlinuz-*']];
    const template = await writeTemplate(directory.path, 'no-kernel', { steps, bootProof: 'on', outputs: 3 });
    const deadline = String(Math.ceil(Math.max(40, answered * 3)));
    const { running, id } = await begin(template, { KILN_BOOT_DEADLINE: deadline });
    const { exitCode, code, message, hint, target } = await failure(running, id);
    assert.deepEqual([exitCode, code], [4, 'BootProofFailed']);
    assert.match(message, /^The finished image does not come up: /);
    assert.match(message, /you need to load the kernel first|Failed to boot/, 'the end of the console says why');
    assert.match(hint ?? '', /customizer broke the boot/);
    assert.match(target ?? '', /^prove: /);
    assert.deepEqual(
      (await list(home.path)).filter(({ manifest }) => manifest.runId === id),
      [],
    );
    const console = await readFile(join(home.path, 'logs', id, 'proof-console.log'), 'utf8');
    assert.match(console, /vmlinuz.* not found/);
  });

  test('a kernel that finds no timer is started again', async () => {
    const place = join(directory.path, 'late');
    await mkdir(place);
    // What an emulated kernel prints on a busy host, by chance; here at the first boot of each disk.
    const panic = "Kernel panic - not syncing: IO-APIC + timer doesn't work!";
    const prelude = `[ -e /etc/second ] || { touch /etc/second; sync; echo "${panic}" > /dev/ttyS0; sleep 600; }`;
    const late = await makeQuickGuest(place, prelude);
    const { running, id } = await begin(await writeTemplate(place, 'late'), { KILN_CACHE: late.cache }, late.catalogue);
    await running.until(/found no timer.*Starting it again/);
    await running.until(/^The guest answers after/m);
    const slots = await slotNumbers(home.path, id);
    assert.ok(slots.length <= 1, 'the first machine has given its slot back');
    running.child.kill('SIGINT');
    assert.equal((await running.ended).exitCode, 130);
    assert.deepEqual(await tracesOf(home.path, id, slots), []);
  });

  test('an image whose init ends makes the kernel panic, which is known at once', async () => {
    const steps = [['sudo ln -sf /bin/false /sbin/init']];
    const template = await writeTemplate(directory.path, 'no-init', { steps, bootProof: 'on' });
    const { running, id } = await begin(template);
    const { exitCode, code, message } = await failure(running, id);
    assert.deepEqual([exitCode, code], [4, 'BootProofFailed']);
    assert.match(message, /panicked/);
  });
});

test('nothing of them is left', async () => {
  assert.deepEqual(await leftovers(home.path), []);
});
