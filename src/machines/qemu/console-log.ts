/** The file that a guest's serial console goes to: bounded, because a guest can write to its console without end. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { ByteFilter } from '../machine.ts';

const MEBIBYTE = 1024 ** 2;

export interface ConsoleLimits {
  /** The file never gets longer than this, in bytes. */
  readonly most: number;
  /** What stays from its beginning, */
  readonly first: number;
  /** and of its end, whenever it is full. `first + last` is well below `most`. */
  readonly last: number;
}

export interface ConsoleOptions {
  readonly limits?: ConsoleLimits;
  /** Takes out of it what nobody is to read there. Last words are heard before. */
  readonly filter?: ByteFilter | undefined;
}

const LIMITS: ConsoleLimits = Object.freeze({ most: 16 * MEBIBYTE, first: 8 * MEBIBYTE, last: MEBIBYTE });

const NOTICE = '\n[Kiln has left out a part of this console here: it became too long.]\n';

/** What says on a console that nothing more will come: of a Linux kernel, and of UEFI firmware that has tried all that it may start. */
const LAST_WORDS = Object.freeze({
  panic: 'Kernel panic - not syncing',
  nothingToBoot: 'No bootable option or device was found',
});
export type LastWords = keyof typeof LAST_WORDS;
const LONGEST = Math.max(...Object.values(LAST_WORDS).map(words => words.length));

/**
 * Appends to a console's file and watches it for last words. Writes are immediate, so that the file's end is always what the
 * guest said last. A full disk costs the log, not the build.
 */
export class ConsoleLog {
  /** Called once for each of them, when it has been printed. The bytes come from the guest: it may lie. */
  onLastWords: ((which: LastWords) => void) | undefined;
  readonly #limits: ConsoleLimits;
  readonly #filter: ByteFilter | undefined;
  #fd: number | undefined;
  #size: number;
  #seen = '';
  readonly #heard = new Set<LastWords>();

  private constructor(fd: number, { limits = LIMITS, filter }: ConsoleOptions) {
    this.#fd = fd;
    this.#limits = limits;
    this.#filter = filter;
    this.#size = fstatSync(fd).size;
  }

  static open(file: string, options: ConsoleOptions = {}): ConsoleLog {
    return new ConsoleLog(openSync(file, 'a+', 0o644), options);
  }

  write(chunk: Buffer): void {
    this.#watch(chunk);
    this.#append(this.#filter ? this.#filter.push(chunk) : chunk);
  }

  #append(chunk: Buffer): void {
    if (this.#fd === undefined) return;
    try {
      const { most, last } = this.#limits;
      // More at once than is kept of the end anyway.
      const kept = chunk.length > last ? chunk.subarray(chunk.length - last) : chunk;
      if (this.#size + kept.length > most) this.#shorten(this.#fd);
      this.#size += writeSync(this.#fd, kept);
    } catch {
      // see above
    }
  }

  /** Safe more than once. */
  close(): void {
    if (this.#fd === undefined) return;
    if (this.#filter) this.#append(this.#filter.end());
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  #shorten(fd: number): void {
    const { first, last } = this.#limits;
    const end = Buffer.alloc(last);
    const length = readSync(fd, end, 0, last, Math.max(first, this.#size - last));
    ftruncateSync(fd, first);
    this.#size = first;
    this.#size += writeSync(fd, NOTICE);
    this.#size += writeSync(fd, end, 0, length);
  }

  #watch(chunk: Buffer): void {
    this.#seen += chunk.toString('latin1');
    for (const [which, words] of Object.entries(LAST_WORDS) as [LastWords, string][]) {
      if (this.#heard.has(which) || !this.#seen.includes(words)) continue;
      this.#heard.add(which);
      this.onLastWords?.(which);
    }
    // The words may come in two pieces.
    this.#seen = this.#seen.slice(-LONGEST);
  }
}
