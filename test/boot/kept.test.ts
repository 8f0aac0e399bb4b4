/**
 * Machines of failed steps that are kept, in real guests: what is printed lets a person in, what ends one leaves nothing, and the mended template goes on before
 * the step that failed. The quick guest of the crash tests, and the container machine where it shows the same.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import {
  beginRun,
  end,
  lastRun,
  layGround,
  logOf,
  ok,
  putTemplate,
  serve,
  until,
  VERSION,
} from '../chaos/api-builds.ts';
import { makeQuickGuest, type QuickGuest } from '../chaos/quick-guest.ts';
import { writeTemplate } from '../chaos/templates.ts';
import { slotNumbers, tracesOf } from '../chaos/traces.ts';
import { kiln, leftovers, ROOT, start, temporaryHome, WITH_LAYERS } from '../kiln.ts';

const home = await temporaryHome();
const directory = await temporaryHome();
let guest: QuickGuest;
let env: NodeJS.ProcessEnv;

before(async () => {
  guest = await makeQuickGuest(directory.path);
  env = { KILN_CACHE: guest.cache, ...WITH_LAYERS };
  await copyFile(guest.catalogue, join(home.path, 'catalogue.json'));
});
after(async () => {
  await home.remove();
  await directory.remove();
});

const GOOD = ['echo one >> ~/steps', 'echo "good ran"'];
/** Ends with 9, not 3, where an earlier run of it has been. */
const BAD = ['test ! -e ~/half || exit 9', 'touch ~/half', 'exit 3'];
const MENDED = ['test ! -e ~/half', 'test "$(cat ~/steps)" = one', 'echo two >> ~/steps'];
const LAST = ['test "$(wc -l < ~/steps)" = 2', 'echo "last ran"'];
const shells = (steps: readonly (readonly string[])[]) =>
  steps.map((inline, index) => ({ type: 'Shell', name: `step ${index + 1}`, inline }));

interface Shown {
  readonly state: string;
  readonly kept: { readonly until: string; readonly command: string; readonly drop: string } | null;
  readonly error: { readonly message: string } | null;
  readonly phases: readonly { readonly kind: string; readonly state: string; readonly cached: boolean }[];
}

async function show(runId: string): Promise<Shown> {
  const { exitCode, stdout, stderr } = await kiln(['--home', home.path, '--json', 'runs', 'show', runId], env);
  assert.equal(exitCode, 0, stderr);
  return JSON.parse(stdout);
}

const told = ({ phases }: Shown, count: number) =>
  phases.slice(1, count).map(({ kind, state, cached }) => `${kind} ${cached ? 'CACHED' : state}`);

/** Does what a person does with the printed command: pastes it into a shell and types. */
async function enter(command: string, ...typed: string[]): Promise<string> {
  const shell = spawn('bash', ['-c', command], { stdio: ['pipe', 'pipe', 'pipe'] });
  // A guest may greet whoever logs in.
  shell.stdin.end(`echo '// in'\n${typed.join('\n')}\nexit\n`);
  const [stdout, stderr] = await Promise.all([text(shell.stdout), text(shell.stderr), once(shell, 'close')]);
  assert.equal(shell.exitCode, 0, `${stdout}\n${stderr}`);
  return stdout.split('// in\n')[1] ?? stdout;
}

const drop = (runId: string) => kiln(['--home', home.path, 'runs', 'drop', runId.slice(0, 8)], env);

