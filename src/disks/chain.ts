/** Where the bytes of a disk lie: its own file and those it stands on, read in place instead of through QEMU. */
import { run } from '../processes/process.ts';
import { type DiskFile, QEMU_NAMES } from './qemu-img.ts';

/** A part of the disk, in order and without gaps. */
export interface DiskExtent {
  readonly start: number;
  readonly length: number;
  /** Index of the file that has it, and where in there; without it nothing but zeros. */
  readonly at?: { readonly file: number; readonly offset: number };
}

export interface DiskChain {
  /** Bytes that a guest sees. */
  readonly virtualSize: number;
  /** Absolute paths, the topmost first. */
  readonly files: readonly string[];
  readonly extents: readonly DiskExtent[];
}

interface Mapped {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/**
 * A disk of Kiln's own that nobody writes to. `undefined` when some of its bytes don't lie there as they are (compressed clusters, for which QEMU names no
 * offset).
 */
export async function chainOf({ path, format }: DiskFile, signal?: AbortSignal): Promise<DiskChain | undefined> {
  const options = signal ? { signal } : {};
  const named = ['-f', QEMU_NAMES[format], path];
  const info = await run('qemu-img', ['info', '-U', '--backing-chain', '--output=json', ...named], options);
  const files = JSON.parse(info.stdout) as { filename: string; 'virtual-size': number }[];
  const virtualSize = files[0]!['virtual-size'];
  const extents: DiskExtent[] = [];
  let next = 0;
  let whole = true;
  // An extent a line: a fragmented disk has more of them than a text that is kept would hold.
  const onLine = (line: string, stream: string) => {
    const json = /\{.*\}/.exec(line)?.[0];
    if (stream !== 'stdout' || json === undefined) return;
    const { start, length, depth, zero, data, offset } = JSON.parse(json) as Mapped;
    if (start !== next || (data && !zero && (offset === undefined || files[depth] === undefined))) whole = false;
    next = start + length;
    const at = data && !zero ? { file: depth, offset: offset! } : undefined;
    const last = extents.at(-1);
    // QEMU tells kinds of zeros apart, and a guest can make them take turns all over a disk of terabytes for nothing.
    if (last && goesOn(last, at)) extents[extents.length - 1] = { ...last, length: last.length + length };
    else extents.push({ start, length, ...(at && { at }) });
  };
  await run('qemu-img', ['map', '-U', '--output=json', ...named], { ...options, onLine });
  if (!whole || next !== virtualSize) return undefined;
  return { virtualSize, files: files.map(({ filename }) => filename), extents };
}

function goesOn({ length, at }: DiskExtent, next: DiskExtent['at']): boolean {
  if (!at || !next) return at === next;
  return at.file === next.file && at.offset + length === next.offset;
}
