/** What a request names as the source of a copy: a blob of this server's own accounts, which the caller has to be allowed to read. */
import type { FastifyRequest } from 'fastify';
import { blobRefusal } from '../blobs/blob-error.ts';
import { checkWrite } from '../blobs/conditions.ts';
import type { WrittenFile } from '../blobs/files.ts';
import { bytesOf } from '../blobs/reading.ts';
import { findAccount } from '../providers/storage/find-account.ts';
import { pathStyle } from './account-hosts.ts';
import { BlobError } from './blob-errors.ts';
import type { ShownBlob } from './blob-list.ts';
import { openAny } from './blob-reading.ts';
import { type BlobRequest, blobPath, conditionsOf, header, levelOf, requireHeader } from './blob-request.ts';
import { byteRange } from './byte-range.ts';
import { authorizeBlobRequest, requireAllowed } from './storage-auth.ts';

/**
 * The request that would read the source. In the same account the caller's own rights count, as if it read the blob itself; else, or with a signature or a token for
 * the source, those. Errors: CannotVerifyCopySource; those of who may read it.
 */
export async function sourceOf(request: BlobRequest): Promise<BlobRequest> {
  const text = requireHeader(request, 'x-ms-copy-source');
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:') || url.username !== '')
    throw new BlobError(
      400,
      'InvalidHeaderValue',
      'The value for one of the HTTP headers is not in the correct format: x-ms-copy-source.',
    );
  const origin = request.options.origin();
  if (!isOwnHost(url, new URL(origin), request.raw.headers.host))
    throw cannotVerify('Only blobs of this server’s own accounts are copied. Download the source, and upload it.');
  const target = `${url.pathname}${url.search}`;
  const styled = pathStyle({ url: target, headers: { host: url.host } }, origin);
  const path = blobPath(styled);
  if (!path || levelOf(path) !== 'blob') throw cannotVerify('The source names no blob.');
  const owner = await findAccount(request.environment.database, path.account);
  const authorization = header(request, 'x-ms-copy-source-authorization');
  const isOwn = owner?.id === request.owner.id && authorization === undefined && !path.query.has('sig');
  const { raw } = request;
  const grant = isOwn
    ? request.grant
    : await authorizeBlobRequest(
        {
          method: 'GET',
          headers: { ...(authorization !== undefined && { authorization }) },
          originalUrl: target,
          url: styled,
          ip: raw.ip,
          raw: raw.raw,
        } as FastifyRequest,
        owner,
        request.options,
      ).catch(error => {
        throw error instanceof BlobError && error.status === 401
          ? new BlobError(error.status, 'NoAuthenticationInformation', `The source: ${error.message}`)
          : error;
      });
  const { container, blob } = path;
  await requireAllowed(grant, 'read', { level: 'blob', container: container!, blob: blob! });
  return { ...request, ...path, method: 'GET', level: 'blob', owner: owner!, grant };
}

const cannotVerify = (message: string): BlobError => new BlobError(400, 'CannotVerifyCopySource', message);

/** The server by any of its names, or an account by its own. */
function isOwnHost(url: URL, origin: URL, called: string | undefined): boolean {
  const strip = (host: string) => host.toLowerCase().replace(/^[a-z0-9]{3,24}\.blob\.(core\.)?/, '');
  const port = origin.port === '' ? '' : `:${origin.port}`;
  const own = [origin.host, `localhost${port}`, `127.0.0.1${port}`, ...(called === undefined ? [] : [called])];
  return own.map(strip).includes(strip(url.host));
}

/** Errors: ConditionNotMet. */
export function checkSource(request: BlobRequest, blob: ShownBlob): void {
  const { ifNoneMatch, ...conditions } = conditionsOf(request, 'x-ms-source-');
  checkWrite({ ...conditions, ...(ifNoneMatch !== undefined && ifNoneMatch !== '*' && { ifNoneMatch }) }, blob);
}

/** The range of the source that the request names, as a new file. Errors: those of sourceOf, RequestBodyTooLarge, InvalidRange, Md5Mismatch. */
export async function receiveFromUrl(request: BlobRequest, limit: number): Promise<WrittenFile> {
  const source = await sourceOf(request);
  const opened = await openAny(source, blob => {
    checkSource(request, blob);
    const range = byteRange(header(request, 'x-ms-source-range'), blob.size);
    if (range === 'unsatisfiable') throw blobRefusal('InvalidRange');
    const span = range ? { start: range.start, end: range.end + 1 } : { start: 0, end: blob.size };
    if (span.end - span.start > limit) throw blobRefusal('RequestBodyTooLarge');
    return span;
  });
  try {
    const written = await request.store.files.write(bytesOf(opened.pieces));
    const md5 = header(request, 'x-ms-source-content-md5');
    if (md5 === undefined || md5 === written.md5.toString('base64')) return written;
    await request.store.files.discard([written.file]);
    throw blobRefusal('Md5Mismatch');
  } finally {
    opened.release();
  }
}
