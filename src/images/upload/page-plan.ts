/** Which pages of a page blob are written for a disk: those where its file has data. Pure. */
import type { FileExtent } from '../../disks/holes.ts';

/** From `start` to, and without, `end`. Bytes. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export const PAGE = 512;
/** The most that one Put Page takes. */
export const MOST_PAGES = 4 * 1024 * 1024;
/** A smaller hole costs more as another request than as zeros. */
const SMALL_HOLE = 64 * 1024;

/** Whole pages that hold all data of a file of `size` bytes, those of its last page left out: that is the footer, which is written when all else is there. */
export function dataSpans(extents: readonly FileExtent[], size: number): Span[] {
  const end = size - PAGE;
  return joined(
    extents
      .filter(({ zero }) => !zero)
      .map(({ start, length }) => ({
        start: Math.floor(start / PAGE) * PAGE,
        end: Math.min(Math.ceil((start + length) / PAGE) * PAGE, end),
      }))
      .filter(span => span.start < span.end),
  );
}

/** As requests: none crosses a multiple of 4 MiB, so that the same disk is always cut in the same places. */
export function chunksOf(spans: readonly Span[]): Span[] {
  return joined(spans, SMALL_HOLE).flatMap(({ start, end }) => {
    const chunks: Span[] = [];
    for (let at = start; at < end; ) {
      const next = Math.min(end, (Math.floor(at / MOST_PAGES) + 1) * MOST_PAGES);
      chunks.push({ start: at, end: next });
      at = next;
    }
    return chunks;
  });
}

/** What is left of a chunk without the zero pages at its ends; undefined where there is nothing else. */
export function withoutZeros({ start }: Span, bytes: Buffer): Span | undefined {
  const isZero = (at: number) => bytes.compare(ZEROS, 0, PAGE, at, at + PAGE) === 0;
  let from = 0;
  let to = bytes.length;
  while (from < to && isZero(from)) from += PAGE;
  while (to > from && isZero(to - PAGE)) to -= PAGE;
  return from === to ? undefined : { start: start + from, end: start + to };
}

const ZEROS = Buffer.alloc(PAGE);

/** In order; those become one that touch, overlap, or have no more than `gap` bytes between them. */
export function joined(spans: readonly Span[], gap = 0): Span[] {
  const found: { start: number; end: number }[] = [];
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start)) {
    const last = found.at(-1);
    if (last && start <= last.end + gap) last.end = Math.max(last.end, end);
    else found.push({ start, end });
  }
  return found;
}

/** What of `spans` is in none of `others`. */
export function lacking(spans: readonly Span[], others: readonly Span[]): Span[] {
  const left: Span[] = [];
  const there = joined(others);
  let index = 0;
  for (const { start, end } of joined(spans)) {
    let at = start;
    while (index < there.length && there[index]!.end <= at) index++;
    for (let next = index; next < there.length && there[next]!.start < end; next++) {
      if (there[next]!.start > at) left.push({ start: at, end: there[next]!.start });
      at = Math.max(at, there[next]!.end);
    }
    if (at < end) left.push({ start: at, end });
  }
  return left;
}

export const lengthOf = (spans: readonly Span[]): number => spans.reduce((sum, { start, end }) => sum + end - start, 0);
