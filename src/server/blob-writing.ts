/** Writing blobs over HTTP. */
import { type AppendConditions, appendBlock as append, createAppendBlob } from '../blobs/append-blobs.ts';
import { blobRefusal } from '../blobs/blob-error.ts';
import { deleteBlob, setBlob, setTagsOrTier } from '../blobs/blobs.ts';
import { type BlockReference, checkBlockId, commitBlocks, putBlockBlob, stageBlock } from '../blobs/block-blobs.ts';
import { type BlobContent, foresee, requireBlob } from '../blobs/changing.ts';
import type { BlobConditions } from '../blobs/conditions.ts';
import type { WrittenFile } from '../blobs/files.ts';
import {
  checkPageBlobSize,
  checkPages,
  checkSequence,
  createPageBlob,
  type PageChange,
  type PageConditions,
  putPages,
} from '../blobs/page-blobs.ts';
import { BlobError } from './blob-errors.ts';
import { changed, ENCRYPTED } from './blob-headers.ts';
import { allow, ownBlob } from './blob-reading.ts';
import {
  addressOf,
  type BlobAnswer,
  type BlobRequest,
  blobHeadersOf,
  bodyLength,
  checkTags,
  conditionsOf,
  header,
  invalidHeader,
  metadataOf,
  numberHeader,
  rangeOf,
  receive,
  requireHeader,
  tagsOf,
  textBody,
} from './blob-request.ts';
import { receiveFromUrl } from './blob-sources.ts';
import { child, childText, readXml } from './blob-xml.ts';

const MIB = 1024 * 1024;
export const LIMITS = Object.freeze({ blob: 5000 * MIB, block: 4000 * MIB, pages: 4 * MIB, append: 100 * MIB });
/** 50,000 ids of 64 bytes, with their tags. */
const BLOCK_LIST_BYTES = 8 * MIB;

/**
 * The conditions of a write: its own, and for callers who may only create, that there is nothing yet. Errors: AuthorizationPermissionMismatch,
 * BlobImmutableDueToPolicy.
 */
export async function allowWrite(request: BlobRequest): Promise<BlobConditions> {
  const conditions = conditionsOf(request);
  const { grant, container, blob } = request;
  const mayWrite = await grant.allows('write', { level: 'blob', container: container!, blob: blob! });
  if (!mayWrite) await allow(request, 'create');
  await requireUsers(request);
  return mayWrite ? conditions : { ...conditions, ifNoneMatch: '*' };
}

/** Errors: BlobImmutableDueToPolicy. */
export async function requireUsers(request: BlobRequest): Promise<void> {
  if (await ownBlob(request))
    throw blobRefusal(
      'BlobImmutableDueToPolicy',
      'This operation is not permitted: a run of an image template left the blob, and it stays as it is.',
    );
}

/** Properties of a new blob: those of the request about the blob, else those about its body. */
export function contentOf(request: BlobRequest): Omit<BlobContent, 'type' | 'size' | 'sequenceNumber'> {
  const headers = {
    contentType: header(request, 'content-type') ?? 'application/octet-stream',
    ...(header(request, 'content-encoding') && { contentEncoding: header(request, 'content-encoding')! }),
    ...(header(request, 'content-language') && { contentLanguage: header(request, 'content-language')! }),
    ...(header(request, 'cache-control') && { cacheControl: header(request, 'cache-control')! }),
    ...blobHeadersOf(request),
  };
  return { headers, ...aboutOf(request) };
}

/** What is said of a blob besides its headers. */
export const aboutOf = (request: BlobRequest) => ({
  metadata: metadataOf(request),
  tags: tagsOf(request),
  tier: tierOf(request),
});

/** Errors: InvalidHeaderValue; FeatureNotSupported for the archive, from which nothing is read. */
function tierOf(request: BlobRequest): string | undefined {
  const given = header(request, 'x-ms-access-tier');
  if (given === undefined) return undefined;
  if (/^(hot|cool|cold)$/i.test(given)) return given[0]!.toUpperCase() + given.slice(1).toLowerCase();
  // Of page blobs on premium accounts.
  if (/^P\d{1,2}$/.test(given)) return given;
  if (/^archive$/i.test(given))
    throw new BlobError(400, 'FeatureNotSupported', 'There is no archive here; choose Hot, Cool or Cold.');
  throw invalidHeader('x-ms-access-tier');
}

