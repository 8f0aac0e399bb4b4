/** Who reads which files: a blob that is deleted while somebody reads it is read to its end. */

export class Readers {
  readonly #reading = new Map<string, number>();
  readonly #looking = new Set<Promise<unknown>>();
  readonly #onEnd: () => void;

  /** `onEnd`: a file is no longer read. */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  /**
   * Looks a blob's files up, and holds them from the moment that they are known. The returned function lets them go; it must be called once, and may be called
   * again.
   */
  async hold<T>(
    look: () => Promise<T>,
    filesOf: (found: T) => Iterable<string>,
  ): Promise<{ readonly found: T; readonly release: () => void }> {
    let held: readonly string[] = [];
    const looking = look().then(found => {
      held = [...new Set(filesOf(found))];
      for (const file of held) this.#reading.set(file, (this.#reading.get(file) ?? 0) + 1);
      return found;
    });
    this.#looking.add(looking);
    try {
      const found = await looking;
      let released = false;
      return {
        found,
        release: () => {
          if (released) return;
          released = true;
          for (const file of held) {
            const left = this.#reading.get(file)! - 1;
            if (left > 0) this.#reading.set(file, left);
            else this.#reading.delete(file);
          }
          if (held.length > 0) this.#onEnd();
        },
      };
    } finally {
      this.#looking.delete(looking);
    }
  }

  /** Resolves when everybody who began to look before knows what they hold. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#looking]);
  }

  has(file: string): boolean {
    return this.#reading.has(file);
  }
}
