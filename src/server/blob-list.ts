/** Lists of containers and blobs: which ones a page has, and its XML. */

import { listRows } from '../blobs/blobs.ts';
import { leaseState } from '../blobs/leases.ts';
import { compareNames } from '../blobs/names.ts';
import type { BlobStore } from '../blobs/store.ts';
import type { BlobContainerRow, BlobRow, Lease } from '../database/schema.ts';
import type { StagedBlob } from '../providers/image-builder/staged-blobs.ts';
import { BlobError } from './blob-errors.ts';
import { xml } from './xml.ts';

/** What lists and properties show, of users' blobs and of Kiln's own. */
export type ShownBlob = Omit<BlobRow, 'id' | 'container_id'>;

export interface ListQuery {
  readonly prefix: string;
  /** Names are shown up to it, as folders; empty for none. */
  readonly delimiter: string;
  /** The last name, or folder, of the page before; empty for the first. */
  readonly marker: string;
  readonly maxResults: number;
  readonly include: ReadonlySet<string>;
}

export interface BlobPage {
  readonly blobs: readonly ShownBlob[];
  readonly folders: readonly string[];
  /** Empty: this was the last. */
  readonly nextMarker: string;
}

const MOST = 5000;

/** Errors: OutOfRangeQueryParameterValue. */
export function listQuery(query: URLSearchParams): ListQuery {
  const given = query.get('maxresults');
  const maxResults = given === null || given === '' ? MOST : Number(given);
  if (!Number.isInteger(maxResults) || maxResults < 1)
    throw new BlobError(
      400,
      'OutOfRangeQueryParameterValue',
      'One of the query parameters specified in the request URI is outside the permissible range.',
    );
  return {
    prefix: clean(query.get('prefix')),
    delimiter: clean(query.get('delimiter')),
    marker: clean(nameOfMarker(query.get('marker') ?? '')),
    maxResults: Math.min(maxResults, MOST),
    include: new Set((query.get('include') ?? '').toLowerCase().split(',')),
  };
}

/** Where a list goes on, as clients hand it back: XML could not hold every name. */
const markerOf = (name: string): string => (name === '' ? '' : `n!${Buffer.from(name).toString('base64url')}`);

/** A bare name will do as well. */
const nameOfMarker = (marker: string): string =>
  /^n![\w-]+$/.test(marker) ? Buffer.from(marker.slice(2), 'base64url').toString() : marker;

/** No name has a NUL, and the database takes none. */
function clean(text: string | null): string {
  if (text?.includes('\0') || text?.isWellFormed() === false)
    throw new BlobError(400, 'InvalidQueryParameterValue', 'A query parameter has characters that no name can have.');
  return text ?? '';
}

/** Names in order, from a place on. */
export type BlobSource = (from: string, exclusive: boolean) => AsyncIterable<ShownBlob>;

/** Nothing sorts after it: what begins with a folder's name comes before `folder + LAST`. */
const LAST = '\u{10ffff}';

/** Read only as far as the page goes; a folder is passed over in one step. */
export async function listBlobs(source: BlobSource, query: ListQuery): Promise<BlobPage> {
  const { prefix, delimiter, marker, maxResults } = query;
  const blobs: ShownBlob[] = [];
  const folders: string[] = [];
  // A blob that is called as the prefix is no folder.
  const isFolder = delimiter !== '' && marker.endsWith(delimiter) && marker.includes(delimiter, prefix.length);
  let from = isFolder ? `${marker}${LAST}` : marker;
  let last = '';
  for (let more = true; more; ) {
    more = false;
    for await (const blob of source(from, true)) {
      if (!blob.name.startsWith(prefix)) {
        if (compareNames(blob.name, prefix) < 0) continue;
        break;
      }
      if (blobs.length + folders.length === maxResults) return { blobs, folders, nextMarker: last };
      const end = delimiter === '' ? -1 : blob.name.indexOf(delimiter, prefix.length);
      if (end === -1) {
        last = blob.name;
        blobs.push(blob);
        continue;
      }
      last = blob.name.slice(0, end + delimiter.length);
      folders.push(last);
      from = `${last}${LAST}`;
      more = true;
      break;
    }
  }
  return { blobs, folders, nextMarker: '' };
}

