/** Conditions of a request on the state of a blob or container (RFC 9110, 13, with the service's own ways). Pure. */
import { blobRefusal } from './blob-error.ts';

export interface BlobConditions {
  /** As the header has it: tags with or without quotes, or `*`. */
  readonly ifMatch?: string;
  readonly ifNoneMatch?: string;
  readonly ifModifiedSince?: Date;
  readonly ifUnmodifiedSince?: Date;
  /** The lease that the caller holds. */
  readonly leaseId?: string;
}

interface State {
  /** Without quotes. */
  readonly etag: string;
  readonly modified_at: Date;
}

/** Errors: ConditionNotMet, with 304 for what a reader has already. */
export function checkRead(conditions: BlobConditions, state: State): void {
  checkPresent(conditions, state);
  if (isKnown(conditions, state)) {
    const error = blobRefusal('ConditionNotMet');
    throw Object.assign(error, { status: 304 });
  }
}

/** `state`: undefined when there is nothing yet. Errors: ConditionNotMet; BlobAlreadyExists for what must not be there. */
export function checkWrite(conditions: BlobConditions, state: State | undefined): void {
  if (!state) {
    if (conditions.ifMatch !== undefined) throw blobRefusal('ConditionNotMet');
    return;
  }
  if (conditions.ifNoneMatch?.trim() === '*') throw blobRefusal('BlobAlreadyExists');
  checkPresent(conditions, state);
  if (isKnown(conditions, state)) throw blobRefusal('ConditionNotMet');
}

function checkPresent({ ifMatch, ifUnmodifiedSince }: BlobConditions, state: State): void {
  if (ifMatch !== undefined && !matches(ifMatch, state.etag)) throw blobRefusal('ConditionNotMet');
  // A tag is the better knowledge where both are given.
  if (ifMatch === undefined && ifUnmodifiedSince && seconds(state.modified_at) > seconds(ifUnmodifiedSince))
    throw blobRefusal('ConditionNotMet');
}

function isKnown({ ifNoneMatch, ifModifiedSince }: BlobConditions, state: State): boolean {
  if (ifNoneMatch !== undefined) return matches(ifNoneMatch, state.etag);
  return ifModifiedSince !== undefined && seconds(state.modified_at) <= seconds(ifModifiedSince);
}

const matches = (header: string, etag: string): boolean =>
  header.split(',').some(part => {
    const tag = part.trim();
    return tag === '*' || tag.replace(/^"(.*)"$/, '$1') === etag;
  });

/** HTTP knows no smaller part of time. */
const seconds = (time: Date): number => Math.floor(time.getTime() / 1000);
