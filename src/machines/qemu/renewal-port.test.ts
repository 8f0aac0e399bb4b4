import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { Duplex, PassThrough } from 'node:stream';
import { test } from 'node:test';
import { RenewalPort, START_ATTENDANT } from './renewal-port.ts';

/** A port whose other end says what it is told to, in pieces. */
function port(...pieces: string[]): { port: RenewalPort; heard: string[] } {
  const heard: string[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      heard.push(Buffer.from(String(chunk).split(' ')[1]!, 'base64').toString());
      for (const piece of pieces) this.push(piece);
      done();
    },
  });
  return { port: new RenewalPort(stream), heard };
}

const never = new AbortController().signal;
const said = (text: string) => Buffer.from(text).toString('base64');

test('a script goes in as one line, its status comes out, in whatever pieces', async () => {
  const { port: good, heard } = port('1', ' 0', ' ', '\n');
  await good.run("echo 'x'\nexit 0", never);
  assert.deepEqual(heard, ["echo 'x'\nexit 0"]);
});

test('a script that fails is told with its last words, made printable', async () => {
  const { port: bad } = port(`1 7 ${said('no \x1b[31mkeys\nhere')}\n`);
  await assert.rejects(bad.run('x', never), { code: 'GuestUnreachable', message: /ended with 7: no keys here$/ });
});

test('a guest that floods the port is not listened to for ever, nor believed', async () => {
  const { port: flooding } = port('x'.repeat(1_000_000), '\n', `1 3 ${said('flood')}\n`);
  await assert.rejects(flooding.run('x', never), { code: 'GuestUnreachable' });
});

test('a guest that says nothing is waited for until the signal', async () => {
  const { port: silent } = port();
  await assert.rejects(silent.run('x', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  assert.equal(silent.attended, false);
});

test('an answer that comes too late is not taken for that of the next script', async () => {
  const stream = new PassThrough();
  const late = new RenewalPort(Duplex.from({ readable: stream, writable: new PassThrough().resume() }));
  await assert.rejects(late.run('x', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  const next = late.run('y', never);
  stream.write(`1 0 \n2 4 ${said('mine')}\n`);
  await assert.rejects(next, { message: /ended with 4: mine$/ });
  assert.equal(late.attended, true);
});

test('whoever waits for a turn behind a script that does not end is let go by its own signal', async () => {
  const { port: hanging, heard } = port();
  const first = new AbortController();
  const before = hanging.run('x', first.signal);
  await assert.rejects(hanging.run('y', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  first.abort();
  await assert.rejects(before, { name: 'AbortError' });
  assert.deepEqual(heard, ['x'], 'a script that nobody waits for any more is not run');
});

test('the process behind the port runs what it is told and answers, again and again', async () => {
  // Its text as the guest gets it; only the device is another: a socket on descriptor 3.
  const text = Buffer.from(/echo (\S+) \| base64 -d/.exec(START_ATTENDANT)![1]!, 'base64').toString();
  const here = text.replace(/^for port[\s\S]*?done\n/m, '').replace(/^exec 3<>.*$/m, '');
  assert.notEqual(here, text);
  const child = spawn('sh', ['-c', here], { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] });
  try {
    const working = new RenewalPort(child.stdio[3] as unknown as Duplex);
    await working.run('true', never);
    await working.ping(never);
    await assert.rejects(working.run('echo out; echo err >&2; exit 3', never), { message: /ended with 3: out err$/ });
    await working.run(`test "$(echo '$HOME' | cut -c1)" = '$'`, never);
  } finally {
    child.kill('SIGKILL');
    (child.stdio[3] as unknown as PassThrough).destroy();
  }
});
