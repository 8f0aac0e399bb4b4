/** Leases of blobs and containers: who may write, for a while or until they say otherwise. Pure; what comes out is what the row is to hold. */
import { randomUUID } from 'node:crypto';
import type { Lease } from '../database/schema.ts';
import { type BlobErrorCode, blobRefusal } from './blob-error.ts';

export type LeaseState = 'available' | 'leased' | 'expired' | 'breaking' | 'broken';

export function leaseState(lease: Lease | null, now: Date): LeaseState {
  if (!lease) return 'available';
  if (lease.breaksAt !== null) return new Date(lease.breaksAt) <= now ? 'broken' : 'breaking';
  return lease.expiresAt !== null && new Date(lease.expiresAt) <= now ? 'expired' : 'leased';
}

export const isHeld = (lease: Lease | null, now: Date): boolean =>
  ['leased', 'breaking'].includes(leaseState(lease, now));

/**
 * Whether a request may go on. A write, or a container's deletion, needs the lease's id while one is held; a read only must not name a wrong one.
 * Errors: LeaseIdMissing, LeaseIdMismatch…, LeaseNotPresent….
 */
export function checkLease(
  lease: Lease | null,
  given: string | undefined,
  options: { readonly of: 'Blob' | 'Container'; readonly write: boolean; readonly now: Date },
): void {
  const { of, write, now } = options;
  if (!isHeld(lease, now)) {
    if (given !== undefined) throw blobRefusal(`LeaseNotPresentWith${of}Operation`);
    return;
  }
  if (given === undefined) {
    if (!write) return;
    throw blobRefusal(
      'LeaseIdMissing',
      `There is currently a lease on the ${of.toLowerCase()} and no lease ID was specified in the request.`,
    );
  }
  if (!sameLease(lease!, given)) throw blobRefusal(`LeaseIdMismatchWith${of}Operation`);
}

const sameLease = (lease: Lease, id: string): boolean => lease.id.toLowerCase() === id.toLowerCase();

export interface AcquireRequest {
  /** -1, or 15 to 60. */
  readonly seconds: number;
  readonly proposedId?: string | undefined;
}

/** Errors: LeaseAlreadyPresent, LeaseIsBreakingAndCannotBeAcquired. */
export function acquire(lease: Lease | null, { seconds, proposedId }: AcquireRequest, now: Date): Lease {
  const state = leaseState(lease, now);
  if (state === 'leased' || state === 'breaking') {
    if (proposedId === undefined || !sameLease(lease!, proposedId)) throw blobRefusal('LeaseAlreadyPresent');
    if (state === 'breaking') throw blobRefusal('LeaseIsBreakingAndCannotBeAcquired');
  }
  return leaseFor(proposedId ?? randomUUID(), seconds, now);
}

/** Errors: LeaseIdMismatchWithLeaseOperation, LeaseIsBrokenAndCannotBeRenewed. */
export function renew(lease: Lease | null, id: string, now: Date): Lease {
  const own = requireOwn(lease, id, 'LeaseIdMismatchWithLeaseOperation');
  if (own.breaksAt !== null) throw blobRefusal('LeaseIsBrokenAndCannotBeRenewed');
  return leaseFor(own.id, own.seconds, now);
}

/** Errors: LeaseNotPresentWithLeaseOperation, LeaseIdMismatchWithLeaseOperation, LeaseIsBreakingAndCannotBeChanged. */
export function change(lease: Lease | null, id: string, proposedId: string, now: Date): Lease {
  const state = leaseState(lease, now);
  if (!lease || state === 'available' || state === 'expired' || state === 'broken')
    throw blobRefusal('LeaseNotPresentWithLeaseOperation');
  if (!sameLease(lease, id) && !sameLease(lease, proposedId)) throw blobRefusal('LeaseIdMismatchWithLeaseOperation');
  if (state === 'breaking') throw blobRefusal('LeaseIsBreakingAndCannotBeChanged');
  return { ...lease, id: proposedId };
}

/** Errors: LeaseIdMismatchWithLeaseOperation. */
export function release(lease: Lease | null, id: string): null {
  requireOwn(lease, id, 'LeaseIdMismatchWithLeaseOperation');
  return null;
}

/** `period`: seconds until it is broken; default: what is left of it. Errors: LeaseNotPresentWithLeaseOperation. */
export function breakLease(
  lease: Lease | null,
  period: number | undefined,
  now: Date,
): { readonly lease: Lease; readonly secondsLeft: number } {
  const state = leaseState(lease, now);
  if (!lease || state === 'available') throw blobRefusal('LeaseNotPresentWithLeaseOperation');
  if (state === 'broken') return { lease, secondsLeft: 0 };
  const end = state === 'breaking' ? lease.breaksAt : lease.expiresAt;
  const left = end === null ? undefined : Math.max(0, (new Date(end).getTime() - now.getTime()) / 1000);
  // Without a period a lease without end is broken at once; a period can only make it shorter.
  const seconds = Math.min(left ?? Number.POSITIVE_INFINITY, period ?? left ?? 0);
  const breaksAt = new Date(now.getTime() + seconds * 1000).toISOString();
  return { lease: { ...lease, breaksAt }, secondsLeft: Math.ceil(seconds) };
}

/** A lease that nobody holds ends with the next write. */
export const leaseAfterWrite = (lease: Lease | null, now: Date): Lease | null => (isHeld(lease, now) ? lease : null);

function leaseFor(id: string, seconds: number, now: Date): Lease {
  const expiresAt = seconds === -1 ? null : new Date(now.getTime() + seconds * 1000).toISOString();
  return { id, seconds, expiresAt, breaksAt: null };
}

function requireOwn(lease: Lease | null, id: string, otherwise: BlobErrorCode): Lease {
  if (!lease || !sameLease(lease, id)) throw blobRefusal(otherwise);
  return lease;
}
