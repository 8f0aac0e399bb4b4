/** Block blobs: whole ones, and ones put together of blocks. A list of blocks is a list of files; no byte is copied when it is committed. */
import { sql } from 'kysely';
import type { BlobRow } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { type BlobContent, changeBlob, insertExtents, replaceBlob, requireBlob } from './changing.ts';
import type { BlobConditions } from './conditions.ts';
import type { Extent } from './extents.ts';
import type { WrittenFile } from './files.ts';
import { checkBlobName } from './names.ts';
import { type BlobAddress, blobRow, containerRow, extentsOf } from './rows.ts';
import type { BlobStore } from './store.ts';

export type BlockBlobContent = Omit<BlobContent, 'type' | 'size' | 'sequenceNumber'>;

/** The most blocks of a blob. */
export const MOST_BLOCKS = 50_000;
const MOST_WAITING = 100_000;

/** Whatever happens, the file is a row's or gone. */
export async function owning<T>(store: BlobStore, file: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // The answer to a commit may have been lost: what a row names stays, and is found by the sweep if none does.
    await discardUnnamed(store, file).catch(() => undefined);
    throw error;
  }
}

export async function discardUnnamed(store: BlobStore, file: string | undefined): Promise<void> {
  if (file === undefined) return;
  await store.database
    .insertInto('blob_garbage')
    .values({ file })
    .onConflict(conflict => conflict.column('file').doNothing())
    .execute();
  store.collect();
}

/** Replaces what is there by one file. Errors: those of changeBlob. */
export async function putBlockBlob(
  store: BlobStore,
  address: BlobAddress,
  written: WrittenFile,
  content: BlockBlobContent,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  const { file, size } = written;
  const made = await owning(store, file, () =>
    changeBlob(store.database, address, conditions, async (trx, standing) => {
      const blob = await replaceBlob(trx, standing, address.blob, { ...content, type: 'BlockBlob', size });
      if (file !== undefined) await insertExtents(trx, blob.id, [{ start: 0, length: size, file, offset: 0 }]);
      return blob;
    }),
  );
  store.collect();
  return made;
}

/** Replaces what is there by the same files under other names: what was read of another blob. */
export async function putExtents(
  store: BlobStore,
  address: BlobAddress,
  extents: readonly Extent[],
  content: Omit<BlobContent, 'sequenceNumber'> & { readonly sequenceNumber?: number },
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  try {
    const made = await changeBlob(store.database, address, conditions, async (trx, standing) => {
      const blob = await replaceBlob(trx, standing, address.blob, content);
      await insertExtents(trx, blob.id, extents);
      return blob;
    });
    store.collect();
    return made;
  } catch (error) {
    for (const { file } of extents) await discardUnnamed(store, file).catch(() => undefined);
    throw error;
  }
}

/** The decoded length: ids of one blob's blocks have all the same. */
const idLength = (id: string): number => Buffer.from(id, 'base64').length;

/** Base64 of 1 to 64 bytes. Errors: InvalidBlockId. */
export function checkBlockId(id: string): void {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(id) || id.length % 4 !== 0 || idLength(id) > 64)
    throw blobRefusal('InvalidBlockId');
}

/** Keeps a block until a list names it, or for a week. Errors: those of changeBlob, InvalidBlobOrBlock, InvalidBlobType. */
export async function stageBlock(
  store: BlobStore,
  address: BlobAddress,
  blockId: string,
  written: WrittenFile,
  conditions: BlobConditions = {},
): Promise<void> {
  checkBlockId(blockId);
  const { file, size } = written;
  if (file === undefined) throw blobRefusal('InvalidBlobOrBlock', 'A block has at least one byte.');
  await owning(store, file, () =>
    changeBlob(store.database, address, conditions, async (trx, standing) => {
      if (standing.blob) requireBlob(standing, 'BlockBlob');
      const ofBlob = trx
        .selectFrom('blob_block')
        .where('container_id', '=', standing.container.id)
        .where('name', '=', address.blob);
      const waiting = await ofBlob
        .select(({ fn }) => [fn.countAll<number>().as('count'), fn.max('block_id').as('other')])
        .executeTakeFirstOrThrow();
      if (waiting.other !== null && idLength(waiting.other) !== idLength(blockId))
        throw blobRefusal('InvalidBlobOrBlock');
      if (waiting.count >= MOST_WAITING)
        throw blobRefusal(
          'BlockCountExceedsLimit',
          'The uncommitted block count cannot exceed the limit of 100,000 blocks.',
        );
      await trx
        .insertInto('blob_block')
        .values({ container_id: standing.container.id, name: address.blob, block_id: blockId, file, size })
        .onConflict(conflict =>
          conflict.columns(['container_id', 'name', 'block_id']).doUpdateSet({ file, size, staged_at: new Date() }),
        )
        .execute();
    }),
  );
  store.collect();
}

