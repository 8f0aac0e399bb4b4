import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { Duplex, PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecOptions } from '../machine.ts';
import { ConnectionLost } from './command-channel.ts';
import { START_COMMANDS } from './commands-attendant.ts';
import { CommandsPort } from './commands-port.ts';

const LAST_OUTPUT_MS = 150;
const never = new AbortController().signal;

/** The guest's end as the guest gets it; only the device is another: a socket on descriptor 3. */
async function attended(t: TestContext): Promise<{ port: CommandsPort; child: ChildProcess; stream: Duplex }> {
  const text = /setsid -f perl -e '([^']*)'/.exec(START_COMMANDS)![1]!;
  const here = text.replace(
    /^my \$device[\s\S]*?or exit 1;\n([\s\S]*?)^open\(my \$port.*$/m,
    'open(my $port, "+<&=3");',
  );
  assert.notEqual(here, text);
  const env = { PATH: process.env.PATH, HOME: '/tmp', SHELL: '/bin/bash', SHLVL: '3', MARKED: 'yes' };
  const child = spawn('perl', ['-e', here], { stdio: ['ignore', 'ignore', 'inherit', 'pipe'], env });
  const stream = (child.stdio as unknown as Duplex[])[3]!.on('error', () => {});
  t.after(() => {
    child.kill('SIGKILL');
    stream.destroy();
  });
  const port = new CommandsPort(stream, LAST_OUTPUT_MS);
  assert.equal(await port.greet(never), true);
  return { port, child, stream };
}

async function said(port: CommandsPort, command: string, options: ExecOptions = {}) {
  const [stdout, stderr]: Buffer[][] = [[], []];
  const output = (chunk: Buffer, stream: string) => (stream === 'stdout' ? stdout : stderr)!.push(chunk);
  const result = await port.exec(command, { ...options, output });
  return { ...result, stdout: Buffer.concat(stdout!).toString(), stderr: Buffer.concat(stderr!).toString() };
}

test('commands run one after the other, each with its input, both streams and its status', async t => {
  const { port } = await attended(t);
  assert.deepEqual(await said(port, 'cat; echo err >&2; exit 3', { stdin: 'in\n' }), {
    ...{ exitCode: 3, stdout: 'in\n', stderr: 'err\n' },
  });
  assert.deepEqual(await said(port, 'cat'), { exitCode: 0, stdout: '', stderr: '' });
  assert.deepEqual(await said(port, 'kill -TERM $$'), { exitCode: null, signal: 'TERM', stdout: '', stderr: '' });
  assert.equal((await said(port, "printf 'größer \\n\\n'")).stdout, 'größer \n\n');
});

test('a command has the session’s environment and its home, as sshd would have it', async t => {
  const { port } = await attended(t);
  assert.equal((await said(port, 'echo $MARKED $SHLVL $0; pwd')).stdout, 'yes 1 bash\n/tmp\n');
  // Opened anew by their names, as `tee /dev/stderr` does.
  assert.equal((await said(port, 'echo x > /dev/stderr; trap')).stderr, 'x\n');
  const signals = await said(port, 'grep SigIgn /proc/self/status');
  assert.match(signals.stdout, /^SigIgn:\s0+\n$/);
});

test('all bytes go both ways, more than a pipe holds', async t => {
  const { port } = await attended(t);
  const bytes = Buffer.from(Array.from({ length: 900_000 }, (_, index) => index % 251));
  const echoed: Buffer[] = [];
  await port.exec('cat', { stdin: bytes, output: chunk => echoed.push(chunk) });
  assert.ok(Buffer.concat(echoed).equals(bytes));
  // One that does not read it.
  assert.equal((await said(port, 'exit 4', { stdin: bytes })).exitCode, 4);
  assert.equal((await said(port, 'echo ok')).stdout, 'ok\n');
});

test('what a command leaves running is not waited for, nor heard later', async t => {
  const { port } = await attended(t);
  const left = await said(port, '{ sleep 2; echo late; } & echo early');
  assert.deepEqual([left.exitCode, left.stdout], [0, 'early\n']);
  assert.match(left.stderr, /left running/);
  assert.deepEqual(await said(port, 'sleep 2.2; echo mine'), { exitCode: 0, stdout: 'mine\n', stderr: '' });
});

test('a command that is given up is killed with its children', async t => {
  const { port } = await attended(t);
  const marker = `3${process.pid % 10_000}.5`;
  const reason = new Error('enough');
  const controller = new AbortController();
  const going = port.exec(`sleep ${marker} & sleep ${marker}`, { signal: controller.signal });
  await sleep(200);
  controller.abort(reason);
  await assert.rejects(going, error => error === reason);
  assert.equal((await said(port, `sleep 0.2; pgrep -f 'sleep ${marker.replace('.', '[.]')}'`)).stdout, '');
});

test('whoever greets it anew is not told what went on before', async t => {
  const { port, stream } = await attended(t);
  void port.exec('while echo -n old; do sleep 0.05; done').catch(() => {});
  await sleep(150);
  stream.removeAllListeners('data');
  const next = new CommandsPort(stream, LAST_OUTPUT_MS);
  assert.equal(await next.greet(never), true);
  assert.equal((await said(next, 'sleep 0.2; echo new')).stdout, 'new\n');
});

test('a process that has gone is told, and takes nothing more', async t => {
  const { port, child } = await attended(t);
  const going = port.exec('sleep 5');
  child.kill('SIGKILL');
  // As QEMU tells of it.
  port.lost();
  await assert.rejects(going, ConnectionLost);
  assert.equal(port.takes(undefined), false);
});

test('one that takes streams, long input or a second command there is not', async t => {
  const { port } = await attended(t);
  assert.equal(port.takes('x'), true);
  assert.equal(port.takes(new PassThrough()), false);
  assert.equal(port.takes(Buffer.alloc(2 ** 20 + 1)), false);
  const going = port.exec('sleep 0.1');
  assert.equal(port.takes('x'), false);
  await assert.rejects(port.exec('true'), { code: 'InternalError' });
  await going;
  assert.equal(port.takes('x'), true);
});

test('nobody answers, or nonsense: not waited for, not believed', async () => {
  const silent = new CommandsPort(new PassThrough({ write: (_chunk, _encoding, done) => done() }), 20, 20);
  assert.equal(await silent.greet(never), false);
  await assert.rejects(silent.greet(AbortSignal.abort()), { name: 'AbortError' });
  // What is sent comes back: the greeting is answered, and then a frame of four gigabytes.
  const from = new PassThrough();
  const echo = new CommandsPort(
    Duplex.from({ readable: from, writable: new PassThrough().on('data', x => from.write(x)) }),
    20,
  );
  assert.equal(await echo.greet(never), true);
  const going = echo.exec('true');
  from.write(Buffer.alloc(64, 0xff));
  await assert.rejects(going, ConnectionLost);
  assert.equal(echo.takes(undefined), false);
});
