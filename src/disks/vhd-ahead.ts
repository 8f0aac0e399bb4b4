/**
 * A VHD that is begun while its disk is still written to: what the disk stands on never changes again, and most of it comes through. When the disk is finished, only
 * the chunks that lie elsewhere by then are passed over.
 */
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, resolve } from 'node:path';
import { run } from '../processes/process.ts';
import { chainOf, type DiskChain, type DiskExtent } from './chain.ts';
import { moveDurably, sync } from './durable.ts';
import {
  beginPass,
  CHUNK,
  chunksWithData,
  digestsOf,
  endOf,
  type Pass,
  type PassedChunk,
  type PassSource,
} from './pass.ts';
import { type DiskFile, inspect } from './qemu-img.ts';
import { requireRoom } from './room.ts';
import { asVhd, createVhd, vhdSize, type WriteOptions, type WrittenDisk, written } from './write-vhd.ts';

/** Where each session has its share of the processors, a low priority does not keep a thread from what others need. */
const THREADS = Math.max(1, Math.floor(availableParallelism() / 4));

/** What is there of it. */
interface Begun {
  readonly virtualSize: number;
  readonly base: PassSource;
  readonly pass: Pass;
}

export class VhdAhead implements AsyncDisposable {
  readonly #path: string;
  readonly #stopped = new AbortController();
  readonly #begun: Promise<Begun | undefined>;

  /**
   * Begins at once, in the background and behind all else that the host does.
   * @param disk a qcow2 overlay that a guest writes to, which may get further overlays before it is finished
   * @param directory where it lies until then
   */
  constructor(disk: DiskFile, directory: string) {
    this.#path = resolve(directory, 'ahead.vhd');
    // Whatever stands in its way: the disk is written when it is finished, and who does that hears of it.
    this.#begun = this.#begin(disk).catch(() => undefined);
  }

  async #begin(disk: DiskFile): Promise<Begun | undefined> {
    const { signal } = this.#stopped;
    const { backingFile, backingFormat, virtualSize } = await inspect(disk.path, disk.format, signal);
    if (backingFile === undefined) return undefined;
    const path = resolve(dirname(disk.path), backingFile);
    const chain = await chainOf({ path, format: backingFormat === 'raw' ? 'raw' : 'qcow2' }, signal);
    if (!chain) return undefined;
    // The last of the room is the guest's: it would stand still.
    await requireRoom(dirname(this.#path), chunksWithData(chain.extents).length * CHUNK);
    await rm(this.#path, { force: true });
    await createVhd(this.#path, vhdSize(virtualSize), signal);
    const base = asVhd(resized(chain, virtualSize), this.#path);
    const to = { path: this.#path, end: vhdSize(virtualSize) };
    return {
      virtualSize,
      base,
      pass: beginPass(base, chunksWithData(base.extents), { to, signal, threads: THREADS, idle: true }),
    };
  }

  /**
   * What `writeVhd` does, from what is there. Undefined, and nothing at `to`, where nothing can be made of that.
   * @param disk finished: nobody writes to it any more
   */
  async finish(disk: DiskFile, { to, signal, onProgress }: WriteOptions): Promise<WrittenDisk | undefined> {
    const begun = await this.#begun;
    const passed = begun && (await stopped(begun.pass));
    const chain = passed && (await chainOf(disk, signal));
    if (!chain || chain.virtualSize !== begun.virtualSize) {
      // Its room is needed for the other one.
      await rm(this.#path, { force: true });
      return undefined;
    }
    const source = asVhd(chain, this.#path);
    const now = placesOf(source);
    const before = placesOf(begun.base);
    const stays = new Map(
      passed.filter(({ index }) => now.get(index) === before.get(index)).map(chunk => [chunk.index, chunk]),
    );
    const end = vhdSize(chain.virtualSize);
    const wrong = passed.map(({ index }) => index).filter(index => !stays.has(index));
    const inOrder = wrong.toSorted((a, b) => a - b);
    await punch(this.#path, inOrder, end, signal);
    const rest = chunksWithData(source.extents).filter(index => !stays.has(index));
    const pass = beginPass(source, rest, {
      to: { path: this.#path, end },
      ...(signal && { signal }),
      ...(onProgress && { onProgress }),
    });
    await pass.ended;
    await sync(this.#path);
    await moveDurably(this.#path, resolve(to));
    return await written(to, digestsOf([...stays.values(), ...pass.passed], endOf(source.extents)), end);
  }

  /** Ends it, and what is there of it. Nothing where it is finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error('the VHD that was begun is not needed'));
    const begun = await this.#begun;
    await begun?.pass.ended.catch(() => {});
    await rm(this.#path, { force: true });
  }
}

/** What it got to. */
async function stopped(pass: Pass): Promise<readonly PassedChunk[] | undefined> {
  pass.stop();
  return await pass.ended.then(
    () => pass.passed,
    () => undefined,
  );
}

/** The same disk, cut off or with zeros behind it. */
function resized({ files, extents, virtualSize }: DiskChain, size: number): DiskChain {
  const within = extents
    .filter(({ start }) => start < size)
    .map(extent => ({ ...extent, length: Math.min(extent.length, size - extent.start) }));
  const more = size > virtualSize ? [{ start: virtualSize, length: size - virtualSize }] : [];
  return { files, extents: [...within, ...more], virtualSize: size };
}

/** Where the data of each chunk lies: the same text means the same bytes, as long as nobody writes to the files. */
function placesOf({ files, extents }: PassSource): Map<number, string> {
  const places = new Map<number, string>();
  for (const { start, length, at } of extents) {
    if (!at) continue;
    for (let chunk = Math.floor(start / CHUNK); chunk * CHUNK < start + length; chunk++) {
      const from = Math.max(start, chunk * CHUNK);
      const to = Math.min(start + length, (chunk + 1) * CHUNK);
      const place = `${from}-${to} ${at.offset + from - start} ${files[at.file]}\n`;
      places.set(chunk, (places.get(chunk) ?? '') + place);
    }
  }
  return places;
}

/** Ranges that one program is told of. */
const MOST_RANGES = 500;

/** Makes holes of chunks, or zeros where the file system has no holes; not of what lies behind `end`. */
async function punch(path: string, chunks: readonly number[], end: number, signal?: AbortSignal): Promise<void> {
  const ranges: DiskExtent[] = [];
  for (const chunk of chunks) {
    const start = chunk * CHUNK;
    const length = Math.min(CHUNK, end - start);
    const last = ranges.at(-1);
    if (length <= 0) continue;
    // QEMU takes at most 2 GiB at once.
    if (last && last.start + last.length === start && last.length < 256 * CHUNK)
      ranges[ranges.length - 1] = { ...last, length: last.length + length };
    else ranges.push({ start, length });
  }
  for (let first = 0; first < ranges.length; first += MOST_RANGES) {
    const commands = ranges
      .slice(first, first + MOST_RANGES)
      .map(({ start, length }) => `write -q -z -u ${start} ${length}`);
    const told = commands.flatMap(command => ['-c', command]);
    await run('qemu-io', ['-d', 'unmap', '-f', 'raw', ...told, path], signal ? { signal } : {});
  }
}
