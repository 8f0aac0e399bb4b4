/** What the blob service refuses, in its own codes. */

export class BlobError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** Code, status and the sentence that the real service says with it. */
const KNOWN = {
  ContainerNotFound: [404, 'The specified container does not exist.'],
  ContainerAlreadyExists: [409, 'The specified container already exists.'],
  BlobNotFound: [404, 'The specified blob does not exist.'],
  BlobAlreadyExists: [409, 'The specified blob already exists.'],
  InvalidBlobType: [409, 'The blob type is invalid for this operation.'],
  InvalidBlockList: [400, 'The specified block list is invalid.'],
  InvalidBlockId: [400, 'The specified block ID is invalid. The block ID must be Base64-encoded.'],
  InvalidBlobOrBlock: [400, 'The specified blob or block content is invalid.'],
  BlockCountExceedsLimit: [409, 'The committed block count cannot exceed the maximum limit of 50,000 blocks.'],
  InvalidRange: [416, 'The range specified is invalid for the current size of the resource.'],
  InvalidPageRange: [416, 'The page range specified is invalid.'],
  ConditionNotMet: [412, 'The condition specified using HTTP conditional header(s) is not met.'],
  SequenceNumberConditionNotMet: [412, 'The sequence number condition specified was not met.'],
  AppendPositionConditionNotMet: [412, 'The append position condition specified was not met.'],
  MaxBlobSizeConditionNotMet: [412, 'The max blob size condition specified was not met.'],
  Md5Mismatch: [
    400,
    'The MD5 value specified in the request did not match with the MD5 value calculated by the server.',
  ],
  Crc64Mismatch: [
    400,
    'The CRC64 value specified in the request did not match with the CRC64 value calculated by the server.',
  ],
  RequestBodyTooLarge: [413, 'The request body is too large and exceeds the maximum permissible limit.'],
  MissingContentLengthHeader: [411, 'The content length header was not specified.'],
  InvalidResourceName: [400, 'The specified resource name contains invalid characters.'],
  OutOfRangeInput: [400, 'One of the request inputs is out of range.'],
  BlobImmutableDueToPolicy: [409, 'This operation is not permitted as the blob is immutable due to a policy.'],
  LeaseIdMissing: [412, 'There is currently a lease on the resource and no lease ID was specified in the request.'],
  LeaseIdMismatchWithBlobOperation: [412, 'The lease ID specified did not match the lease ID for the blob.'],
  LeaseIdMismatchWithContainerOperation: [412, 'The lease ID specified did not match the lease ID for the container.'],
  LeaseNotPresentWithBlobOperation: [412, 'There is currently no lease on the blob.'],
  LeaseNotPresentWithContainerOperation: [412, 'There is currently no lease on the container.'],
  LeaseAlreadyPresent: [409, 'There is already a lease present.'],
  LeaseNotPresentWithLeaseOperation: [409, 'There is currently no lease on the resource.'],
  LeaseIdMismatchWithLeaseOperation: [409, 'The lease ID specified did not match the lease ID for the resource.'],
  LeaseIsBreakingAndCannotBeAcquired: [
    409,
    'The lease ID matched, but the lease is currently in breaking state and cannot be acquired until it is broken.',
  ],
  LeaseIsBreakingAndCannotBeChanged: [
    409,
    'The lease ID matched, but the lease is currently in breaking state and cannot be changed.',
  ],
  LeaseIsBrokenAndCannotBeRenewed: [
    409,
    'The lease ID matched, but the lease has been broken explicitly and cannot be renewed.',
  ],
} as const satisfies Readonly<Record<string, readonly [number, string]>>;

export type BlobErrorCode = keyof typeof KNOWN;

/** An error of the service with its usual status and words, or words that say more. */
export function blobRefusal(
  code: BlobErrorCode,
  message?: string,
  headers?: Readonly<Record<string, string>>,
): BlobError {
  const [status, usual] = KNOWN[code];
  return new BlobError(status, code, message ?? usual, headers);
}