export async function put(request: BlobRequest): Promise<BlobAnswer> {
  const conditions = await allowWrite(request);
  const type = requireHeader(request, 'x-ms-blob-type').toLowerCase();
  const address = addressOf(request);
  const content = contentOf(request);
  const { store } = request;
  if (type === 'blockblob') {
    bodyLength(request, LIMITS.blob);
    await foresee(store.database, address, conditions);
    const written = await receive(request, { limit: LIMITS.blob, md5: content.headers.contentMd5 });
    const contentMd5 = content.headers.contentMd5 ?? written.md5.toString('base64');
    const headers = { ...content.headers, contentMd5 };
    const blob = await putBlockBlob(store, address, written, { ...content, headers }, conditions);
    return { status: 201, headers: { ...changed(blob), ...digests(written), ...ENCRYPTED } };
  }
  if (type !== 'pageblob' && type !== 'appendblob') throw invalidHeader('x-ms-blob-type');
  bodyLength(request, 0);
  if (type === 'pageblob') {
    const size = numberHeader(request, 'x-ms-blob-content-length');
    if (size === undefined) requireHeader(request, 'x-ms-blob-content-length');
    checkPageBlobSize(size!);
    const sequenceNumber = numberHeader(request, 'x-ms-blob-sequence-number') ?? 0;
    const blob = await createPageBlob(store, address, { ...content, size: size!, sequenceNumber }, conditions);
    return { status: 201, headers: { ...changed(blob), ...ENCRYPTED } };
  }
  const blob = await createAppendBlob(store, address, content, conditions);
  return { status: 201, headers: { ...changed(blob), ...ENCRYPTED } };
}

const digests = ({ md5, crc64 }: WrittenFile) => ({
  'content-md5': md5.toString('base64'),
  'x-ms-content-crc64': crc64?.toString('base64'),
});

/** Put Block, and Put Block From URL. */
export async function block(request: BlobRequest): Promise<BlobAnswer> {
  const { leaseId, ifNoneMatch } = await allowWrite(request);
  // Only the lease counts for a block; and for those who may only create, that there is no blob.
  const conditions = { ...(leaseId !== undefined && { leaseId }), ...(ifNoneMatch === '*' && { ifNoneMatch }) };
  const id = request.query.get('blockid') ?? '';
  checkBlockId(id);
  const address = addressOf(request);
  const standing = await foresee(request.store.database, address, conditions);
  if (standing.blob) requireBlob(standing, 'BlockBlob');
  const written = await receiveBody(request, LIMITS.block);
  await stageBlock(request.store, address, id, written, conditions);
  return { status: 201, headers: { ...digests(written), ...ENCRYPTED } };
}

/** From the request's own body, or from the blob that it names. */
async function receiveBody(request: BlobRequest, limit: number): Promise<WrittenFile> {
  if (header(request, 'x-ms-copy-source') === undefined) return await receive(request, { limit });
  return await receiveFromUrl(request, limit);
}

const SOURCES: Readonly<Record<string, BlockReference['from']>> = {
  Committed: 'Committed',
  Uncommitted: 'Uncommitted',
  Latest: 'Latest',
};

export async function putBlockList(request: BlobRequest): Promise<BlobAnswer> {
  const conditions = await allowWrite(request);
  const root = readXml(await textBody(request, BLOCK_LIST_BYTES));
  const invalid = () => new BlobError(400, 'InvalidXmlDocument', 'XML specified is not syntactically valid.');
  if (root.name !== 'BlockList') throw invalid();
  const list = root.children.map(({ name, text }) => {
    const from = SOURCES[name];
    if (!from) throw invalid();
    checkBlockId(text);
    return { id: text, from };
  });
  // The body's own type is not the blob's.
  const headers = { contentType: 'application/octet-stream', ...blobHeadersOf(request) };
  const blob = await commitBlocks(
    request.store,
    addressOf(request),
    list,
    { ...aboutOf(request), headers },
    conditions,
  );
  return { status: 201, headers: { ...changed(blob), ...ENCRYPTED } };
}

/** Put Page, and Put Page From URL. */
export async function pages(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'write');
  await requireUsers(request);
  const conditions = pageConditions(request);
  const range = rangeOf(request);
  if (!range) throw blobRefusal('InvalidPageRange');
  checkPages(range);
  const address = addressOf(request);
  const action = requireHeader(request, 'x-ms-page-write').toLowerCase();
  const { store } = request;
  if (action === 'clear') {
    bodyLength(request, 0);
    const blob = await putPages(store, address, range, 'clear', conditions);
    return { status: 201, headers: { ...changed(blob), 'x-ms-blob-sequence-number': blob.sequence_number } };
  }
  if (action !== 'update') throw invalidHeader('x-ms-page-write');
  const length = range.end - range.start;
  const isCopy = header(request, 'x-ms-copy-source') !== undefined;
  if (length > LIMITS.pages || (!isCopy && bodyLength(request, LIMITS.pages) !== length))
    throw blobRefusal('InvalidPageRange');
  const standing = await foresee(store.database, address, conditions);
  const found = requireBlob(standing, 'PageBlob');
  checkSequence(found, conditions);
  if (range.end > found.size) throw blobRefusal('InvalidPageRange');
  const written = await receiveBody(request, LIMITS.pages);
  if (written.size !== length) {
    await store.files.discard([written.file]);
    throw blobRefusal('InvalidPageRange');
  }
  const blob = await putPages(store, address, range, written, conditions);
  return {
    status: 201,
    headers: { ...changed(blob), ...digests(written), ...ENCRYPTED, 'x-ms-blob-sequence-number': blob.sequence_number },
  };
}

