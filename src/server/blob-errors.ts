/** Errors of the blob service: XML, with codes of their own. */
import { asKilnError, ERRORS } from '../arm/errors.ts';
import { BlobError } from '../blobs/blob-error.ts';
import { xml } from './xml.ts';

export { BlobError };

/** Sign-in and limits speak in the words of Kiln's catalogue; here are the blob service's. */
export function blobError(thrown: unknown): BlobError {
  if (thrown instanceof BlobError) return thrown;
  const error = asKilnError(thrown);
  const { status } = ERRORS[error.code];
  if (error.code === 'AuthenticationFailed')
    return new BlobError(
      401,
      'NoAuthenticationInformation',
      'Server failed to authenticate the request. Please refer to the information in the www-authenticate header.',
    );
  if (status === 401) return new BlobError(401, 'InvalidAuthenticationInfo', error.message);
  if (error.code === 'TooManyRequests') return new BlobError(503, 'ServerBusy', error.message);
  if (error.code === 'DiskFull')
    return new BlobError(507, 'InsufficientStorage', 'The disk that holds the blobs is full. Nothing was written.');
  if (status >= 500) return new BlobError(500, 'InternalError', 'Kiln itself failed; its service log says why.');
  return new BlobError(status, error.code, error.message);
}

/** `detail`: why somebody could not be authenticated. */
export function errorXml(error: BlobError & { readonly detail?: string }, requestId: string, now: Date): string {
  const { code, message, detail } = error;
  const text = `${message}\nRequestId:${requestId}\nTime:${now.toISOString()}`;
  const more = detail === undefined ? '' : xml`<AuthenticationErrorDetail>${detail}</AuthenticationErrorDetail>`;
  return `${xml`<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${text}</Message>`}${more}</Error>`;
}