test('kiln build --on-error keep: ssh gets in, drop ends it, and the mended step starts on the state before it', async () => {
  const build = async (step: readonly string[], ...args: string[]) => {
    const template = await writeTemplate(directory.path, 'cli', { steps: [GOOD, step, LAST] });
    return start(['--home', home.path, 'build', template, '--catalogue', guest.catalogue, ...args], env);
  };
  const failing = await build(BAD, '--on-error', 'keep');
  const [, runId = ''] = await failing.until(/^run ([0-9a-f-]{36})$/m);
  const [, command = ''] = await failing.until(/The machine is kept until .* In another terminal:\n {2}(.+)\n/);
  const slots = await slotNumbers(home.path, runId);
  const [, key = ''] = / -i (\S+)/.exec(command)!;
  assert.equal((await stat(key)).mode & 0o777, 0o600);
  // Another process, which sweeps what dead ones left, leaves it alone.
  const shown = await show(runId);
  assert.equal(shown.state, 'Failed');
  assert.equal(shown.kept?.command, command);
  assert.equal(await enter(command, 'cat steps', 'ls half', 'sudo -n id -u'), 'one\nhalf\n0\n');
  const log = await readFile(join(home.path, 'logs', runId, 'customization.log'), 'utf8');
  assert.ok(log.includes(`kiln runs show ${runId.slice(0, 8)}`), log);
  assert.ok(!log.includes(key), 'the way in is for the host alone');

  const dropped = await drop(runId);
  assert.equal(dropped.exitCode, 0, dropped.stderr);
  const outcome = await failing.ended;
  assert.equal(outcome.exitCode, 4, outcome.stderr);
  assert.match(outcome.stderr, /The machine was dropped/);
  assert.deepEqual(await tracesOf(home.path, runId, slots), []);
  assert.equal((await drop(runId)).exitCode, 6);

  const mended = await build(MENDED);
  const [, secondId = ''] = await mended.until(/^run ([0-9a-f-]{36})$/m);
  const { exitCode, stderr } = await mended.ended;
  assert.equal(exitCode, 0, stderr);
  const cached = ['boot CACHED', 'customize CACHED', 'customize Succeeded', 'customize Succeeded'];
  assert.deepEqual(told(await show(secondId), 5), cached);
  assert.deepEqual(await leftovers(home.path), []);
});

test('errorHandling abort through the API: steps and validators, run again, mended, deleted', async () => {
  const server = await serve(home.path, { KILN_CACHE: guest.cache }, ['--revise']);
  try {
    const { rest } = server;
    await layGround(rest);
    const errorHandling = { onCustomizerError: 'abort', onValidationError: 'abort' };
    const failing = { errorHandling, customize: shells([GOOD, BAD, LAST]) };
    const id = await putTemplate(rest, 'api', failing);
    const fail = async () => {
      const runId = await beginRun(rest, id);
      await until(async () => (await lastRun(rest, id)).runState !== 'Running');
      assert.equal((await lastRun(rest, id)).runState, 'Failed');
      const log = await logOf(rest, id, runId);
      const shown = await show(runId);
      assert.ok(shown.kept, log);
      assert.ok(!log.includes(home.path), 'callers of the API see nothing of the host');
      return { runId, shown, command: shown.kept.command, slots: await slotNumbers(home.path, runId) };
    };
    const first = await fail();
    assert.equal(await enter(first.command, 'cat steps', 'ls half'), 'one\nhalf\n');

    // Unchanged: goes on behind the first step, in the state that it left.
    const second = await fail();
    await until(async () => (await show(first.runId)).kept === null);
    assert.deepEqual(await tracesOf(home.path, first.runId), []);
    assert.deepEqual(told(second.shown, 4), ['boot CACHED', 'customize CACHED', 'customize Failed']);
    assert.match(second.shown.error!.message, /exit code 3\b/);

    // Mended, and with a validator that complains of the finished image: what is kept then is the machine that booted from it.
    const validate = { inVMValidations: [{ type: 'Shell', name: 'complains', inline: ['exit 5'] }] };
    await putTemplate(rest, 'api', { ...failing, customize: shells([GOOD, MENDED, LAST]), validate });
    const third = await fail();
    await until(async () => (await show(second.runId)).kept === null);
    const cached = ['boot CACHED', 'customize CACHED', 'customize Succeeded', 'customize Succeeded'];
    assert.deepEqual(told(third.shown, 5), cached);
    assert.match(third.shown.error!.message, /exit code 5\b/);
    // The build user is a new one there.
    assert.equal(await enter(third.command, 'ls', 'sudo -n id -u'), '0\n');

    await ok(rest, 'DELETE', `${id}?${VERSION}`);
    await until(async () => (await rest.send('GET', `${id}?${VERSION}`)).status === 404);
    await until(async () => (await tracesOf(home.path, third.runId, third.slots)).length === 0);
  } finally {
    await end(server, 'SIGTERM');
  }
  assert.deepEqual(await leftovers(home.path), []);
});