function pageConditions(request: BlobRequest): PageConditions {
  const given = {
    sequenceAtMost: numberHeader(request, 'x-ms-if-sequence-number-le'),
    sequenceBelow: numberHeader(request, 'x-ms-if-sequence-number-lt'),
    sequenceEquals: numberHeader(request, 'x-ms-if-sequence-number-eq'),
  };
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...conditionsOf(request), ...Object.fromEntries(set) };
}

export async function appendBlock(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'add');
  await requireUsers(request);
  const position = numberHeader(request, 'x-ms-blob-condition-appendpos');
  const maxSize = numberHeader(request, 'x-ms-blob-condition-maxsize');
  const conditions: AppendConditions = {
    ...conditionsOf(request),
    ...(position !== undefined && { position }),
    ...(maxSize !== undefined && { maxSize }),
  };
  const address = addressOf(request);
  requireBlob(await foresee(request.store.database, address, conditions), 'AppendBlob');
  const written = await receiveBody(request, LIMITS.append);
  const { blob, offset, blocks } = await append(request.store, address, written, conditions);
  return {
    status: 201,
    headers: {
      ...changed(blob),
      ...digests(written),
      ...ENCRYPTED,
      'x-ms-blob-append-offset': offset,
      'x-ms-blob-committed-block-count': blocks,
    },
  };
}

export async function setProperties(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'write');
  await requireUsers(request);
  const headers = blobHeadersOf(request);
  const size = numberHeader(request, 'x-ms-blob-content-length');
  const sequence = sequenceOf(request);
  const pages: PageChange = { ...(size !== undefined && { size }), ...(sequence && { sequence }) };
  const isPages = size !== undefined || sequence !== undefined;
  // A change of the pages alone leaves the headers as they are.
  const set = { ...(isPages && { pages }), ...((!isPages || Object.keys(headers).length > 0) && { headers }) };
  const blob = await setBlob(request.store, addressOf(request), set, conditionsOf(request));
  return {
    status: 200,
    headers: {
      ...changed(blob),
      'x-ms-blob-sequence-number': blob.type === 'PageBlob' ? blob.sequence_number : undefined,
    },
  };
}

/** Errors: InvalidHeaderValue. */
function sequenceOf(request: BlobRequest): PageChange['sequence'] {
  const action = header(request, 'x-ms-sequence-number-action')?.toLowerCase();
  const number = numberHeader(request, 'x-ms-blob-sequence-number');
  if (action === undefined) return undefined;
  if (action === 'increment' && number === undefined) return { action };
  if ((action === 'max' || action === 'update') && number !== undefined) return { action, number };
  throw invalidHeader('x-ms-sequence-number-action');
}

export async function setMetadata(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'write');
  await requireUsers(request);
  const set = { metadata: metadataOf(request) };
  const blob = await setBlob(request.store, addressOf(request), set, conditionsOf(request));
  return { status: 200, headers: { ...changed(blob), ...ENCRYPTED } };
}

export async function setTags(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'tags');
  await requireUsers(request);
  const root = readXml(await textBody(request, 64 * 1024));
  const set = root.name === 'Tags' ? child(root, 'TagSet') : undefined;
  if (!set) throw new BlobError(400, 'InvalidXmlDocument', 'XML specified is not syntactically valid.');
  const tags = checkTags(set.children.map(tag => [childText(tag, 'Key') ?? '', childText(tag, 'Value') ?? '']));
  await setTagsOrTier(request.store, addressOf(request), { tags }, conditionsOf(request));
  return { status: 204 };
}

export async function setTier(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'write');
  await requireUsers(request);
  requireHeader(request, 'x-ms-access-tier');
  await setTagsOrTier(request.store, addressOf(request), { tier: tierOf(request)! }, conditionsOf(request));
  return { status: 200 };
}

export async function remove(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'delete');
  if (request.query.has('snapshot') || request.query.has('versionid')) throw blobRefusal('BlobNotFound');
  await requireUsers(request);
  // There are no snapshots, so none are left when only they are to go.
  if (header(request, 'x-ms-delete-snapshots')?.toLowerCase() !== 'only')
    await deleteBlob(request.store, addressOf(request), conditionsOf(request));
  else
    await foresee(request.store.database, addressOf(request), conditionsOf(request)).then(found => requireBlob(found));
  return { status: 202, headers: { 'x-ms-delete-type-permanent': 'true' } };
}
