/** Blobs of any type: their properties, lists of them, their end. */
import type { Kysely } from 'kysely';
import { json } from '../database/json.ts';
import type { BlobHeaders, BlobRow, Lease, Schema } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { changeBlob, requireBlob, touchBlob } from './changing.ts';
import { type BlobConditions, checkWrite } from './conditions.ts';
import { changeContainer, type Metadata } from './containers.ts';
import { checkBlobName } from './names.ts';
import { changePages, type PageChange } from './page-blobs.ts';
import { type BlobAddress, blobRow, containerRow } from './rows.ts';
import type { BlobStore } from './store.ts';

type Rows = Pick<BlobStore, 'database'>;

/** Errors: ContainerNotFound, BlobNotFound. */
export async function requireStored({ database }: Rows, address: BlobAddress): Promise<BlobRow> {
  checkBlobName(address.blob);
  const container = await containerRow(database, address);
  if (!container) throw blobRefusal('ContainerNotFound');
  const blob = await blobRow(database, container.id, address.blob);
  if (!blob) throw blobRefusal('BlobNotFound');
  return blob;
}

/** Errors: those of changeBlob, BlobNotFound. */
export async function deleteBlob(
  store: BlobStore,
  address: BlobAddress,
  conditions: BlobConditions = {},
): Promise<void> {
  await changeBlob(store.database, address, conditions, async (trx, standing) => {
    const blob = requireBlob(standing);
    await trx
      .deleteFrom('blob_block')
      .where('container_id', '=', standing.container.id)
      .where('name', '=', address.blob)
      .execute();
    await trx.deleteFrom('blob').where('id', '=', blob.id).execute();
  });
  store.collect();
}

export interface BlobChange {
  /** All of them: what is not named is none any more. */
  readonly headers?: BlobHeaders;
  readonly metadata?: Metadata;
  readonly pages?: PageChange;
}

/** Errors: those of changeBlob, BlobNotFound; of page blobs InvalidBlobType, OutOfRangeInput. */
export async function setBlob(
  store: BlobStore,
  address: BlobAddress,
  set: BlobChange,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  const changed = await changeBlob(store.database, address, conditions, async (trx, standing) => {
    const blob = requireBlob(standing);
    const resized = set.pages ? await changePages(trx, blob, set.pages) : blob;
    return await touchBlob(trx, resized, {
      ...(set.headers && { headers: set.headers }),
      ...(set.metadata && { metadata: set.metadata }),
    });
  });
  if (set.pages?.size !== undefined) store.collect();
  return changed;
}

/** Neither changes a blob's tag. Errors: those of changeBlob, BlobNotFound. */
export async function setTagsOrTier(
  store: Rows,
  address: BlobAddress,
  set: { readonly tags: Metadata } | { readonly tier: string },
  conditions: BlobConditions = {},
): Promise<void> {
  await changeBlob(store.database, address, conditions, async (trx, standing) => {
    const { id } = requireBlob(standing);
    const values = 'tags' in set ? { tags: json(set.tags) } : { tier: set.tier };
    await trx.updateTable('blob').set(values).where('id', '=', id).execute();
  });
}

/** `decide` says what the lease becomes, or throws. Errors: ContainerNotFound, BlobNotFound, ConditionNotMet. */
export async function leaseBlob<T extends { readonly lease: Lease | null }>(
  { database }: Rows,
  address: BlobAddress,
  conditions: BlobConditions,
  decide: (lease: Lease | null) => T,
): Promise<{ readonly blob: BlobRow; readonly decided: T }> {
  checkBlobName(address.blob);
  return await changeContainer(database, address, async (trx, container) => {
    const blob = await trx
      .selectFrom('blob')
      .selectAll()
      .where('container_id', '=', container.id)
      .where('name', '=', address.blob)
      .forUpdate()
      .executeTakeFirst();
    if (!blob) throw blobRefusal('BlobNotFound');
    checkWrite(conditions, blob);
    const decided = decide(blob.lease);
    const lease = decided.lease && json(decided.lease);
    await trx.updateTable('blob').set({ lease }).where('id', '=', blob.id).execute();
    return { blob, decided };
  });
}

export interface ListedRows {
  readonly prefix: string;
  /** Names from here on; empty: all. */
  readonly from: string;
  /** Without the name itself. */
  readonly exclusive: boolean;
  readonly limit: number;
}

/** By name. */
export async function listRows(
  database: Kysely<Schema>,
  containerId: number,
  { prefix, from, exclusive, limit }: ListedRows,
): Promise<BlobRow[]> {
  return await database
    .selectFrom('blob')
    .selectAll()
    .where('container_id', '=', containerId)
    .$if(from !== '', query => query.where('name', exclusive ? '>' : '>=', from))
    // The first two are found by the index (U+10FFFF is the last there is); the third is exact.
    .$if(prefix !== '', query => query.where('name', '>=', prefix).where('name', '<', `${prefix}\u{10ffff}\u{10ffff}`))
    .$if(prefix !== '', query => query.where(({ fn, val }) => fn<boolean>('starts_with', ['name', val(prefix)])))
    .orderBy('name')
    .limit(limit)
    .execute();
}
