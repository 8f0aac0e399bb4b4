/** The same disk in another order: what is read first lies first in its file. */
import { run } from '../processes/process.ts';
import type { DiskRange } from './access-order.ts';
import { createOverlay } from './qemu-img.ts';

/** qemu-io holds what it reads in memory. */
const PIECE = 4 * 1024 * 1024;

/**
 * Makes `to` of `from`, a qcow2 file without backing files: the ranges at its beginning, in their order, then all else as the disk has it. QEMU does it: blocks that are read
 * through an overlay get their places in it one after the other. Rejects with InternalError should a guest see other bytes than before; with DiskFull, or the signal's reason.
 */
export async function layOut(
  from: string,
  ranges: readonly DiskRange[],
  options: {
    readonly to: string;
    readonly signal?: AbortSignal;
    /** Fraction done, 0 to 1. */
    readonly onProgress?: (fraction: number) => void;
  },
): Promise<void> {
  const { to, onProgress } = options;
  const signal = options.signal && { signal: options.signal };
  await createOverlay({ backing: { path: from, format: 'qcow2' }, path: to });
  const reads = ranges.flatMap(piecesOf).map(({ start, length }) => `read -q ${start} ${length}`);
  await run('qemu-io', ['-C', '-f', 'qcow2', to], { ...signal, input: `${reads.join('\n')}\n` });
  await run('qemu-img', ['rebase', '-p', '-f', 'qcow2', '-b', '', to], {
    ...signal,
    onLine(line) {
      const percent = /\(([\d.]+)\/100%\)/.exec(line);
      if (percent) onProgress?.(Number(percent[1]) / 100);
    },
  });
  await run('qemu-img', ['compare', '-q', '-f', 'qcow2', '-F', 'qcow2', from, to], { ...signal });
}

function piecesOf({ start, length }: DiskRange): DiskRange[] {
  return Array.from({ length: Math.ceil(length / PIECE) }, (_, index) => {
    const from = index * PIECE;
    return { start: start + from, length: Math.min(PIECE, length - from) };
  });
}