describe('in the container machine', { skip: process.getuid?.() !== 0 && 'mounting disks takes root' }, () => {
  const template = () => writeTemplate(directory.path, 'container', { steps: [GOOD, BAD] });
  const args = (path: string) => [
    ...['--home', home.path, 'build', path, '--catalogue', guest.catalogue, '--machine', 'container'],
  ];

  test('the deadline ends what is kept, and the command that printed how to get in', async () => {
    const running = start([...args(await template()), '--on-error', 'keep', '--keep-for', '10s'], env);
    const [, runId = ''] = await running.until(/^run ([0-9a-f-]{36})$/m);
    const [, command = ''] = await running.until(/The machine is kept until .* In another terminal:\n {2}(.+)\n/);
    assert.equal(await enter(command, 'cat steps', 'ls half'), 'one\nhalf\n');
    const { exitCode, stderr } = await running.ended;
    assert.equal(exitCode, 4, stderr);
    assert.match(stderr, /The time for which the machine was to be kept is over/);
    assert.deepEqual(await tracesOf(home.path, runId), []);
  });

  test('a server keeps as many as it is told, and ends them with itself', async () => {
    const options = ['--revise', '--machine', 'container'];
    const errorHandling = { onCustomizerError: 'abort' };
    const ended = async (atMost: string) => {
      const server = await serve(home.path, { KILN_CACHE: guest.cache }, [...options, '--keep', atMost]);
      try {
        await layGround(server.rest);
        const id = await putTemplate(server.rest, 'limit', { errorHandling, customize: shells([BAD]) });
        const runId = await beginRun(server.rest, id);
        await until(async () => (await lastRun(server.rest, id)).runState !== 'Running');
        return { log: await logOf(server.rest, id, runId), shown: await show(runId) };
      } finally {
        await end(server, 'SIGTERM');
      }
    };
    const one = await ended('1');
    assert.ok(one.shown.kept, one.log);
    assert.deepEqual(await leftovers(home.path), []);
    const none = await ended('0');
    assert.equal(none.shown.kept, null);
    assert.match(none.log, /The machine is not kept: this server keeps none/);
    assert.deepEqual(await leftovers(home.path), []);
  });

  for (const answer of ['keep', 'clean'] as const)
    test(`who sits at a terminal is asked: ${answer}`, async () => {
      const command = [process.execPath, join(ROOT, 'src/cli/main.ts'), ...args(await template())].join(' ');
      // script(1) gives the command a terminal, and us its two ends.
      const terminal = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
        env: { ...process.env, NO_COLOR: '1', ...env },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const closed = once(terminal, 'close');
      let printed = '';
      const seen = async (pattern: RegExp) => {
        for (;;) {
          const match = pattern.exec(printed);
          if (match) return match;
          const [chunk] = await Promise.race([once(terminal.stdout, 'data'), closed]);
          assert.ok(Buffer.isBuffer(chunk), printed);
          printed += chunk.toString('utf8').replaceAll('\r', '');
        }
      };
      const [, way = ''] = await seen(/customize .*step 2.* failed:[\s\S]*In another terminal:\n {2}(.+)\n[\s\S]*\? $/);
      assert.equal(await enter(way, 'ls half'), 'half\n');
      // What is no answer is asked again.
      terminal.stdin.write('what\n');
      await seen(/\? [\s\S]*\[c\]lean up, or \[k\]eep .*\? $/);
      terminal.stdin.write(`${answer}\n`);
      if (answer === 'keep') {
        await seen(/Enter or Ctrl-C here, or `kiln runs drop/);
        assert.equal(await enter(way, 'ls half'), 'half\n');
        terminal.stdin.write('\n');
      }
      terminal.stdout.on('data', chunk => {
        printed += chunk;
      });
      await closed;
      assert.equal(terminal.exitCode, 4, printed);
      assert.deepEqual(await leftovers(home.path), []);
    });
});
