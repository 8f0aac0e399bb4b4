/** Leases over HTTP, of blobs and of containers. */
import { leaseBlob } from '../blobs/blobs.ts';
import { leaseContainer } from '../blobs/containers.ts';
import { acquire, breakLease, change, release, renew } from '../blobs/leases.ts';
import type { Lease } from '../database/schema.ts';
import { changed } from './blob-headers.ts';
import {
  addressOf,
  type BlobAnswer,
  type BlobRequest,
  conditionsOf,
  guidHeader,
  header,
  invalidHeader,
  numberHeader,
  requireHeader,
} from './blob-request.ts';
import { requireUsers } from './blob-writing.ts';
import { requireAllowed } from './storage-auth.ts';

interface Decided {
  readonly status: number;
  readonly lease: Lease | null;
  readonly headers: Readonly<Record<string, string | number>>;
}

export async function lease(request: BlobRequest): Promise<BlobAnswer> {
  const { level, container, blob, grant, store } = request;
  const on = level === 'blob' ? ({ level, container: container!, blob: blob! } as const) : undefined;
  await requireAllowed(grant, 'write', on ?? { level: 'container', container: container! });
  if (on) await requireUsers(request);
  const decide = decisionOf(request);
  const { leaseId: _own, ...conditions } = conditionsOf(request);
  const address = addressOf(request);
  const { row, decided } = on
    ? await leaseBlob(store, address, conditions, decide).then(done => ({ row: done.blob, decided: done.decided }))
    : await leaseContainer(store.database, address, conditions, decide).then(done => ({
        row: done.container,
        decided: done.decided,
      }));
  return { status: decided.status, headers: { ...changed(row), ...decided.headers } };
}

/** Errors: MissingRequiredHeader, InvalidHeaderValue. */
function decisionOf(request: BlobRequest): (lease: Lease | null) => Decided {
  const action = requireHeader(request, 'x-ms-lease-action').toLowerCase();
  const shown = (status: number, lease: Lease): Decided => ({ status, lease, headers: { 'x-ms-lease-id': lease.id } });
  const own = () => {
    requireHeader(request, 'x-ms-lease-id');
    return guidHeader(request, 'x-ms-lease-id')!;
  };
  const proposedId = guidHeader(request, 'x-ms-proposed-lease-id');
  switch (action) {
    case 'acquire': {
      const given = header(request, 'x-ms-lease-duration');
      const seconds = given === undefined ? -1 : Number(given);
      if (seconds !== -1 && !(Number.isInteger(seconds) && seconds >= 15 && seconds <= 60))
        throw invalidHeader('x-ms-lease-duration');
      return found => shown(201, acquire(found, { seconds, proposedId }, new Date()));
    }
    case 'renew': {
      const id = own();
      return found => shown(200, renew(found, id, new Date()));
    }
    case 'change': {
      const id = own();
      if (proposedId === undefined) requireHeader(request, 'x-ms-proposed-lease-id');
      return found => shown(200, change(found, id, proposedId!, new Date()));
    }
    case 'release': {
      const id = own();
      return found => ({ status: 200, lease: release(found, id), headers: {} });
    }
    case 'break': {
      const period = numberHeader(request, 'x-ms-lease-break-period');
      if (period !== undefined && period > 60) throw invalidHeader('x-ms-lease-break-period');
      return found => {
        const { lease: broken, secondsLeft } = breakLease(found, period, new Date());
        return { status: 202, lease: broken, headers: { 'x-ms-lease-time': secondsLeft } };
      };
    }
    default:
      throw invalidHeader('x-ms-lease-action');
  }
}
