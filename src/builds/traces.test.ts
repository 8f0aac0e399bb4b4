import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { GENERALIZING_DOCUMENT, renderGeneralizing } from './generalizing-document.ts';
import { EMPTIED, REMOVED, TOLD, TRACES } from './traces.ts';

/** `virt-sysprep --list-operations` of 1.48; those with a star are its default. */
const OPERATIONS = `
abrt-data* backup-files* bash-history* blkid-tab* ca-certificates crash-data* cron-spool* customize* dhcp-client-state* dhcp-server-state* dovecot-data*
firewall-rules flag-reconfiguration fs-uuids ipa-client* kerberos-data kerberos-hostkeytab* logfiles* lvm-uuids* machine-id* mail-spool* net-hostname*
net-hwaddr* net-nmconn* pacct-log* package-manager-cache* pam-data* passwd-backups* puppet-data-log* rh-subscription-manager* rhn-systemid* rpm-db*
samba-db-log* script* smolt-uuid* ssh-hostkeys* ssh-userdir* sssd-db-log* tmp-files* udev-persistent-net* user-account utmp* yum-uuid*`;

test('every operation of virt-sysprep is decided, and every decision does something', () => {
  const named = TRACES.filter(trace => trace.operation !== undefined);
  assert.deepEqual(
    named.map(({ operation, optional }) => `${operation}${optional ? '' : '*'}`),
    OPERATIONS.trim().split(/\s+/),
  );
  for (const trace of TRACES)
    assert.ok(trace.removed ?? trace.emptied ?? trace.kept ?? trace.told ?? trace.otherwise, JSON.stringify(trace));
});

test('patterns are absolute, need no quotes, and never name a whole directory of the system', () => {
  for (const pattern of [...REMOVED, ...EMPTIED, ...TOLD]) {
    assert.match(pattern, /^(\/[A-Za-z0-9_.*+-]+){2,}\/?$/, pattern);
    assert.doesNotMatch(
      pattern,
      /^\/(etc|var|root|home|usr|tmp|boot)\/\*$|^\/var\/(lib|log|cache|spool)\/\*|\.\./,
      pattern,
    );
  }
  for (const pattern of [...EMPTIED, ...TOLD]) assert.ok(!pattern.includes('*'), pattern);
});

test('docs/generalizing.md agrees with the table (else: node src/builds/generalizing-document.ts)', () => {
  assert.equal(readFileSync(GENERALIZING_DOCUMENT, 'utf8'), renderGeneralizing());
});
