/** Headers of answers that show a blob or a container. */
import type { BlobContainerRow, Lease } from '../database/schema.ts';
import { leaseElements, type ShownBlob } from './blob-list.ts';

type Headers = Record<string, string | number | undefined>;

/** What every change answers with. */
export const changed = (row: { readonly etag: string; readonly modified_at: Date }): Headers => ({
  etag: `"${row.etag}"`,
  'last-modified': row.modified_at.toUTCString(),
});

export const ENCRYPTED = Object.freeze({ 'x-ms-request-server-encrypted': 'true' });

export const metadataHeaders = (metadata: Readonly<Record<string, string>>): Headers =>
  Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`x-ms-meta-${name}`, value]));

function leaseHeaders(lease: Lease | null): Headers {
  const { LeaseStatus, LeaseState, LeaseDuration } = leaseElements(lease);
  return {
    'x-ms-lease-status': LeaseStatus,
    'x-ms-lease-state': LeaseState,
    'x-ms-lease-duration': LeaseDuration,
  };
}

export const containerHeaders = (container: BlobContainerRow): Headers => ({
  ...changed(container),
  ...metadataHeaders(container.metadata),
  ...leaseHeaders(container.lease),
  'x-ms-blob-public-access': container.public_access ?? undefined,
  'x-ms-has-immutability-policy': 'false',
  'x-ms-has-legal-hold': 'false',
  'x-ms-default-encryption-scope': '$account-encryption-key',
  'x-ms-deny-encryption-scope-override': 'false',
});

/** Without Content-Length, which is what an answer has of it. */
export function blobHeaders(blob: ShownBlob): Headers {
  const { headers, copy, type, tier } = blob;
  return {
    ...changed(blob),
    ...metadataHeaders(blob.metadata),
    ...leaseHeaders(blob.lease),
    'content-type': headers.contentType ?? 'application/octet-stream',
    'content-encoding': headers.contentEncoding,
    'content-language': headers.contentLanguage,
    'content-disposition': headers.contentDisposition,
    'cache-control': headers.cacheControl,
    'content-md5': headers.contentMd5,
    'accept-ranges': 'bytes',
    'x-ms-blob-type': type,
    'x-ms-creation-time': blob.created_at.toUTCString(),
    'x-ms-server-encrypted': 'true',
    'x-ms-tag-count': Object.keys(blob.tags).length || undefined,
    ...(type === 'PageBlob' && { 'x-ms-blob-sequence-number': blob.sequence_number }),
    ...(type === 'BlockBlob' && {
      'x-ms-access-tier': tier ?? 'Hot',
      'x-ms-access-tier-inferred': tier === null ? 'true' : undefined,
    }),
    ...(copy && {
      'x-ms-copy-id': copy.id,
      'x-ms-copy-source': copy.source,
      'x-ms-copy-status': 'success',
      'x-ms-copy-progress': `${blob.size}/${blob.size}`,
      'x-ms-copy-completion-time': new Date(copy.completedAt).toUTCString(),
    }),
  };
}
