/** Tokens that were proven a moment ago: a client sends the same one with every request, and neither RSA nor the database need be asked each time. */
import type { Caller } from '../arm/caller.ts';
import type { VerifiedToken } from './tokens.ts';

const MOST = 1000;
/** Deletions are heard of at once; this is for a notification that got lost (ms). */
const RECHECK_AFTER = 5_000;

export interface KnownToken extends VerifiedToken {
  readonly caller: Caller;
}

export class VerifiedTokens {
  /** Counts deletions heard of: what was read before one may be wrong after it. */
  heard = 0;
  readonly #known = new Map<string, { readonly token: KnownToken; readonly since: number }>();

  /** A token that need not be proven again. `listening`: deletions are heard of. */
  get(text: string, now: number, listening: boolean): KnownToken | undefined {
    const entry = this.#known.get(text);
    if (!entry) return undefined;
    if (listening && now < entry.token.expires && now >= entry.since && now - entry.since < RECHECK_AFTER)
      return entry.token;
    this.#known.delete(text);
    return undefined;
  }

  /** `heard` as it was before the principal was read. */
  add(text: string, token: KnownToken, now: number, heard: number): void {
    if (heard !== this.heard) return;
    // The oldest goes: it is the first to be checked again anyway.
    if (this.#known.size >= MOST) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(text, { token, since: now });
  }

  /** A principal was deleted. */
  forget(objectId: string): void {
    this.heard += 1;
    for (const [text, { token }] of this.#known) if (token.objectId === objectId) this.#known.delete(text);
  }

  clear(): void {
    this.heard += 1;
    this.#known.clear();
  }
}
