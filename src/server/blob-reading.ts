/** Reading blobs over HTTP: their bytes, their properties, what they are made of. */
import { createHash } from 'node:crypto';
import { countBlocks } from '../blobs/append-blobs.ts';
import { blobRefusal } from '../blobs/blob-error.ts';
import { requireStored } from '../blobs/blobs.ts';
import { blockList as readBlockList } from '../blobs/block-blobs.ts';
import { checkRead } from '../blobs/conditions.ts';
import { requireContainer } from '../blobs/containers.ts';
import { Crc64 } from '../blobs/crc64.ts';
import { merged, type Span } from '../blobs/extents.ts';
import { checkLease } from '../blobs/leases.ts';
import { pageRanges as storedRanges } from '../blobs/page-blobs.ts';
import { bytesOf, type FilePiece, openBlob, streamOf } from '../blobs/reading.ts';
import { extentsOfFile } from '../disks/holes.ts';
import { type StagedBlob, stagedBlob } from '../providers/image-builder/staged-blobs.ts';
import { BlobError } from './blob-errors.ts';
import { blobHeaders, changed, metadataHeaders } from './blob-headers.ts';
import { type ShownBlob, shownStaged, tagsXml } from './blob-list.ts';
import { addressOf, type BlobAnswer, type BlobRequest, conditionsOf, header, rangeOf } from './blob-request.ts';
import { type ByteRange, byteRange } from './byte-range.ts';
import { type BlobAction, requireAllowed } from './storage-auth.ts';
import { xml } from './xml.ts';

export const allow = (request: BlobRequest, action: BlobAction): Promise<void> =>
  requireAllowed(request.grant, action, { level: 'blob', container: request.container!, blob: request.blob! });

/** What a run left under this name; users' blobs are looked for where there is none. */
export const ownBlob = (request: BlobRequest): Promise<StagedBlob | undefined> =>
  stagedBlob(request.environment, request.owner, request.container!, request.blob!);

/** A digest of a range needs all of it at once. */
const MOST_DIGESTED = 4 * 1024 * 1024;

export async function get(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  refuseVersions(request);
  let range: ByteRange | undefined;
  const choose = (blob: ShownBlob): Span => {
    checkReadable(request, blob);
    range = requireRange(request, blob.size);
    return range ? { start: range.start, end: range.end + 1 } : { start: 0, end: blob.size };
  };
  const opened = await openAny(request, choose);
  const { blob, pieces } = opened;
  const length = range ? range.end - range.start + 1 : blob.size;
  const headers: Record<string, string | number | undefined> = {
    ...blobHeaders(blob),
    ...request.grant.overrides,
    'content-length': length,
  };
  if (range) {
    headers['content-range'] = `bytes ${range.start}-${range.end}/${blob.size}`;
    // The whole blob's; this answer has a part of it.
    headers['x-ms-blob-content-md5'] = headers['content-md5'];
    headers['content-md5'] = undefined;
  }
  const status = range ? 206 : 200;
  const digest = ['md5', 'crc64'].find(
    name => header(request, `x-ms-range-get-content-${name}`)?.toLowerCase() === 'true',
  );
  if (range && digest) {
    try {
      if (length > MOST_DIGESTED) throw blobRefusal('OutOfRangeInput', 'A range with a checksum has at most 4 MiB.');
      const bytes = await collected(pieces);
      if (digest === 'md5') headers['content-md5'] = createHash('md5').update(bytes).digest('base64');
      else headers['x-ms-content-crc64'] = new Crc64().update(bytes).digest().toString('base64');
      return { status, headers, bytes };
    } finally {
      opened.release();
    }
  }
  return { status, headers, stream: streamOf(pieces, opened.release) };
}

export interface OpenAny {
  readonly blob: ShownBlob;
  readonly pieces: readonly FilePiece[];
  release(): void;
}

/** A blob of either kind and the span of it that `choose` wants. Errors: those of `choose`, ContainerNotFound, BlobNotFound. */
export async function openAny(request: BlobRequest, choose: (blob: ShownBlob) => Span): Promise<OpenAny> {
  const own = await ownBlob(request);
  if (own) {
    const blob = shownStaged(own);
    const { start, end } = choose(blob);
    const pieces = end > start ? [{ path: own.path, offset: start, length: end - start }] : [];
    return { blob, pieces, release: () => undefined };
  }
  const opened = await openBlob(request.store, addressOf(request), choose);
  if (opened) return opened;
  await requireContainer(request.store.database, addressOf(request));
  throw blobRefusal('BlobNotFound');
}

