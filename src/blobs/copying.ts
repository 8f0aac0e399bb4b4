/** Copies of blobs: the same files under names of their own, so that a copy of any size takes an instant and no room. */

import type { BlobRow } from '../database/schema.ts';
import { extentsOfFile } from '../disks/holes.ts';
import { discardUnnamed, putBlockBlob, putExtents } from './block-blobs.ts';
import type { BlobContent } from './changing.ts';
import type { BlobConditions } from './conditions.ts';
import type { Extent } from './extents.ts';
import { bytesOf } from './reading.ts';
import { type BlobAddress, blobWithExtents } from './rows.ts';
import type { BlobStore } from './store.ts';

/** What becomes of the copy's properties. `source`: the blob's that is copied. */
export type CopiedContent = (source: BlobRow) => Omit<BlobContent, 'type' | 'size' | 'sequenceNumber'>;

/** Errors: those of changeBlob. undefined: there is no such source. `type`: what the copy becomes, if not what the source is. */
export async function copyStored(
  store: BlobStore,
  source: BlobAddress,
  to: BlobAddress,
  options: {
    /** May throw, when the source does not fit. */
    readonly content: CopiedContent;
    readonly type?: 'BlockBlob';
    readonly conditions?: BlobConditions;
  },
): Promise<BlobRow | undefined> {
  const { found, release } = await store.readers.hold(
    () => blobWithExtents(store.database, source),
    opened => opened?.extents.map(({ file }) => file) ?? [],
  );
  try {
    if (!found) return undefined;
    const content = options.content(found.blob);
    const { type, size, sequence_number: sequenceNumber } = found.blob;
    const extents = await adoptAll(store, found.extents);
    return await putExtents(
      store,
      to,
      extents,
      { ...content, type: options.type ?? type, size, sequenceNumber },
      options.conditions,
    );
  } finally {
    release();
  }
}

async function adoptAll(store: BlobStore, extents: readonly Extent[]): Promise<Extent[]> {
  const adopted = new Map<string, string>();
  try {
    for (const { file } of extents)
      if (!adopted.has(file)) adopted.set(file, await store.files.adopt(store.files.pathOf(file)));
    return extents.map(extent => ({ ...extent, file: adopted.get(extent.file)! }));
  } catch (error) {
    for (const file of adopted.values()) await discardUnnamed(store, file).catch(() => undefined);
    throw error;
  }
}

/** A file of Kiln's own: one that changes no more gets a second name, else what it holds now is copied. */
export async function copyFile(
  store: BlobStore,
  source: {
    readonly path: string;
    readonly size: number;
    readonly type: 'BlockBlob' | 'PageBlob';
    readonly final: boolean;
    /** What the copy is to be, if not what the source is. */
    readonly as?: 'BlockBlob';
  },
  to: BlobAddress,
  content: Omit<BlobContent, 'type' | 'size'>,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  const { path, size, type } = source;
  if (!source.final || type === 'BlockBlob') {
    const written = await store.files.write(bytesOf([{ path, offset: 0, length: size }]));
    return await putBlockBlob(store, to, written, content, conditions);
  }
  const data = (await extentsOfFile(path, size)).filter(({ zero }) => !zero);
  const file = data.length > 0 ? await store.files.adopt(path) : '';
  const extents = data.map(({ start, length }) => ({ start, length, file, offset: start }));
  return await putExtents(store, to, extents, { ...content, type: source.as ?? type, size }, conditions);
}
