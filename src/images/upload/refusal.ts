/** What a storage service says no with, as an error for people: host, status, the service's code, and what to do about it. Never the signature. */
import { KilnError } from '../../arm/errors.ts';

/** A code as services write them: `AuthorizationPermissionMismatch`. */
export const STORAGE_CODE = /^[A-Za-z0-9]{1,64}$/;

const MAY_WRITE =
  'The signature must be for this blob or its container, be valid now and for as long as the build takes, and may create and write (sp=cw, better rcw); an identity needs the role Storage Blob Data Contributor.';

const HINTS: Readonly<Record<string, string>> = Object.freeze({
  AuthenticationFailed: MAY_WRITE,
  AuthorizationFailure: 'The network rules of the storage account do not let this host in.',
  AuthorizationPermissionMismatch: MAY_WRITE,
  AuthorizationResourceTypeMismatch: 'An account signature must be for objects (srt=o).',
  AuthorizationSourceIPMismatch: 'The signature is for other addresses (sip).',
  AuthorizationProtocolMismatch: 'The signature is for https alone.',
  BlobImmutableDueToPolicy: 'What is there must not be changed; name another blob.',
  ContainerNotFound: 'Make the container first.',
  KeyBasedAuthenticationNotPermitted: 'The account takes no signatures that are made with its keys.',
  LeaseIdMissing: 'Somebody holds a lease on the blob, such as a machine whose disk it is; name another one.',
  NoAuthenticationInformation: MAY_WRITE,
  ResourceNotFound: 'There is no such storage account.',
});

interface Refused {
  /** The blob, without signature. */
  readonly name: string;
  /** `writing pages` */
  readonly what: string;
  readonly status: number;
  /** Empty where the service names none. */
  readonly code: string;
}

export function refusal({ name, what, status, code }: Refused): KilnError {
  const answer = code === '' ? String(status) : `${status} ${code}`;
  const hint = HINTS[code];
  return new KilnError('UploadFailed', `${name}: ${what} was refused: the server answered ${answer}.`, {
    target: name,
    ...(hint !== undefined && { hint }),
  });
}
