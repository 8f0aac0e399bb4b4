/** How rows of blobs are read. */
import type { Kysely } from 'kysely';
import type { BlobContainerRow, BlobRow, Schema } from '../database/schema.ts';
import type { Extent, Span } from './extents.ts';

/** Whose blob. The account is in lower case; the rest is as it was written. */
export interface BlobAddress {
  readonly account: string;
  readonly container: string;
  readonly blob: string;
}

export async function containerRow(
  database: Kysely<Schema>,
  { account, container }: Pick<BlobAddress, 'account' | 'container'>,
): Promise<BlobContainerRow | undefined> {
  return await database
    .selectFrom('blob_container')
    .selectAll()
    .where('account', '=', account)
    .where('name', '=', container)
    .executeTakeFirst();
}

export async function blobRow(
  database: Kysely<Schema>,
  containerId: number,
  name: string,
): Promise<BlobRow | undefined> {
  return await database
    .selectFrom('blob')
    .selectAll()
    .where('container_id', '=', containerId)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** In order. Those that touch the span, whole. */
export async function extentsOf(database: Kysely<Schema>, blobId: number, span?: Span): Promise<Extent[]> {
  const rows = await database
    .selectFrom('blob_extent')
    .select(['start', 'length', 'file', 'file_offset', 'block_id'])
    .where('blob_id', '=', blobId)
    .$if(span !== undefined, query =>
      query.where('start', '<', span!.end).where(({ eb }) => eb(eb('start', '+', eb.ref('length')), '>', span!.start)),
    )
    .orderBy('start')
    .execute();
  return rows.map(({ start, length, file, file_offset, block_id }) => ({
    start,
    length,
    file,
    offset: file_offset,
    ...(block_id !== null && { blockId: block_id }),
  }));
}

/** Row and extents of one moment: a write in between would mix two contents. */
export async function blobWithExtents(
  database: Kysely<Schema>,
  address: BlobAddress,
  spanOf: (blob: BlobRow) => Span | undefined = () => undefined,
): Promise<{ readonly blob: BlobRow; readonly extents: readonly Extent[] } | undefined> {
  return await database
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute(async trx => {
      const blob = await trx
        .selectFrom('blob')
        .innerJoin('blob_container', 'blob_container.id', 'blob.container_id')
        .selectAll('blob')
        .where('blob_container.account', '=', address.account)
        .where('blob_container.name', '=', address.container)
        .where('blob.name', '=', address.blob)
        .executeTakeFirst();
      return blob && { blob, extents: await extentsOf(trx, blob.id, spanOf(blob)) };
    });
}
