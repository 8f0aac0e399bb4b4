/** Several commands at once on one state directory, and builds that somebody ends: Ctrl-C, and `kiln runs cancel` from another process. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { kiln, leftovers, start, temporaryHome } from '../kiln.ts';
import { makeQuickGuest, type QuickGuest } from './quick-guest.ts';
import { writeTemplate } from './templates.ts';
import { slotNumbers, tracesOf } from './traces.ts';

/** A cancelled build has cleaned up within ten seconds; a busy host gets three times that. */
const CLEANED = 30_000;

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

const command = (...args: string[]) => kiln(['--home', home.path, '--json', ...args], env);
const build = (template: string) =>
  start(['--home', home.path, '-v', 'build', template, '--catalogue', guest.catalogue], env);

interface Run {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly error: { readonly code: string } | null;
  readonly phases: readonly { readonly kind: string; readonly state: string }[];
}

async function show(id: string): Promise<Run> {
  const { stdout, stderr } = await command('runs', 'show', id);
  return JSON.parse(stdout || assert.fail(stderr));
}

test('a build goes on beside other commands, and Ctrl-C ends it cleanly', async t => {
  const long = await writeTemplate(directory.path, 'long', { steps: [['echo the step runs', 'sleep 600']] });
  const other = await writeTemplate(directory.path, 'other');
  const building = build(long);
  const id = (await building.until(/^run ([0-9a-f-]{36})$/m))[1]!;
  await building.until(/the step runs$/m);
  const slots = await slotNumbers(home.path, id);
  assert.equal(slots.length, process.getuid?.() === 0 ? 1 : 0);

  await t.test('it is seen by others', async () => {
    const listed = JSON.parse((await command('runs', 'list')).stdout) as Run[];
    assert.deepEqual(
      listed.map(({ name, state }) => [name, state]),
      [['long', 'Running']],
    );
    const { phases } = await show(id);
    assert.equal(phases.find(phase => phase.state === 'Running')?.kind, 'customize');
    assert.match((await kiln(['--home', home.path, 'logs', id], env)).stdout, /the step runs/);
  });

  await t.test('another build of the template is refused', async () => {
    const { exitCode, stdout } = await command('build', long, '--catalogue', guest.catalogue);
    assert.equal(exitCode, 6);
    const { error } = JSON.parse(stdout);
    assert.equal(error.code, 'RunInProgress');
    assert.match(error.message, new RegExp(id));
  });

  await t.test('a build of another template is accepted, and another process cancels it', async () => {
    const second = build(other);
    const secondId = (await second.until(/^run ([0-9a-f-]{36})$/m))[1]!;
    await second.until(/^boot: /m);
    assert.equal((await command('runs', 'cancel', secondId)).exitCode, 0);
    const { exitCode, stderr } = await within(CLEANED, second.ended);
    assert.equal(exitCode, 130, stderr);
    const { state, error } = await show(secondId);
    assert.deepEqual([state, error?.code], ['Canceled', 'Canceled']);
    assert.deepEqual(await tracesOf(home.path, secondId), []);
    assert.equal((await command('runs', 'cancel', secondId)).exitCode, 6, 'what has ended cannot be cancelled');
  });

  building.child.kill('SIGINT');
  const { exitCode, stderr } = await within(CLEANED, building.ended);
  assert.equal(exitCode, 130, stderr);
  assert.deepEqual(await tracesOf(home.path, id, slots), []);
  assert.deepEqual(await leftovers(home.path), []);
  const { state, error, phases } = await show(id);
  assert.deepEqual([state, error?.code], ['Canceled', 'Canceled']);
  assert.deepEqual(
    phases.map(phase => [phase.kind, phase.state]),
    [
      ['source', 'Succeeded'],
      ['boot', 'Succeeded'],
      ['customize', 'Canceled'],
      ['generalize', 'Skipped'],
      ['capture', 'Skipped'],
      ['distribute', 'Skipped'],
    ],
  );
});

async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not within ${milliseconds / 1000} s`)), milliseconds);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
