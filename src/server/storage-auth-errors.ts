/** What the blob service says to those whom it does not let in, or not that far. */
import { BlobError } from './blob-errors.ts';

/** With a sentence on what did not fit; the string to sign in it is the caller's own request again, not a secret. */
export class AuthenticationError extends BlobError {
  readonly detail: string;

  constructor(detail: string) {
    super(
      403,
      'AuthenticationFailed',
      'Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.',
    );
    this.detail = detail;
  }
}

const refusal = (code: string, what: string) => () =>
  new BlobError(403, code, `This request is not authorized to perform this operation using this ${what}.`);

export const permissionMismatch = refusal('AuthorizationPermissionMismatch', 'permission');
export const resourceTypeMismatch = refusal('AuthorizationResourceTypeMismatch', 'resource type');
export const serviceMismatch = refusal('AuthorizationServiceMismatch', 'service');
export const protocolMismatch = refusal('AuthorizationProtocolMismatch', 'protocol');

export const sourceAddressMismatch = (address: string): BlobError =>
  new BlobError(
    403,
    'AuthorizationSourceIPMismatch',
    `This request is not authorized to perform this operation using this source IP ${address}.`,
  );

export const keysNotPermitted = (): BlobError =>
  new BlobError(
    403,
    'KeyBasedAuthenticationNotPermitted',
    'Key based authentication is not permitted on this storage account.',
  );

export const publicAccessNotPermitted = (): BlobError =>
  new BlobError(409, 'PublicAccessNotPermitted', 'Public access is not permitted on this storage account.');

export const noAuthentication = (): BlobError =>
  new BlobError(
    401,
    'NoAuthenticationInformation',
    'Server failed to authenticate the request. Please refer to the information in the www-authenticate header.',
  );
