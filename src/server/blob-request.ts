/** A request of the blob service, read: what it names, its conditions, metadata and body. All of it is untrusted. */
import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { BlobError, blobRefusal } from '../blobs/blob-error.ts';
import type { BlobConditions } from '../blobs/conditions.ts';
import type { Metadata } from '../blobs/containers.ts';
import type { Span } from '../blobs/extents.ts';
import type { WrittenFile } from '../blobs/files.ts';
import type { BlobAddress } from '../blobs/rows.ts';
import type { BlobStore } from '../blobs/store.ts';
import type { BlobHeaders } from '../database/schema.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import type { StorageAccount } from '../providers/storage/find-account.ts';
import { patiently } from './body-patience.ts';
import type { BlobGrant, StorageAuthOptions } from './storage-auth.ts';

export type BlobLevel = 'service' | 'container' | 'blob';

export interface BlobPath {
  readonly account: string;
  readonly container?: string;
  readonly blob?: string;
  readonly query: URLSearchParams;
}

export interface BlobRequest extends BlobPath {
  readonly method: string;
  readonly level: BlobLevel;
  readonly raw: FastifyRequest;
  readonly owner: StorageAccount;
  readonly grant: BlobGrant;
  readonly store: BlobStore;
  readonly environment: Pick<ProviderEnvironment, 'database' | 'home'>;
  readonly options: StorageAuthOptions;
  /** How long the server waits for a body that does not come along (ms). */
  readonly patience: number;
}

export interface BlobAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | number | undefined>>;
  readonly xml?: string;
  readonly stream?: Readable;
  readonly bytes?: Buffer;
}

/** Of a path-style target: `/account/container/blob/with/slashes?query`. undefined: it cannot be decoded. */
export function blobPath(url: string): BlobPath | undefined {
  const target = url.replace(/^https?:\/\/[^/?]*/i, '').replace(/^\/+/, '/');
  const mark = target.indexOf('?');
  const path = mark === -1 ? target : target.slice(0, mark);
  const query = new URLSearchParams(mark === -1 ? '' : target.slice(mark + 1));
  const [, account = '', container = '', ...rest] = path.split('/');
  try {
    const blob = decodeURIComponent(rest.join('/'));
    const name = decodeURIComponent(container);
    // Without a container's mark, one segment is a blob of the root container.
    if (name !== '' && blob === '' && query.get('restype') !== 'container')
      return { account: account.toLowerCase(), container: '$root', blob: name, query };
    return {
      account: account.toLowerCase(),
      ...(name !== '' && { container: name }),
      ...(blob !== '' && { blob }),
      query,
    };
  } catch {
    return undefined;
  }
}

export const levelOf = ({ container, blob }: BlobPath): BlobLevel =>
  blob !== undefined ? 'blob' : container !== undefined ? 'container' : 'service';

export const addressOf = ({ account, container, blob }: BlobPath): BlobAddress => ({
  account,
  container: container!,
  blob: blob ?? '',
});

