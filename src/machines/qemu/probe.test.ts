import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge, probeSector } from './probe.ts';

test('the probe is a boot sector', () => {
  const sector = probeSector();
  assert.equal(sector.length, 512);
  assert.equal(sector.subarray(510).toString('hex'), '55aa');
});

test('only a probe that came to its end counts', () => {
  assert.equal(judge({ exitCode: 33, letters: 'RPLMD', complaint: '' }).works, true);
  assert.equal(judge({ exitCode: 33, letters: 'RPLM', complaint: '' }).works, false);
  assert.equal(judge({ exitCode: 0, letters: 'RPLMD', complaint: '' }).works, false);
  assert.equal(judge({ exitCode: null, letters: '', complaint: '' }).works, false);
});

test('a probe that hangs is told by its stage', () => {
  assert.match(judge({ exitCode: undefined, letters: '', complaint: '' }).reason, /before its first instruction/);
  assert.match(judge({ exitCode: undefined, letters: 'RP', complaint: '' }).reason, /64-bit/);
  assert.match(judge({ exitCode: undefined, letters: 'RPLM', complaint: '' }).reason, /interpreted/);
});

test('the first complaint of QEMU that is not a warning is the reason', () => {
  const complaint = [
    "qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]",
    'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69',
    "qemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.",
  ].join('\n');
  assert.match(judge({ exitCode: null, letters: '', complaint }).reason, /: failed to set MSR 0x10a to 0x69$/);
});
