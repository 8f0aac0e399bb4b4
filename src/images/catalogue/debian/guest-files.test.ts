import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { ENTRIES } from '../entries.ts';
import { DISTRIBUTIONS } from './distributions.ts';
import { guestFiles, guestPackages } from './guest-files.ts';

const identity = { root: '11111111-2222-3333-4444-555555555555', esp: 'ABCD-EF01' };

test('a release has what makes its root as large as the disk, in whatever package that is', () => {
  assert.ok(Object.hasOwn(guestFiles(DISTRIBUTIONS.debian, identity), 'etc/repart.d/50-root.conf'));
  // systemd itself brought it in Debian 12; naming a package that is not there fails a bootstrap.
  assert.ok(!guestPackages(DISTRIBUTIONS.debian, 'bookworm').includes('systemd-repart'));
  assert.ok(guestPackages(DISTRIBUTIONS.debian, 'trixie').includes('systemd-repart'));
});

test('every bootstrapped entry of the catalogue has its packages, and is provisioned by systemd', () => {
  const made = ENTRIES.filter(({ origin }) => origin.kind === 'bootstrap');
  assert.deepEqual(
    made.map(({ offer, origin }) => [offer, origin.kind === 'bootstrap' && origin.release]),
    [
      ['debian-12', 'bookworm'],
      ['debian-13', 'trixie'],
    ],
  );
  for (const { origin, provisioning } of made) {
    assert.equal(provisioning, 'systemd-credentials');
    const packages = guestPackages(DISTRIBUTIONS.debian, origin.kind === 'bootstrap' ? origin.release : '');
    for (const needed of ['systemd-sysv', 'linux-image-cloud-amd64', 'openssh-server', 'sudo', 'cloud-init', 'waagent'])
      assert.ok(packages.includes(needed), needed);
    assert.equal(new Set(packages).size, packages.length);
  }
});

test('Ubuntu has its own names for kernel and agent, its kernels elsewhere, and a key that is the one it says', () => {
  const { ubuntu } = DISTRIBUTIONS;
  const packages = guestPackages(ubuntu, 'noble');
  for (const needed of ['linux-image-virtual', 'walinuxagent', 'grub-pc-bin', 'grub-efi-amd64-bin'])
    assert.ok(packages.includes(needed), needed);
  for (const strange of ['waagent', 'linux-image-cloud-amd64', 'grub-cloud-amd64', 'systemd-repart'])
    assert.ok(!packages.includes(strange), strange);
  assert.match(
    guestFiles(ubuntu, identity)['boot/grub/grub.cfg']!,
    /linux \/boot\/vmlinuz root=.*\n {2}initrd \/boot\/initrd\.img\n/,
  );
  // The fingerprint of an OpenPGP key of version 4 (RFC 4880, 12.2): SHA-1 of its first packet.
  const key = ubuntu.key!;
  assert.equal(key[0], 0x99);
  const packet = key.subarray(0, 3 + key.readUInt16BE(1));
  const fingerprint = createHash('sha1').update(packet).digest('hex').toUpperCase();
  assert.equal(fingerprint, 'F6ECB3762474EDA9D21B7022871920D1991BC93C');
});
