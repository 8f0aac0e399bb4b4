/** How every change of a blob goes: under its lock, after its conditions, in one transaction. */
import { type Kysely, sql } from 'kysely';
import type { Transacting } from '../database/connection.ts';
import { json } from '../database/json.ts';
import type { BlobContainerRow, BlobCopy, BlobHeaders, BlobRow, BlobType, Schema } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { type BlobConditions, checkWrite } from './conditions.ts';
import { type Metadata, newEtag } from './containers.ts';
import type { Extent } from './extents.ts';
import { checkLease, leaseAfterWrite } from './leases.ts';
import { checkBlobName } from './names.ts';
import { type BlobAddress, blobRow, containerRow } from './rows.ts';

export interface Standing {
  readonly container: BlobContainerRow;
  readonly blob: BlobRow | undefined;
}

/**
 * One change of a blob at a time, also of one that is not there yet; the container stays until it is done. `work` is given what is there, with its lease and
 * conditions checked. Errors: ContainerNotFound, ConditionNotMet, BlobAlreadyExists, LeaseId….
 */
export async function changeBlob<T>(
  database: Kysely<Schema>,
  address: BlobAddress,
  conditions: BlobConditions,
  work: (trx: Transacting, standing: Standing) => Promise<T>,
): Promise<T> {
  checkBlobName(address.blob);
  return await database.transaction().execute(async trx => {
    const container = await trx
      .selectFrom('blob_container')
      .selectAll()
      .where('account', '=', address.account)
      .where('name', '=', address.container)
      .forKeyShare()
      .executeTakeFirst();
    if (!container) throw blobRefusal('ContainerNotFound');
    const key = `kiln blob ${container.id} ${address.blob}`;
    await sql`select pg_advisory_xact_lock(hashtextextended(${key}, 0))`.execute(trx);
    const blob = await blobRow(trx, container.id, address.blob);
    checkStanding(conditions, blob);
    return await work(trx, { container, blob });
  });
}

/** The same checks before a body is taken in, so that nobody sends gigabytes in vain. They are made again when it is there. */
export async function foresee(
  database: Kysely<Schema>,
  address: BlobAddress,
  conditions: BlobConditions,
): Promise<Standing> {
  checkBlobName(address.blob);
  const container = await containerRow(database, address);
  if (!container) throw blobRefusal('ContainerNotFound');
  const blob = await blobRow(database, container.id, address.blob);
  checkStanding(conditions, blob);
  return { container, blob };
}

function checkStanding(conditions: BlobConditions, blob: BlobRow | undefined): void {
  checkWrite(conditions, blob);
  checkLease(blob?.lease ?? null, conditions.leaseId, { of: 'Blob', write: true, now: new Date() });
}

/** Errors: BlobNotFound; InvalidBlobType when it is of another. */
export function requireBlob({ blob }: Pick<Standing, 'blob'>, type?: BlobType): BlobRow {
  if (!blob) throw blobRefusal('BlobNotFound');
  if (type !== undefined && blob.type !== type) throw blobRefusal('InvalidBlobType');
  return blob;
}

export interface BlobContent {
  readonly type: BlobType;
  readonly size: number;
  readonly headers: BlobHeaders;
  readonly metadata: Metadata;
  readonly tags?: Metadata;
  readonly tier?: string | undefined;
  readonly sequenceNumber?: number;
  readonly copy?: BlobCopy;
}

/** A blob with new content takes the place of what is there; a held lease stays. Extents and blocks that wait are the caller's to write afterwards: there are none. */
export async function replaceBlob(
  trx: Transacting,
  { container, blob }: Standing,
  name: string,
  content: BlobContent,
): Promise<BlobRow> {
  const now = new Date();
  const values = {
    type: content.type,
    size: content.size,
    etag: newEtag(),
    headers: json(content.headers),
    metadata: json(content.metadata),
    tags: json(content.tags ?? {}),
    sequence_number: content.sequenceNumber ?? 0,
    tier: content.tier ?? null,
    copy: content.copy ? json(content.copy) : null,
    modified_at: now,
  };
  await trx.deleteFrom('blob_block').where('container_id', '=', container.id).where('name', '=', name).execute();
  if (!blob)
    return await trx
      .insertInto('blob')
      .values({ container_id: container.id, name, created_at: now, ...values })
      .returningAll()
      .executeTakeFirstOrThrow();
  await trx.deleteFrom('blob_extent').where('blob_id', '=', blob.id).execute();
  const lease = leaseAfterWrite(blob.lease, now);
  return await trx
    .updateTable('blob')
    .set({ ...values, lease: lease && json(lease) })
    .where('id', '=', blob.id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

export async function insertExtents(trx: Transacting, blobId: number, extents: readonly Extent[]): Promise<void> {
  if (extents.length === 0) return;
  await sql`
    insert into blob_extent (blob_id, start, length, file, file_offset, block_id)
    select ${blobId}::bigint, * from unnest(
      ${extents.map(({ start }) => start)}::bigint[],
      ${extents.map(({ length }) => length)}::bigint[],
      ${extents.map(({ file }) => file)}::text[],
      ${extents.map(({ offset }) => offset)}::bigint[],
      ${extents.map(({ blockId }) => blockId ?? null)}::text[])`.execute(trx);
}

/** A change of what is there: another tag, another time. */
export async function touchBlob(
  trx: Transacting,
  blob: BlobRow,
  set: {
    readonly size?: number;
    readonly headers?: BlobHeaders;
    readonly metadata?: Metadata;
    readonly sequenceNumber?: number;
  },
): Promise<BlobRow> {
  return await trx
    .updateTable('blob')
    .set({
      ...(set.size !== undefined && { size: set.size }),
      ...(set.headers && { headers: json(set.headers) }),
      ...(set.metadata && { metadata: json(set.metadata) }),
      ...(set.sequenceNumber !== undefined && { sequence_number: set.sequenceNumber }),
      etag: newEtag(),
      modified_at: new Date(),
    })
    .where('id', '=', blob.id)
    .returningAll()
    .executeTakeFirstOrThrow();
}
