/** Page blobs: a size, and what was written of it in pages of 512 bytes; all else is zeros and takes no room. */

import type { Transacting } from '../database/connection.ts';
import type { BlobRow } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { owning } from './block-blobs.ts';
import { type BlobContent, changeBlob, insertExtents, replaceBlob, requireBlob, touchBlob } from './changing.ts';
import type { BlobConditions } from './conditions.ts';
import { type Extent, merged, type Span, within, without } from './extents.ts';
import type { WrittenFile } from './files.ts';
import { type BlobAddress, blobWithExtents, extentsOf } from './rows.ts';
import type { BlobStore } from './store.ts';

export const PAGE = 512;
/** 8 TiB. */
const LARGEST = 8 * 2 ** 40;

export interface PageConditions extends BlobConditions {
  readonly sequenceAtMost?: number;
  readonly sequenceBelow?: number;
  readonly sequenceEquals?: number;
}

/** Errors: InvalidHeaderValue in words of OutOfRangeInput. */
export function checkPageBlobSize(size: number): void {
  if (size % PAGE === 0 && size >= 0 && size <= LARGEST) return;
  throw blobRefusal('OutOfRangeInput', `The size of a page blob is a multiple of ${PAGE} bytes, and at most 8 TiB.`);
}

/** Nothing but zeros. Errors: those of changeBlob, OutOfRangeInput. */
export async function createPageBlob(
  store: BlobStore,
  address: BlobAddress,
  content: Omit<BlobContent, 'type'>,
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  checkPageBlobSize(content.size);
  const made = await changeBlob(store.database, address, conditions, (trx, standing) =>
    replaceBlob(trx, standing, address.blob, { ...content, type: 'PageBlob' }),
  );
  store.collect();
  return made;
}

/** Errors: InvalidPageRange. */
export function checkPages({ start, end }: Span): void {
  if (start % PAGE !== 0 || end % PAGE !== 0 || start >= end) throw blobRefusal('InvalidPageRange');
}

/** Writes pages, or makes them zeros where nothing was written. Errors: those of changeBlob, InvalidPageRange, SequenceNumberConditionNotMet. */
export async function putPages(
  store: BlobStore,
  address: BlobAddress,
  span: Span,
  written: WrittenFile | 'clear',
  conditions: PageConditions = {},
): Promise<BlobRow> {
  checkPages(span);
  const file = written === 'clear' ? undefined : written.file;
  const made = await owning(store, file, () =>
    changeBlob(store.database, address, conditions, async (trx, standing) => {
      const blob = requireBlob(standing, 'PageBlob');
      checkSequence(blob, conditions);
      if (span.end > blob.size) throw blobRefusal('InvalidPageRange');
      await cut(trx, blob, span);
      const length = span.end - span.start;
      if (file !== undefined) await insertExtents(trx, blob.id, [{ start: span.start, length, file, offset: 0 }]);
      return await touchBlob(trx, blob, {});
    }),
  );
  store.collect();
  return made;
}

/**
 * Gives pages the bytes of a file without moving any: the file gets a second name, and never changes again. `spans`, in order and at least one, are of the blob and
 * of the file alike; what lies between them becomes zeros. Errors: those of changeBlob, InvalidPageRange.
 */
export async function linkPages(
  store: BlobStore,
  address: BlobAddress,
  { path, spans }: { readonly path: string; readonly spans: readonly Span[] },
  conditions: BlobConditions = {},
): Promise<BlobRow> {
  for (const span of spans) checkPages(span);
  const whole = { start: spans[0]!.start, end: spans.at(-1)!.end };
  const file = await store.files.adopt(path);
  const made = await owning(store, file, () =>
    changeBlob(store.database, address, conditions, async (trx, standing) => {
      const blob = requireBlob(standing, 'PageBlob');
      if (whole.end > blob.size) throw blobRefusal('InvalidPageRange');
      await cut(trx, blob, whole);
      const extents = spans.map(({ start, end }) => ({ start, length: end - start, file, offset: start }));
      await insertExtents(trx, blob.id, extents);
      return await touchBlob(trx, blob, {});
    }),
  );
  store.collect();
  return made;
}

/** Errors: SequenceNumberConditionNotMet. */
export function checkSequence({ sequence_number: number }: BlobRow, conditions: PageConditions): void {
  const { sequenceAtMost, sequenceBelow, sequenceEquals } = conditions;
  if (
    (sequenceAtMost !== undefined && number > sequenceAtMost) ||
    (sequenceBelow !== undefined && number >= sequenceBelow) ||
    (sequenceEquals !== undefined && number !== sequenceEquals)
  )
    throw blobRefusal('SequenceNumberConditionNotMet');
}

/** Takes a span out of the extents. */
async function cut(trx: Transacting, blob: BlobRow, span: Span): Promise<void> {
  const touched = await extentsOf(trx, blob.id, span);
  if (touched.length === 0) return;
  await trx
    .deleteFrom('blob_extent')
    .where('blob_id', '=', blob.id)
    .where('start', '>=', touched[0]!.start)
    .where('start', '<=', touched.at(-1)!.start)
    .execute();
  await insertExtents(trx, blob.id, without(touched, span));
}

export interface PageChange {
  readonly size?: number;
  readonly sequence?: { readonly action: 'max' | 'update'; readonly number: number } | { readonly action: 'increment' };
}

/** Within a change of the blob's properties. Errors: InvalidBlobType, OutOfRangeInput. */
export async function changePages(trx: Transacting, blob: BlobRow, { size, sequence }: PageChange): Promise<BlobRow> {
  requireBlob({ blob }, 'PageBlob');
  if (size !== undefined) {
    checkPageBlobSize(size);
    if (size < blob.size) await cut(trx, blob, { start: size, end: blob.size });
  }
  const current = blob.sequence_number;
  const sequenceNumber =
    sequence === undefined
      ? current
      : sequence.action === 'increment'
        ? current + 1
        : sequence.action === 'max'
          ? Math.max(current, sequence.number)
          : sequence.number;
  return await touchBlob(trx, blob, { ...(size !== undefined && { size }), sequenceNumber });
}

/** What was written of a span of the blob, neighbours as one. */
export async function pageRanges(
  store: Pick<BlobStore, 'database'>,
  address: BlobAddress,
  span?: Span,
): Promise<{ readonly blob: BlobRow; readonly ranges: readonly Span[] } | undefined> {
  const found = await blobWithExtents(store.database, address, () => span);
  if (!found) return undefined;
  requireBlob(found, 'PageBlob');
  return { blob: found.blob, ranges: spansOf(found.extents, span ?? { start: 0, end: found.blob.size }) };
}

const spansOf = (extents: readonly Extent[], span: Span): Span[] =>
  merged(within(extents, span).map(({ start, length }) => ({ start, end: start + length })));
