import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { Duplex, PassThrough } from 'node:stream';
import { test } from 'node:test';
import { RenewalPort, START_ATTENDANT } from './renewal-port.ts';

/** A port whose other end answers each script with these pieces; `MARK` in them stands for the script's. */
function port(...pieces: string[]): { port: RenewalPort; heard: string[] } {
  const heard: string[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const [, mark, size, script] = /^(\S+) (\d+)\n([\s\S]*)$/.exec(String(chunk))!;
      assert.equal(Buffer.byteLength(script!), Number(size));
      heard.push(script!);
      for (const piece of pieces) this.push(piece.replaceAll('MARK', mark!));
      done();
    },
  });
  return { port: new RenewalPort(stream, 20), heard };
}

const never = new AbortController().signal;

test('a script goes in behind its mark and size, its status comes out, in whatever pieces', async () => {
  const { port: good, heard } = port('\n', 'MARK', ' ', '0', '\n');
  await good.run("echo 'größer'\nexit 0", never);
  assert.deepEqual(heard, ["echo 'größer'\nexit 0"]);
});

test('a script that fails is told with its last words, made printable', async () => {
  const { port: bad } = port('no \x1b[31mkeys\nhere\nMARK 7\n');
  await assert.rejects(bad.run('x', never), { code: 'GuestUnreachable', message: /ended with 7: no keys here$/ });
});

test('what a script says is handed on as it comes, and nothing of the mark is', async () => {
  for (const [pieces, all] of [
    [['one\n', 'two', '\n\nMARK 3\n'], 'one\ntwo\n'],
    [['no end of line', '\nMA', 'RK 3\n'.slice(0, 0), '\nMARK 3\n'], 'no end of line\nMA'],
    [['\n\n\n', '\nMARK', ' 3', '\nof the next'], '\n\n\n'],
    [['\n0123456789abcdef 3\n', '\nMARK 3\n'], '\n0123456789abcdef 3\n'],
  ] as const) {
    let said = '';
    const heard = await port(...pieces).port.ask('x', never, chunk => {
      said += chunk.toString();
    });
    assert.deepEqual([heard, said], [3, all]);
  }
});

test('a line that is whole is handed on before the script has ended', async () => {
  const { port: talking } = port('half a li', 'ne\nand more');
  let said = '';
  const end = new AbortController();
  const asked = talking.ask('x', end.signal, chunk => {
    said += chunk.toString();
  });
  while (said !== 'half a line\nand more') await new Promise(setImmediate);
  end.abort();
  await assert.rejects(asked, { name: 'AbortError' });
});

test('a guest that floods the port is listened to, and nothing of it is kept but the last words', async () => {
  const { port: flooding } = port('x'.repeat(1_000_000), `\n${'9'.repeat(1_000_000)}`, '\nMARK 3\n');
  await assert.rejects(
    flooding.run('x', never),
    ({ message }: Error) => message.length < 2000 && /9{900}/.test(message),
  );
});

test('a status that is none is a failure', async () => {
  assert.equal(await port('\nMARK none\n').port.ask('x', never, () => {}), 255);
});

test('a guest that says nothing is waited for until the signal', async () => {
  const { port: silent } = port();
  await assert.rejects(silent.run('x', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  assert.equal(silent.attended, false);
});

test('what a script says too late is not taken for what the next one says, nor its end', async () => {
  const stream = new PassThrough();
  const marks: string[] = [];
  const written = new PassThrough().on('data', chunk => marks.push(String(chunk).split(' ')[0]!));
  const late = new RenewalPort(Duplex.from({ readable: stream, writable: written }));
  await assert.rejects(late.run('x', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  const next = late.run('y', never);
  while (marks.length < 2) await new Promise(setImmediate);
  stream.write(`its own\n${marks[0]} 0\nmine\n${marks[1]} 4\n`);
  await assert.rejects(next, { message: /ended with 4: mine$/ });
  assert.equal(late.attended, true);
});

test('a script that ended with the attendant that it was given to does not keep the next ones waiting', async () => {
  const stream = new PassThrough();
  const marks: string[] = [];
  const written = new PassThrough().on('data', chunk => marks.push(String(chunk).split(' ')[0]!));
  const late = new RenewalPort(Duplex.from({ readable: stream, writable: written }));
  await assert.rejects(late.run('x', AbortSignal.timeout(20)), { name: 'TimeoutError' });
  const next = late.run('y', never);
  while (marks.length < 2) await new Promise(setImmediate);
  stream.write(`\n${marks[1]} 0\n`);
  await next;
});

test('an attendant that was there is asked whether it still is, and is not waited for longer than that takes', async () => {
  const { port: there, heard } = port('\nMARK 0\n');
  assert.equal(await there.answers(never), false);
  assert.deepEqual(heard, [], 'it was never there');
  await there.ping(never);
  assert.equal(await there.answers(never), true);
  const { port: gone } = port();
  gone.attended = true;
  assert.equal(await gone.answers(never), false);
  gone.attended = true;
  await assert.rejects(gone.answers(AbortSignal.abort()), { name: 'AbortError' });
});

test('an attendant whose end of the port is closed is not waited for', async () => {
  const silent = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const closing = new RenewalPort(silent, 2 ** 31 - 1);
  closing.attended = true;
  const asked = closing.answers(never);
  closing.lost();
  assert.equal(await asked, false);
  assert.equal(await closing.answers(never), false);
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
    // More than a pipe holds, without an end of line, and a script that reads no further itself.
    const long = `exit 5\n#${'x'.repeat(300_000)}`;
    assert.equal(await working.ask(long, never, () => {}), 5);
    await working.ping(never);
    let said = '';
    await working.ask('echo 1; sleep 0.1; echo 2 >&2; printf 3', never, chunk => {
      said += chunk.toString();
    });
    assert.equal(said, '1\n2\n3');
  } finally {
    child.kill('SIGKILL');
    (child.stdio[3] as unknown as PassThrough).destroy();
  }
});
