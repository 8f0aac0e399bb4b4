/** Names of containers and blobs, and those of accounts that the server itself has a use for. */
import { BlobError, blobRefusal } from './blob-error.ts';

/**
 * First segments of the server's own paths. Path-style requests have the account's name there, so no account may be called so. A tenant's GUID is there too, but has
 * hyphens.
 */
export const RESERVED_ACCOUNT_NAMES: ReadonlySet<string> = new Set([
  'adfs',
  'aliases',
  'batch',
  'beta',
  'common',
  'consumers',
  'health',
  'images',
  'imagetemplates',
  'kiln',
  'metadata',
  'metrics',
  'oauth2',
  'organizations',
  'providers',
  'status',
  'subscriptions',
  'tenants',
]);

const CONTAINER = /^(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*$/;
/** Names that the service gives itself. */
const SYSTEM_CONTAINERS: ReadonlySet<string> = new Set(['$root', '$web']);

/** Errors: InvalidResourceName, OutOfRangeInput. */
export function checkContainerName(name: string): void {
  if (SYSTEM_CONTAINERS.has(name) || CONTAINER.test(name)) return;
  if (name.length < 3 || name.length > 63)
    throw blobRefusal('OutOfRangeInput', 'The specified resource name length is not within the permissible limits.');
  throw blobRefusal('InvalidResourceName');
}

/** Errors: InvalidUri, OutOfRangeInput. */
export function checkBlobName(name: string): void {
  if (name.length > 1024)
    throw blobRefusal('OutOfRangeInput', 'The specified resource name length is not within the permissible limits.');
  if (name === '' || name.includes('\0') || !name.isWellFormed())
    throw new BlobError(400, 'InvalidUri', 'The requested URI does not represent any resource on the server.');
}

/** In the order of lists: by bytes of UTF-8, as the database compares them. */
export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