async function collected(pieces: readonly FilePiece[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of bytesOf(pieces)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** There are none, so none of a name is found. */
function refuseVersions({ query }: BlobRequest): void {
  if (query.has('snapshot') || query.has('versionid')) throw blobRefusal('BlobNotFound');
}

function checkReadable(request: BlobRequest, blob: ShownBlob): void {
  const conditions = conditionsOf(request);
  checkRead(conditions, blob);
  checkLease(blob.lease, conditions.leaseId, { of: 'Blob', write: false, now: new Date() });
}

/** `x-ms-range` wins. Errors: InvalidRange. */
function requireRange(request: BlobRequest, size: number): ByteRange | undefined {
  const range = byteRange(header(request, 'x-ms-range') ?? header(request, 'range'), size);
  if (range === 'unsatisfiable') throw blobRefusal('InvalidRange', undefined, { 'content-range': `bytes */${size}` });
  return range;
}

export async function properties(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  refuseVersions(request);
  const { blob, id } = await shown(request);
  checkReadable(request, blob);
  const blocks =
    blob.type === 'AppendBlob' && id !== undefined ? await countBlocks(request.store.database, id) : undefined;
  return {
    status: 200,
    headers: {
      ...blobHeaders(blob),
      ...request.grant.overrides,
      'content-length': blob.size,
      'x-ms-blob-committed-block-count': blocks,
    },
  };
}

async function shown(request: BlobRequest): Promise<{ readonly blob: ShownBlob; readonly id?: number }> {
  const own = await ownBlob(request);
  if (own) return { blob: shownStaged(own) };
  const blob = await requireStored(request.store, addressOf(request));
  return { blob, id: blob.id };
}

export async function metadata(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  const { blob } = await shown(request);
  checkReadable(request, blob);
  return { status: 200, headers: { ...changed(blob), ...metadataHeaders(blob.metadata) } };
}

export async function tags(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'tags');
  const { blob } = await shown(request);
  return { status: 200, xml: `<?xml version="1.0" encoding="utf-8"?>${tagsXml(blob.tags)}` };
}

export async function blockList(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  const wanted = request.query.get('blocklisttype')?.toLowerCase() ?? 'committed';
  if (!['committed', 'uncommitted', 'all'].includes(wanted))
    throw new BlobError(400, 'InvalidQueryParameterValue', 'blocklisttype is committed, uncommitted or all.');
  const own = await ownBlob(request);
  const list = own
    ? { blob: shownStaged(own), committed: [], uncommitted: [] }
    : await readBlockList(request.store, addressOf(request));
  if (list.blob?.type === 'PageBlob') throw blobRefusal('InvalidBlobType');
  const part = (name: string, blocks: readonly { readonly id: string; readonly size: number }[]) =>
    `<${name}>${blocks.map(({ id, size }) => xml`<Block><Name>${id}</Name><Size>${size}</Size></Block>`).join('')}</${name}>`;
  return {
    status: 200,
    headers: {
      ...(list.blob && { ...changed(list.blob), 'x-ms-blob-content-length': list.blob.size }),
    },
    xml: [
      '<?xml version="1.0" encoding="utf-8"?><BlockList>',
      wanted === 'uncommitted' ? '' : part('CommittedBlocks', list.committed),
      wanted === 'committed' ? '' : part('UncommittedBlocks', list.uncommitted),
      '</BlockList>',
    ].join(''),
  };
}

/** The most ranges of an answer; clients ask on with its marker. */
const MOST_RANGES = 10_000;

export async function pageRanges(request: BlobRequest): Promise<BlobAnswer> {
  await allow(request, 'read');
  refuseVersions(request);
  if (request.query.has('prevsnapshot') || header(request, 'x-ms-previous-snapshot-url') !== undefined)
    throw new BlobError(400, 'FeatureNotSupported', 'There are no snapshots to compare with.');
  const asked = rangeOf(request);
  const marker = Number(request.query.get('marker') || '0');
  const limit = Math.min(Number(request.query.get('maxresults') || MOST_RANGES), MOST_RANGES);
  if (!Number.isInteger(marker) || marker < 0 || !Number.isInteger(limit) || limit < 1)
    throw new BlobError(400, 'InvalidQueryParameterValue', 'marker or maxresults is none of this list.');
  const span: Span = { start: Math.max(asked?.start ?? 0, marker), end: asked?.end ?? Number.MAX_SAFE_INTEGER };
  const { blob, ranges } = await rangesOf(request, span);
  checkReadable(request, blob);
  if (asked && asked.start >= blob.size && blob.size > 0) throw blobRefusal('InvalidRange');
  const page = ranges.slice(0, limit);
  const next = ranges.length > limit ? String(ranges[limit]!.start) : '';
  return {
    status: 200,
    headers: { ...changed(blob), 'x-ms-blob-content-length': blob.size },
    xml: [
      '<?xml version="1.0" encoding="utf-8"?><PageList>',
      ...page.map(({ start, end }) => xml`<PageRange><Start>${start}</Start><End>${end - 1}</End></PageRange>`),
      next && xml`<NextMarker>${next}</NextMarker>`,
      '</PageList>',
    ].join(''),
  };
}

async function rangesOf(
  request: BlobRequest,
  span: Span,
): Promise<{ readonly blob: ShownBlob; readonly ranges: readonly Span[] }> {
  const own = await ownBlob(request);
  if (!own) {
    const found = await storedRanges(request.store, addressOf(request), span);
    if (found) return found;
    await requireContainer(request.store.database, addressOf(request));
    throw blobRefusal('BlobNotFound');
  }
  if (own.type !== 'PageBlob') throw blobRefusal('InvalidBlobType');
  const ranges = (await dataOf(own)).flatMap(({ start, end }) => {
    const [from, to] = [Math.max(start, span.start), Math.min(end, span.end)];
    return from < to ? [{ start: from, end: to }] : [];
  });
  return { blob: shownStaged(own), ranges };
}

/** Where a disk has data, which its file system knows; asked once for each of the last few, for whoever reads one asks often. */
async function dataOf({ path, size, etag }: StagedBlob): Promise<readonly Span[]> {
  const key = `${path} ${etag}`;
  let known = MAPS.get(key);
  if (!known) {
    known = extentsOfFile(path, size).then(found =>
      merged(found.filter(({ zero }) => !zero).map(({ start, length }) => ({ start, end: start + length }))),
    );
    known.catch(() => MAPS.delete(key));
    MAPS.set(key, known);
    if (MAPS.size > MOST_MAPS) MAPS.delete(MAPS.keys().next().value!);
  }
  return await known;
}

const MAPS = new Map<string, Promise<readonly Span[]>>();
const MOST_MAPS = 16;
