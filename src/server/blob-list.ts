/** Lists of blobs: which ones a page has, and its XML. */
import { BlobError } from './blob-errors.ts';
import { xml } from './xml.ts';

export interface ListedBlob {
  readonly name: string;
  readonly size: number;
  readonly modified: Date;
  readonly created: Date;
  readonly etag: string;
}

export interface ListQuery {
  readonly prefix: string;
  /** Names are shown up to it, as folders; empty for none. */
  readonly delimiter: string;
  /** The last name, or folder, of the page before; empty for the first. */
  readonly marker: string;
  readonly maxResults: number;
}

export interface BlobPage {
  readonly blobs: readonly ListedBlob[];
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
    prefix: query.get('prefix') ?? '',
    delimiter: query.get('delimiter') ?? '',
    marker: query.get('marker') ?? '',
    maxResults: Math.min(maxResults, MOST),
  };
}

/** `all` in the order of names; read only as far as the page goes. */
export async function listBlobs(all: AsyncIterable<ListedBlob>, query: ListQuery): Promise<BlobPage> {
  const { prefix, delimiter, marker, maxResults } = query;
  const blobs: ListedBlob[] = [];
  const folders: string[] = [];
  let last = '';
  for await (const blob of all) {
    if (!blob.name.startsWith(prefix)) continue;
    const end = delimiter === '' ? -1 : blob.name.indexOf(delimiter, prefix.length);
    const shown = end === -1 ? blob.name : blob.name.slice(0, end + delimiter.length);
    if (shown === last || (marker !== '' && (shown <= marker || blob.name <= marker))) continue;
    if (blobs.length + folders.length === maxResults) return { blobs, folders, nextMarker: last };
    last = shown;
    if (end === -1) blobs.push(blob);
    else folders.push(shown);
  }
  return { blobs, folders, nextMarker: '' };
}

export function listXml(page: BlobPage, query: ListQuery, endpoint: string, container: string): string {
  return [
    xml`<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="${endpoint}" ContainerName="${container}">`,
    query.prefix && xml`<Prefix>${query.prefix}</Prefix>`,
    query.marker && xml`<Marker>${query.marker}</Marker>`,
    xml`<MaxResults>${query.maxResults}</MaxResults>`,
    query.delimiter && xml`<Delimiter>${query.delimiter}</Delimiter>`,
    '<Blobs>',
    ...page.folders.map(folder => xml`<BlobPrefix><Name>${folder}</Name></BlobPrefix>`),
    ...page.blobs.map(blobXml),
    '</Blobs>',
    xml`<NextMarker>${page.nextMarker}</NextMarker></EnumerationResults>`,
  ].join('');
}

function blobXml({ name, size, modified, created, etag }: ListedBlob): string {
  return xml`<Blob><Name>${name}</Name><Properties><Creation-Time>${created.toUTCString()}</Creation-Time><Last-Modified>${modified.toUTCString()}</Last-Modified><Etag>${etag.replaceAll('"', '')}</Etag><Content-Length>${size}</Content-Length><Content-Type>text/plain; charset=utf-8</Content-Type><BlobType>BlockBlob</BlobType><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState></Properties></Blob>`;
}