const BATCH = 1000;

/** Rows of a container, and the blobs of runs among them, which come first where both have a name. */
export function blobSource(
  store: Pick<BlobStore, 'database'>,
  container: BlobContainerRow,
  staged: (from: string) => AsyncIterable<StagedBlob>,
  query: Pick<ListQuery, 'prefix' | 'maxResults'>,
): BlobSource {
  const limit = Math.min(BATCH, query.maxResults + 1);
  async function* rows(first: string, exclusive: boolean): AsyncGenerator<ShownBlob> {
    for (let from = first, after = exclusive; ; after = true) {
      const found = await listRows(store.database, container.id, {
        prefix: query.prefix,
        from,
        exclusive: after,
        limit,
      });
      yield* found;
      if (found.length < limit) return;
      from = found.at(-1)!.name;
    }
  }
  return async function* merged(from, exclusive) {
    const ours = stagedFrom(staged(from), from, exclusive);
    const theirs = rows(from, exclusive);
    let [own, row] = await Promise.all([ours.next(), theirs.next()]);
    while (!own.done || !row.done) {
      const order = own.done ? 1 : row.done ? -1 : compareNames(own.value.name, row.value.name);
      yield (order <= 0 ? own.value : row.value) as ShownBlob;
      if (order >= 0) row = await theirs.next();
      if (order <= 0) own = await ours.next();
    }
  };
}

async function* stagedFrom(
  all: AsyncIterable<StagedBlob>,
  from: string,
  exclusive: boolean,
): AsyncGenerator<ShownBlob> {
  for await (const blob of all) {
    const order = from === '' ? 1 : compareNames(blob.name, from);
    if (order > 0 || (order === 0 && !exclusive)) yield shownStaged(blob);
  }
}

/** A blob of Kiln's own as users' blobs are shown. */
export function shownStaged(blob: StagedBlob): ShownBlob {
  return {
    name: blob.name,
    type: blob.type,
    size: blob.size,
    etag: blob.etag,
    headers: { contentType: blob.contentType },
    metadata: {},
    tags: {},
    sequence_number: 0,
    tier: null,
    lease: null,
    copy: null,
    created_at: blob.created,
    modified_at: blob.modified,
  };
}

const HEAD = '<?xml version="1.0" encoding="utf-8"?>';

export function listXml(page: BlobPage, query: ListQuery, endpoint: string, container: string): string {
  return [
    HEAD,
    xml`<EnumerationResults ServiceEndpoint="${endpoint}" ContainerName="${container}">`,
    ...queryXml(query),
    query.delimiter && xml`<Delimiter>${query.delimiter}</Delimiter>`,
    '<Blobs>',
    ...page.folders.map(folder => `<BlobPrefix>${nameXml(folder)}</BlobPrefix>`),
    ...page.blobs.map(blob => blobXml(blob, query.include)),
    '</Blobs>',
    xml`<NextMarker>${markerOf(page.nextMarker)}</NextMarker></EnumerationResults>`,
  ].join('');
}

export function containersXml(
  containers: readonly BlobContainerRow[],
  query: ListQuery,
  endpoint: string,
  nextMarker: string,
): string {
  return [
    HEAD,
    xml`<EnumerationResults ServiceEndpoint="${endpoint}">`,
    ...queryXml(query),
    '<Containers>',
    ...containers.map(container => containerXml(container, query.include)),
    '</Containers>',
    xml`<NextMarker>${markerOf(nextMarker)}</NextMarker></EnumerationResults>`,
  ].join('');
}

function queryXml({ prefix, marker, maxResults }: ListQuery): string[] {
  return [
    prefix && xml`<Prefix>${prefix}</Prefix>`,
    marker && xml`<Marker>${markerOf(marker)}</Marker>`,
    xml`<MaxResults>${maxResults}</MaxResults>`,
  ];
}