export function header({ raw }: Pick<BlobRequest, 'raw'>, name: string): string | undefined {
  const value = raw.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export const invalidHeader = (name: string): BlobError =>
  new BlobError(
    400,
    'InvalidHeaderValue',
    `The value for one of the HTTP headers is not in the correct format: ${name}.`,
  );

/** A whole number that is not negative. Errors: InvalidHeaderValue. */
export function numberHeader(request: Pick<BlobRequest, 'raw'>, name: string): number | undefined {
  const text = header(request, name);
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw invalidHeader(name);
  return Number(text);
}

export function requireHeader(request: Pick<BlobRequest, 'raw'>, name: string): string {
  const value = header(request, name);
  if (value === undefined)
    throw new BlobError(
      400,
      'MissingRequiredHeader',
      `An HTTP header that's mandatory for this request is not specified: ${name}.`,
    );
  return value;
}

const GUID = /^\{?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?$/i;

/** Errors: InvalidHeaderValue. */
export function guidHeader(request: Pick<BlobRequest, 'raw'>, name: string): string | undefined {
  const value = header(request, name);
  if (value !== undefined && !GUID.test(value)) throw invalidHeader(name);
  return value?.replace(/[{}]/g, '');
}

/** `prefix`: `x-ms-source-` for the conditions on what is copied. Errors: InvalidHeaderValue. */
export function conditionsOf(request: Pick<BlobRequest, 'raw'>, prefix = ''): BlobConditions {
  const time = (name: string) => {
    const text = header(request, `${prefix}${name}`);
    const at = text === undefined ? undefined : new Date(text);
    if (at && Number.isNaN(at.getTime())) throw invalidHeader(`${prefix}${name}`);
    return at;
  };
  const ifMatch = header(request, `${prefix}if-match`);
  const ifNoneMatch = header(request, `${prefix}if-none-match`);
  const ifModifiedSince = time('if-modified-since');
  const ifUnmodifiedSince = time('if-unmodified-since');
  const leaseId = prefix === '' ? guidHeader(request, 'x-ms-lease-id') : undefined;
  return {
    ...(ifMatch !== undefined && { ifMatch }),
    ...(ifNoneMatch !== undefined && { ifNoneMatch }),
    ...(ifModifiedSince && { ifModifiedSince }),
    ...(ifUnmodifiedSince && { ifUnmodifiedSince }),
    ...(leaseId !== undefined && { leaseId }),
  };
}

const METADATA = /^x-ms-meta-(.*)$/i;
const MOST_METADATA = 8 * 1024;

/** In the case that they came in. Errors: InvalidMetadata, MetadataTooLarge. */
export function metadataOf({ raw }: Pick<BlobRequest, 'raw'>): Metadata {
  const { rawHeaders } = raw.raw;
  const found = new Map<string, readonly [name: string, value: string]>();
  let size = 0;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = METADATA.exec(rawHeaders[index]!)?.[1];
    if (name === undefined) continue;
    const value = rawHeaders[index + 1]!.trim();
    if (!/^[a-z_][a-z0-9_]*$/i.test(name) || found.has(name.toLowerCase()))
      throw new BlobError(
        400,
        'InvalidMetadata',
        'The metadata specified is invalid. It has characters that are not permitted.',
      );
    size += name.length + value.length;
    found.set(name.toLowerCase(), [name, value]);
  }
  if (size > MOST_METADATA)
    throw new BlobError(
      400,
      'MetadataTooLarge',
      'The size of the specified metadata exceeds the maximum size permitted.',
    );
  return Object.fromEntries(found.values());
}

/** `x-ms-tags`, a query string. Errors: InvalidTags. */
export function tagsOf(request: Pick<BlobRequest, 'raw'>): Metadata {
  return checkTags([...new URLSearchParams(header(request, 'x-ms-tags') ?? '')]);
}

/** Errors: InvalidTags. */
export function checkTags(tags: readonly (readonly [name: string, value: string])[]): Metadata {
  const fits = (text: string) => /^[\w +\-./:=]*$/.test(text);
  if (
    tags.length > 10 ||
    new Set(tags.map(([name]) => name)).size < tags.length ||
    tags.some(([name, value]) => !name || name.length > 128 || value.length > 256 || !fits(name) || !fits(value))
  )
    throw new BlobError(400, 'InvalidTags', 'The tags specified are invalid.');
  return Object.fromEntries(tags);
}

/** What `x-ms-blob-…` says. Errors: InvalidMd5. */
export function blobHeadersOf(request: Pick<BlobRequest, 'raw'>): BlobHeaders {
  const given = (name: string) => header(request, `x-ms-blob-${name}`);
  const headers = {
    contentType: given('content-type'),
    contentEncoding: given('content-encoding'),
    contentLanguage: given('content-language'),
    contentDisposition: given('content-disposition'),
    cacheControl: given('cache-control'),
    contentMd5: given('content-md5'),
  };
  if (headers.contentMd5 !== undefined) requireDigest(headers.contentMd5, 16, 'InvalidMd5');
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
}

/** `bytes=0-511`, or `bytes=512-`. undefined: there is none that can be read. */
export function rangeOf(
  request: Pick<BlobRequest, 'raw'>,
  names: readonly string[] = ['x-ms-range', 'range'],
): Span | undefined {
  const text = names.map(name => header(request, name)).find(value => value !== undefined);
  const match = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(text?.trim() ?? '');
  if (!match) return undefined;
  const start = Number(match[1]);
  const end = match[2] === '' ? Number.MAX_SAFE_INTEGER : Number(match[2]) + 1;
  return end > start ? { start, end } : undefined;
}

function requireDigest(text: string, length: number, code: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== length || bytes.toString('base64') !== text)
    throw new BlobError(400, code, `The value of a checksum is not ${length} bytes in Base64.`);
  return bytes;
}

export interface ReceiveOptions {
  /** The largest body (bytes). */
  readonly limit: number;
  /** A digest that is checked besides Content-MD5, in Base64. */
  readonly md5?: string | undefined;
}

/** The length of the body, before it is read. Errors: MissingContentLengthHeader, RequestBodyTooLarge, and those of checksums that cannot be right. */
export function bodyLength(request: BlobRequest, limit: number): number {
  const length = numberHeader(request, 'content-length');
  if (length === undefined) throw blobRefusal('MissingContentLengthHeader');
  if (length > limit) throw blobRefusal('RequestBodyTooLarge', undefined, { 'x-ms-max-body-size': String(limit) });
  if (header(request, 'x-ms-structured-body') !== undefined)
    throw new BlobError(400, 'UnsupportedHeader', 'Structured bodies (x-ms-structured-body) are not supported.');
  return length;
}

/** Writes the body into a file of the store as it arrives. Errors: those of bodyLength, Md5Mismatch, Crc64Mismatch, RequestTimeout; of the disk. */
export async function receive(request: BlobRequest, { limit, md5: also }: ReceiveOptions): Promise<WrittenFile> {
  const length = bodyLength(request, limit);
  const [md5, crc64] = [header(request, 'content-md5'), header(request, 'x-ms-content-crc64')];
  const digests = [md5, also].filter(text => text !== undefined).map(text => requireDigest(text, 16, 'InvalidMd5'));
  const checksum = crc64 === undefined ? undefined : requireDigest(crc64, 8, 'InvalidHeaderValue');
  const body = patiently(request.raw.raw, request.patience);
  const written = await request.store.files.write(body, { crc64: checksum !== undefined });
  try {
    if (written.size !== length)
      throw new BlobError(400, 'IncompleteBody', 'The body is not as long as Content-Length says.');
    if (digests.some(digest => !digest.equals(written.md5))) throw blobRefusal('Md5Mismatch');
    if (checksum && !checksum.equals(written.crc64!)) throw blobRefusal('Crc64Mismatch');
    return written;
  } catch (error) {
    await request.store.files.discard([written.file]);
    throw error;
  }
}

/** A small body as text. Errors: RequestBodyTooLarge, Md5Mismatch, RequestTimeout. */
export async function textBody(request: BlobRequest, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of patiently(request.raw.raw, request.patience)) {
    size += chunk.byteLength;
    if (size > limit) throw blobRefusal('RequestBodyTooLarge', undefined, { connection: 'close' });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
