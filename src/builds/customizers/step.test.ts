import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redactor } from '../redact.ts';
import { inlineScript } from './shell.ts';
import { describe, stepFailed, tail } from './step.ts';

const place = { role: 'customize' as const, number: 2, count: 5, type: 'Shell', name: 'install' };

test('a failed step names itself, the exit code and the last lines', () => {
  const error = stepFailed(place, 3, ['one', 'two']);
  assert.equal(error.code, 'StepFailed');
  assert.equal(error.message, 'Step 2/5 Shell "install" failed with exit code 3. Last lines:\n    one\n    two');
  assert.equal(error.target, 'properties.customize[1]');
  const validator = stepFailed({ ...place, role: 'validate' }, 'KILL', []);
  assert.equal(validator.message, 'Validator 2/5 Shell "install" failed with signal KILL. It printed nothing.');
  assert.equal(validator.target, 'properties.validate.inVMValidations[1]');
});

test('what usually helps is said for the usual failures', () => {
  const hint = (status: number | string, text: string) => stepFailed(place, status, text.split('\n')).hint ?? '';
  assert.match(hint(100, 'E: Unable to locate package nginx'), /apt-get update/);
  assert.match(hint(1, 'Do you want to continue? [Y/n] Abort.'), /-y/);
  assert.match(hint(1, 'Total download size: 1.6 M\nIs this ok [y/N]: Operation aborted.'), /-y to dnf/);
  assert.match(hint(1, 'Continue? [y/n/v/...? shows all options] (y): '), /zypper/);
  assert.match(hint(1, 'Error: There are no enabled repositories in "/etc/yum.repos.d".'), /register/);
  for (const locked of [
    'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)',
    "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)",
    'System management is locked by the application with pid 7 (zypper).',
  ])
    assert.match(hint(1, locked), /lock: wait/, locked);
  assert.match(hint(1, 'mkdir: cannot create directory: Permission denied'), /sudo/);
  assert.match(hint(127, 'foo: not found'), /not found/);
  assert.match(hint('KILL', ''), /memory/);
  assert.equal(hint(1, 'my own message'), '');
  const inContainer = (text: string) => stepFailed(place, 1, [text], 'container').hint ?? '';
  for (const text of [
    "System has not been booted with systemd as init system (PID 1). Can't operate.",
    'modprobe: FATAL: Module loop not found in directory /lib/modules/6.1',
    'sysctl: permission denied on key "vm.swappiness"',
    'sh: 1: cannot create /proc/sys/net/ipv4/ip_forward: Read-only file system',
  ])
    assert.match(inContainer(text), /--machine vm/, text);
  assert.doesNotMatch(inContainer('mkdir: cannot create directory: Permission denied'), /container/);
});

test('the tail of a flood is short, and its last lines are right', () => {
  const last = tail(redactor([]), 3);
  for (let n = 0; n < 10_000; n++) last.push(Buffer.from(`line ${n}\n`));
  last.push(Buffer.from('end'));
  assert.deepEqual(last.lines(), ['line 9998', 'line 9999', 'end']);
});

test('the tail has no secret, nor the end of one that its window has cut', () => {
  const secret = 'hunter2-hunter2-hunter2';
  for (let before = 0; before < 60; before++) {
    const last = tail(redactor([secret]));
    last.push(Buffer.from(`${'x'.repeat(before)}${secret} ${'y'.repeat(16 * 1024)}\n`));
    last.push(Buffer.from(`and ${secret.slice(0, 5)}`));
    last.push(Buffer.from(`\x1b[31m${secret.slice(5)}\x1b[0m at the end`));
    const text = last.lines().join('\n');
    assert.doesNotMatch(text, /hunter2/);
    assert.match(text, /and <sensitive> at the end$/);
  }
});

test('inline lines become one script that stops at the first failure', () => {
  assert.equal(inlineScript(['a', 'b']), '#!/bin/sh -e\na\nb\n');
  assert.equal(describe({ ...place, name: '' }), '2/5 Shell');
});