export interface BlockReference {
  readonly id: string;
  /** Latest: the one that waits, else the one of the blob. */
  readonly from: 'Committed' | 'Uncommitted' | 'Latest';
}

/** Makes the blob what the list says; blocks that it does not name are gone. Errors: those of changeBlob, InvalidBlockList, InvalidBlobType. */
export async function commitBlocks(
  store: BlobStore,
  address: BlobAddress,
  list: readonly BlockReference[],
  content: BlockBlobContent,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  if (list.length > MOST_BLOCKS) throw blobRefusal('BlockCountExceedsLimit');
  const made = await changeBlob(store.database, address, conditions, async (trx, standing) => {
    if (standing.blob) requireBlob(standing, 'BlockBlob');
    const waiting = new Map<string, Part>();
    for (const { block_id, file, size } of await trx
      .selectFrom('blob_block')
      .select(['block_id', 'file', 'size'])
      .where('container_id', '=', standing.container.id)
      .where('name', '=', address.blob)
      .execute())
      waiting.set(block_id, { file, offset: 0, length: size });
    const committed = new Map<string, Part>();
    for (const { blockId, file, offset, length } of standing.blob ? await extentsOf(trx, standing.blob.id) : [])
      if (blockId !== undefined) committed.set(blockId, { file, offset, length });
    const extents: Extent[] = [];
    let size = 0;
    for (const { id, from } of list) {
      const part =
        (from === 'Committed' ? undefined : waiting.get(id)) ??
        (from === 'Uncommitted' ? undefined : committed.get(id));
      if (!part) throw blobRefusal('InvalidBlockList');
      extents.push({ ...part, start: size, blockId: id });
      size += part.length;
    }
    const blob = await replaceBlob(trx, standing, address.blob, { ...content, type: 'BlockBlob', size });
    await insertExtents(trx, blob.id, extents);
    return blob;
  });
  store.collect();
  return made;
}

type Part = Pick<Extent, 'file' | 'offset' | 'length'>;

export interface Block {
  readonly id: string;
  readonly size: number;
}

export interface BlockList {
  /** undefined: nothing is committed yet. */
  readonly blob: BlobRow | undefined;
  readonly committed: readonly Block[];
  readonly uncommitted: readonly Block[];
}

/** Errors: ContainerNotFound, BlobNotFound, InvalidBlobType. */
export async function blockList(store: Pick<BlobStore, 'database'>, address: BlobAddress): Promise<BlockList> {
  checkBlobName(address.blob);
  return await store.database
    .transaction()
    .setIsolationLevel('repeatable read')
    .execute(async trx => {
      const container = await containerRow(trx, address);
      if (!container) throw blobRefusal('ContainerNotFound');
      const blob = await blobRow(trx, container.id, address.blob);
      const waiting = await trx
        .selectFrom('blob_block')
        .select(['block_id', 'size'])
        .where('container_id', '=', container.id)
        .where('name', '=', address.blob)
        .orderBy(sql`block_id collate "C"`)
        .execute();
      if (!blob && waiting.length === 0) throw blobRefusal('BlobNotFound');
      if (blob) requireBlob({ blob }, 'BlockBlob');
      const extents = blob ? await extentsOf(trx, blob.id) : [];
      return {
        blob,
        committed: extents.flatMap(({ blockId, length }) =>
          blockId === undefined ? [] : [{ id: blockId, size: length }],
        ),
        uncommitted: waiting.map(({ block_id, size }) => ({ id: block_id, size })),
      };
    });
}
