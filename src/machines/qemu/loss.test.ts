import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { shellQuoted } from '../upload.ts';
import { lostByEvent, lostProcess, printable } from './loss.ts';
import { confined } from './process.ts';
import { cloudInitComplaints } from './settle.ts';

test('a killed machine is told by what killed it', () => {
  const killed = { code: null, signal: 'SIGKILL' } as const;
  assert.match(lostProcess(killed, '', 1).message, /out of memory/);
  assert.match(lostProcess(killed, '', 0).message, /ended by SIGKILL/);
  assert.match(lostProcess({ code: 0, signal: null }, '', 0).message, /powered itself off/);
  const failed = lostProcess({ code: 1, signal: null }, 'qemu: cannot set up guest memory', 0);
  assert.equal(failed.code, 'MachineLost');
  assert.match(failed.message, /exit code 1\. QEMU said: qemu: cannot set up guest memory/);
});

test('a full disk is told as such', () => {
  const event = {
    event: 'BLOCK_IO_ERROR',
    data: { operation: 'write', nospace: true, reason: 'No space left on device' },
  };
  assert.equal(lostByEvent(event, false)?.code, 'DiskFull');
  assert.equal(lostProcess({ code: 1, signal: null }, 'x: No space left on device', 0).code, 'DiskFull');
  const memory = lostProcess({ code: null, signal: 'SIGBUS' }, '', 0);
  assert.equal(memory.code, 'DiskFull');
  assert.match(memory.hint!, /\/dev\/shm/);
});

test('a restart is allowed while booting only', () => {
  const event = { event: 'RESET', data: { guest: true } };
  assert.equal(lostByEvent(event, false), undefined);
  assert.equal(lostByEvent(event, true)?.code, 'GuestStopped');
  assert.equal(lostByEvent({ event: 'RTC_CHANGE' }, true), undefined);
});

test('what a guest prints becomes plain lines, whatever it is', () => {
  assert.equal(printable('\x1b[0;32m  OK  \x1b[0m] Started\r\n\r\n\x07login: '), '  OK  ] Started\nlogin: ');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      assert.doesNotMatch(printable(text), /[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
    }),
  );
});

test('only errors of cloud-init are passed on, and nothing else that a guest writes', () => {
  assert.deepEqual(cloudInitComplaints('{"v1": {"datasource": "x", "errors": []}}'), []);
  assert.deepEqual(cloudInitComplaints('{"v1": {"errors": ["no network"]}}'), [
    'cloud-init in the guest reports: no network',
  ]);
  const [hostile] = cloudInitComplaints(JSON.stringify({ v1: { errors: ['a\r\nb\u2028\x1b[2Jc\x07'] } }));
  assert.equal(hostile, 'cloud-init in the guest reports: a b c');
  for (const odd of ['', 'null', '[]', '{"v1": 3}', '{"v1": {"errors": "many"}}'])
    assert.deepEqual(cloudInitComplaints(odd), []);
});

test('a quoted word is one word', () => {
  assert.equal(shellQuoted("it's $HOME"), "'it'\\''s $HOME'");
});

test('QEMU is confined as far as the host can', () => {
  assert.deepEqual(confined({ namespace: 'kiln-3', uid: 61187 }, { setpriv: true }, ['qemu']), [
    ...['ip', 'netns', 'exec', 'kiln-3', 'setpriv', '--reuid', '61187', '--regid', '61187', '--clear-groups'],
    ...['--no-new-privs', '--pdeathsig', 'KILL', 'qemu'],
  ]);
  assert.deepEqual(confined({ uid: 61184, kvmGroup: 104 }, { setpriv: true }, ['qemu']).slice(5, 7), [
    '--groups',
    '104',
  ]);
  assert.deepEqual(confined({}, { setpriv: true }, ['qemu']), [
    'setpriv',
    '--no-new-privs',
    '--pdeathsig',
    'KILL',
    'qemu',
  ]);
  assert.deepEqual(confined({}, { setpriv: false }, ['qemu']), ['qemu']);
});
