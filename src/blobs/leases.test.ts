import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { acquire, breakLease, change, checkLease, leaseState, release, renew } from './leases.ts';

const AT = new Date('2026-01-01T00:00:00Z');
const after = (seconds: number) => new Date(AT.getTime() + seconds * 1000);
const code = (expected: string) => (error: unknown) => (error as { code: string }).code === expected;

test('a lease ends by itself, by its holder, or by being broken', () => {
  const lease = acquire(null, { seconds: 20 }, AT);
  assert.equal(leaseState(null, AT), 'available');
  assert.equal(leaseState(lease, after(19)), 'leased');
  assert.equal(leaseState(lease, after(20)), 'expired');
  assert.equal(release(lease, lease.id.toUpperCase()), null);
  const { lease: breaking, secondsLeft } = breakLease(lease, 60, after(5));
  assert.equal(secondsLeft, 15);
  assert.equal(leaseState(breaking, after(6)), 'breaking');
  assert.equal(leaseState(breaking, after(20)), 'broken');
  assert.equal(breakLease(breaking, 0, after(6)).secondsLeft, 0);
  const endless = acquire(null, { seconds: -1 }, AT);
  assert.equal(leaseState(endless, after(1e9)), 'leased');
  assert.equal(leaseState(breakLease(endless, undefined, AT).lease, AT), 'broken');
  assert.equal(breakLease(endless, 10, AT).secondsLeft, 10);
});

test('who may take, renew and change it', () => {
  const lease = acquire(null, { seconds: 20 }, AT);
  assert.throws(() => acquire(lease, { seconds: 20 }, AT), code('LeaseAlreadyPresent'));
  assert.throws(() => acquire(lease, { seconds: 20, proposedId: randomUUID() }, AT), code('LeaseAlreadyPresent'));
  assert.equal(acquire(lease, { seconds: -1, proposedId: lease.id }, AT).seconds, -1);
  assert.notEqual(acquire(lease, { seconds: 20 }, after(30)).id, lease.id);
  assert.equal(leaseState(renew(lease, lease.id, after(30)), after(45)), 'leased');
  assert.throws(() => renew(lease, randomUUID(), AT), code('LeaseIdMismatchWithLeaseOperation'));
  assert.throws(() => renew(null, lease.id, AT), code('LeaseIdMismatchWithLeaseOperation'));
  const { lease: broken } = breakLease(lease, 0, AT);
  assert.throws(() => renew(broken, lease.id, AT), code('LeaseIsBrokenAndCannotBeRenewed'));
  const { lease: breaking } = breakLease(lease, 10, AT);
  assert.throws(
    () => acquire(breaking, { seconds: 20, proposedId: lease.id }, AT),
    code('LeaseIsBreakingAndCannotBeAcquired'),
  );
  assert.throws(() => change(breaking, lease.id, randomUUID(), AT), code('LeaseIsBreakingAndCannotBeChanged'));
  const id = randomUUID();
  assert.equal(change(lease, lease.id, id, AT).id, id);
  assert.throws(() => change(lease, lease.id, id, after(30)), code('LeaseNotPresentWithLeaseOperation'));
  assert.throws(() => breakLease(null, 0, AT), code('LeaseNotPresentWithLeaseOperation'));
});

test('writes need the lease while it is held, reads only must not name another', () => {
  const lease = acquire(null, { seconds: 20 }, AT);
  const blob = { of: 'Blob', write: true, now: AT } as const;
  assert.throws(() => checkLease(lease, undefined, blob), code('LeaseIdMissing'));
  assert.throws(() => checkLease(lease, randomUUID(), blob), code('LeaseIdMismatchWithBlobOperation'));
  assert.throws(() => checkLease(null, randomUUID(), blob), code('LeaseNotPresentWithBlobOperation'));
  checkLease(lease, lease.id, blob);
  checkLease(lease, undefined, { ...blob, write: false });
  checkLease(lease, undefined, { ...blob, now: after(30) });
  assert.throws(
    () => checkLease(lease, randomUUID(), { of: 'Container', write: false, now: AT }),
    code('LeaseIdMismatchWithContainerOperation'),
  );
});
