import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENTRIES } from '../entries.ts';
import { guestFiles, guestPackages } from './guest-files.ts';

const identity = { root: '11111111-2222-3333-4444-555555555555', esp: 'ABCD-EF01' };

test('a release has what makes its root as large as the disk, in whatever package that is', () => {
  assert.ok(Object.hasOwn(guestFiles(identity), 'etc/repart.d/50-root.conf'));
  // systemd itself brought it in Debian 12; naming a package that is not there fails a bootstrap.
  assert.ok(!guestPackages('bookworm').includes('systemd-repart'));
  assert.ok(guestPackages('trixie').includes('systemd-repart'));
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
    const packages = guestPackages(origin.kind === 'bootstrap' ? origin.release : '');
    for (const needed of ['systemd-sysv', 'linux-image-cloud-amd64', 'openssh-server', 'sudo', 'cloud-init', 'waagent'])
      assert.ok(packages.includes(needed), needed);
    assert.equal(new Set(packages).size, packages.length);
  }
});
