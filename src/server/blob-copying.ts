/** Copies of blobs over HTTP. All are over when they are answered, however large the source is. */
import { randomUUID } from 'node:crypto';
import { blobRefusal } from '../blobs/blob-error.ts';
import { foresee } from '../blobs/changing.ts';
import { copyFile, copyStored } from '../blobs/copying.ts';
import type { BlobRow } from '../database/schema.ts';
import { BlobError } from './blob-errors.ts';
import { changed, ENCRYPTED } from './blob-headers.ts';
import { type ShownBlob, shownStaged } from './blob-list.ts';
import { ownBlob } from './blob-reading.ts';
import { addressOf, type BlobAnswer, type BlobRequest, blobHeadersOf, header } from './blob-request.ts';
import { checkSource, sourceOf } from './blob-sources.ts';
import { aboutOf, allowWrite } from './blob-writing.ts';

/** Copy Blob, and Copy Blob From URL. */
export async function copy(request: BlobRequest): Promise<BlobAnswer> {
  const id = randomUUID();
  const blob = await copied(request, id, {});
  return { status: 202, headers: { ...changed(blob), 'x-ms-copy-id': id, 'x-ms-copy-status': 'success' } };
}

/** Put Blob From URL: a block blob, whatever the source is. */
export async function putFromUrl(request: BlobRequest): Promise<BlobAnswer> {
  if (header(request, 'x-ms-blob-type')?.toLowerCase() !== 'blockblob')
    throw new BlobError(400, 'InvalidHeaderValue', 'Only block blobs are put from a URL.');
  const blob = await copied(request, undefined, { type: 'BlockBlob', headers: blobHeadersOf(request) });
  return {
    status: 201,
    headers: { ...changed(blob), 'content-md5': blob.headers.contentMd5, ...ENCRYPTED },
  };
}

interface CopyOptions {
  readonly type?: 'BlockBlob';
  /** Instead of the source's. */
  readonly headers?: BlobRow['headers'];
}

async function copied(request: BlobRequest, id: string | undefined, { type, headers }: CopyOptions): Promise<BlobRow> {
  const conditions = await allowWrite(request);
  const { tags, tier, metadata: given } = aboutOf(request);
  const source = await sourceOf(request);
  await foresee(request.store.database, addressOf(request), conditions);
  const content = (blob: ShownBlob) => {
    checkSource(request, blob);
    const md5 = header(request, 'x-ms-source-content-md5');
    if (md5 !== undefined && blob.headers.contentMd5 !== undefined && md5 !== blob.headers.contentMd5)
      throw blobRefusal('Md5Mismatch');
    return {
      headers: { ...blob.headers, ...headers },
      metadata: Object.keys(given).length > 0 ? given : blob.metadata,
      tags,
      tier,
      ...(id !== undefined && {
        // Without its query: a signature in it is nobody else's business.
        copy: {
          id,
          source: header(request, 'x-ms-copy-source')!.split('?')[0]!,
          completedAt: new Date().toISOString(),
        },
      }),
    };
  };
  const own = await ownBlob(source);
  if (own) {
    const { path, size, final } = own;
    const file = { path, size, final, type: own.type, ...(type && { as: type }) };
    return await copyFile(request.store, file, addressOf(request), content(shownStaged(own)), conditions);
  }
  const made = await copyStored(request.store, addressOf(source), addressOf(request), {
    content,
    conditions,
    ...(type && { type }),
  });
  if (!made) throw new BlobError(404, 'CannotVerifyCopySource', 'The specified blob does not exist.');
  return made;
}
