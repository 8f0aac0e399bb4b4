/** Holes of sparse files. Node has no SEEK_HOLE, qemu-img has. */
import { run } from '../processes/process.ts';

export interface FileExtent {
  readonly start: number;
  readonly length: number;
  /** Nothing but zeros, known without reading. */
  readonly zero: boolean;
}

/** Where a file of `size` bytes has data and where nothing, in order and without gaps. What cannot be told counts as data. */
export async function extentsOfFile(path: string, size: number, signal?: AbortSignal): Promise<FileExtent[]> {
  const found: FileExtent[] = [];
  let at = 0;
  let gap = false;
  // An extent a line: a fragmented disk has more of them than a text that is kept would hold.
  const onLine = (line: string, stream: string) => {
    const json = /\{.*\}/.exec(line)?.[0];
    if (stream !== 'stdout' || json === undefined || gap) return;
    const { start, length, zero } = JSON.parse(json) as FileExtent;
    // QEMU counts in sectors: the last extent may reach beyond the end of the file.
    const end = Math.min(start + length, size);
    gap = start !== at || end <= at;
    if (gap) return;
    found.push({ start, length: end - start, zero });
    at = end;
  };
  await run('qemu-img', ['map', '-U', '-f', 'raw', '--output=json', path], { onLine, ...(signal && { signal }) });
  if (at < size) found.push({ start: at, length: size - at, zero: false });
  return found;
}
