/** Extents: which part of which file holds which bytes of a blob. Pure. */

export interface Extent {
  /** In the blob. */
  readonly start: number;
  readonly length: number;
  /** Below the state directory's `blobs`. */
  readonly file: string;
  /** In the file. */
  readonly offset: number;
  /** Base64, of a committed block. */
  readonly blockId?: string;
}

/** From `start` to, and without, `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** What is left of extents when a span of the blob is taken out of them. */
export function without(extents: readonly Extent[], { start, end }: Span): Extent[] {
  return extents.flatMap(extent => [
    ...within([extent], { start: 0, end: start }),
    ...within([extent], { start: end, end: Number.MAX_SAFE_INTEGER }),
  ]);
}

/** The parts of extents that lie in a span. */
export function within(extents: readonly Extent[], { start, end }: Span): Extent[] {
  return extents.flatMap(extent => {
    const from = Math.max(extent.start, start);
    const to = Math.min(extent.start + extent.length, end);
    if (from >= to) return [];
    return [{ ...extent, start: from, length: to - from, offset: extent.offset + from - extent.start }];
  });
}

/** A part of a span: bytes of a file, or zeros where no extent tells of any. */
export interface Piece {
  readonly length: number;
  readonly file?: string;
  readonly offset: number;
}

/** A span from its beginning to its end, without gaps. `extents` in order, none over another. */
export function pieces(extents: readonly Extent[], span: Span): Piece[] {
  const found: Piece[] = [];
  let at = span.start;
  for (const { start, length, file, offset } of within(extents, span)) {
    if (start > at) found.push({ length: start - at, offset: 0 });
    found.push({ length, file, offset });
    at = start + length;
  }
  if (at < span.end) found.push({ length: span.end - at, offset: 0 });
  return found;
}

/** Neighbours become one. In order. */
export function merged(spans: readonly Span[]): Span[] {
  const found: { start: number; end: number }[] = [];
  for (const { start, end } of spans) {
    const last = found.at(-1);
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else found.push({ start, end });
  }
  return found;
}
