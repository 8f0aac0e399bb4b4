/** Append blobs: what is there stays, and more comes at the end. */
import type { BlobRow } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { MOST_BLOCKS, owning } from './block-blobs.ts';
import { type BlobContent, changeBlob, insertExtents, replaceBlob, requireBlob, touchBlob } from './changing.ts';
import type { BlobConditions } from './conditions.ts';
import type { WrittenFile } from './files.ts';
import type { BlobAddress } from './rows.ts';
import type { BlobStore } from './store.ts';

export interface AppendConditions extends BlobConditions {
  /** Where the block is to begin. */
  readonly position?: number;
  /** What the blob may be with it (bytes). */
  readonly maxSize?: number;
}

/** An empty one. */
export async function createAppendBlob(
  store: BlobStore,
  address: BlobAddress,
  content: Omit<BlobContent, 'type' | 'size'>,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  const made = await changeBlob(store.database, address, conditions, (trx, standing) =>
    replaceBlob(trx, standing, address.blob, { ...content, type: 'AppendBlob', size: 0 }),
  );
  store.collect();
  return made;
}

/** Errors: those of changeBlob, AppendPositionConditionNotMet, MaxBlobSizeConditionNotMet, BlockCountExceedsLimit. */
export async function appendBlock(
  store: BlobStore,
  address: BlobAddress,
  written: WrittenFile,
  conditions: AppendConditions = {},
): Promise<{ readonly blob: BlobRow; readonly offset: number; readonly blocks: number }> {
  const { file, size } = written;
  if (file === undefined) throw blobRefusal('InvalidBlobOrBlock', 'A block has at least one byte.');
  return await owning(store, file, () =>
    changeBlob(store.database, address, conditions, async (trx, standing) => {
      const blob = requireBlob(standing, 'AppendBlob');
      const offset = blob.size;
      if (conditions.position !== undefined && conditions.position !== offset)
        throw blobRefusal('AppendPositionConditionNotMet');
      if (conditions.maxSize !== undefined && offset + size > conditions.maxSize)
        throw blobRefusal('MaxBlobSizeConditionNotMet');
      const blocks = await countBlocks(trx, blob.id);
      if (blocks >= MOST_BLOCKS) throw blobRefusal('BlockCountExceedsLimit');
      await insertExtents(trx, blob.id, [{ start: offset, length: size, file, offset: 0 }]);
      return { blob: await touchBlob(trx, blob, { size: offset + size }), offset, blocks: blocks + 1 };
    }),
  );
}

export async function countBlocks(database: BlobStore['database'], blobId: number): Promise<number> {
  const { count } = await database
    .selectFrom('blob_extent')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('blob_id', '=', blobId)
    .executeTakeFirstOrThrow();
  return count;
}