function containerXml(container: BlobContainerRow, include: ReadonlySet<string>): string {
  const properties = {
    'Last-Modified': container.modified_at.toUTCString(),
    Etag: `"${container.etag}"`,
    ...leaseElements(container.lease),
    PublicAccess: container.public_access ?? undefined,
    DefaultEncryptionScope: '$account-encryption-key',
    DenyEncryptionScopeOverride: 'false',
    HasImmutabilityPolicy: 'false',
    HasLegalHold: 'false',
  };
  return `<Container>${xml`<Name>${container.name}</Name>`}<Properties>${elements(properties)}</Properties>${
    include.has('metadata') ? metadataXml(container.metadata) : ''
  }</Container>`;
}

function blobXml(blob: ShownBlob, include: ReadonlySet<string>): string {
  const { headers, copy, tier, type } = blob;
  const properties = {
    'Creation-Time': blob.created_at.toUTCString(),
    'Last-Modified': blob.modified_at.toUTCString(),
    Etag: blob.etag,
    'Content-Length': blob.size,
    'Content-Type': headers.contentType ?? 'application/octet-stream',
    'Content-Encoding': headers.contentEncoding,
    'Content-Language': headers.contentLanguage,
    'Content-MD5': headers.contentMd5,
    'Content-Disposition': headers.contentDisposition,
    'Cache-Control': headers.cacheControl,
    'x-ms-blob-sequence-number': type === 'PageBlob' ? blob.sequence_number : undefined,
    BlobType: type,
    AccessTier: type === 'BlockBlob' ? (tier ?? 'Hot') : undefined,
    AccessTierInferred: type === 'BlockBlob' && tier === null ? 'true' : undefined,
    ...leaseElements(blob.lease),
    ...(copy &&
      include.has('copy') && {
        CopyId: copy.id,
        CopySource: copy.source,
        CopyStatus: 'success',
        CopyProgress: `${blob.size}/${blob.size}`,
        CopyCompletionTime: new Date(copy.completedAt).toUTCString(),
      }),
    ServerEncrypted: 'true',
    TagCount: Object.keys(blob.tags).length || undefined,
  };
  return `<Blob>${nameXml(blob.name)}<Properties>${elements(properties)}</Properties>${
    include.has('metadata') ? metadataXml(blob.metadata) : ''
  }${include.has('tags') && Object.keys(blob.tags).length > 0 ? tagsXml(blob.tags) : ''}</Blob>`;
}

/** A character that XML cannot hold makes the name an encoded one. */
function nameXml(name: string): string {
  if (/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/.test(name))
    return xml`<Name Encoded="true">${encodeURIComponent(name)}</Name>`;
  return xml`<Name>${name}</Name>`;
}

const elements = (values: Readonly<Record<string, string | number | undefined>>): string =>
  Object.entries(values)
    .map(([name, value]) => (value === undefined ? '' : `<${name}>${xml`${value}`}</${name}>`))
    .join('');

/** Names of metadata are names of elements; see metadataOf. */
const metadataXml = (metadata: Readonly<Record<string, string>>): string =>
  `<Metadata>${elements(metadata)}</Metadata>`;

export const tagsXml = (tags: Readonly<Record<string, string>>): string =>
  `<Tags><TagSet>${Object.entries(tags)
    .map(([name, value]) => xml`<Tag><Key>${name}</Key><Value>${value}</Value></Tag>`)
    .join('')}</TagSet></Tags>`;

export function leaseElements(lease: Lease | null): Record<string, string | undefined> {
  const state = leaseState(lease, new Date());
  return {
    LeaseStatus: state === 'leased' || state === 'breaking' ? 'locked' : 'unlocked',
    LeaseState: state,
    LeaseDuration: state === 'leased' ? (lease!.seconds === -1 ? 'infinite' : 'fixed') : undefined,
  };
}
