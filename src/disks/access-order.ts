/**
 * What a guest reads of an image, and in which order: told by a copy-on-read overlay that it booted from. QEMU puts a block there when it is first needed, behind all those
 * before it; so where a block lies in the overlay says when that was.
 */
import type { DiskChain, DiskExtent } from './chain.ts';

/** Bytes as a guest counts them. */
export interface DiskRange {
  readonly start: number;
  readonly length: number;
}

/** What of an image's file has to be fetched for some ranges by a reader that has nothing of it yet. */
export interface ColdRead {
  /** In blocks of COLD_BLOCK, each when it is first needed, and kept: how many. */
  readonly requests: number;
  /** From the beginning on: how many bytes, until the last one is there. */
  readonly end: number;
}

export const COLD_BLOCK = 1024 * 1024;

/**
 * @param overlay a copy-on-read overlay on `image`, closed
 * @returns parts of the image's data in the order in which they were first needed. What was only written, where the image has nothing, is not among them.
 */
export function accessOrder(overlay: DiskChain, image: DiskChain): DiskRange[] {
  const copied = overlay.extents.filter(({ at }) => at?.file === 0);
  const data = image.extents.filter(({ at }) => at);
  return overlaps(copied, data)
    .sort((a, b) => a.offset - b.offset)
    .map(({ start, length }) => ({ start, length }));
}

/** @param ranges of the image's data, in any order */
export function coldRead(ranges: readonly DiskRange[], image: DiskChain): ColdRead {
  const sorted = ranges.toSorted((a, b) => a.start - b.start);
  const blocks = new Set<number>();
  let end = 0;
  for (const { offset, length } of overlaps(image.extents, sorted)) {
    const last = Math.floor((offset + length - 1) / COLD_BLOCK);
    for (let block = Math.floor(offset / COLD_BLOCK); block <= last; block++) blocks.add(block);
    end = Math.max(end, offset + length);
  }
  return { requests: blocks.size, end };
}

/** The parts of extents, all with bytes of their own, that lie in the ranges, and where in their file. Both are in order. */
function overlaps(extents: readonly DiskExtent[], ranges: readonly DiskRange[]) {
  const found: (DiskRange & { readonly offset: number })[] = [];
  let first = 0;
  for (const range of ranges) {
    const stop = range.start + range.length;
    const before = ({ start, length }: DiskExtent) => start + length <= range.start;
    while (first < extents.length && before(extents[first]!)) first++;
    for (let index = first; index < extents.length && extents[index]!.start < stop; index++) {
      const { start: begin, length, at } = extents[index]!;
      const start = Math.max(begin, range.start);
      const end = Math.min(begin + length, stop);
      if (at) found.push({ start, length: end - start, offset: at.offset + start - begin });
    }
  }
  return found;
}
