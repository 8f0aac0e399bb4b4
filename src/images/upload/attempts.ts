/** A request is made again while the trouble is the network's or the service's, each time after a longer pause. */
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';

/** A failure that another attempt may not meet. */
export class Interrupted extends Error {
  /** Milliseconds that the service wants to be left alone for. */
  readonly after: number | undefined;
  constructor(message: string, after?: number) {
    super(message);
    this.after = after;
  }
}

export interface AttemptOptions {
  readonly signal: AbortSignal;
  /** At most. Default: 9. */
  readonly attempts?: number | undefined;
  /** Milliseconds before the second attempt; each further one waits twice as long, 30 s at most. Default: 500. */
  readonly pause?: number | undefined;
  /** For people: whose request it is. */
  readonly name: string;
  /** For people: `writing pages`. */
  readonly what: string;
}

const ATTEMPTS = 9;
const PAUSE = 500;
const LONGEST_PAUSE = 30_000;
/** What a service asks for is kept to, within reason. */
const LONGEST_WISH = 60_000;

/** Errors: UploadFailed after the last attempt; what is not Interrupted, at once; the signal's reason. */
export async function repeatedly<T>(attempt: () => Promise<T>, options: AttemptOptions): Promise<T> {
  const { signal, attempts = ATTEMPTS, pause = PAUSE, name, what } = options;
  for (let number = 1; ; number++) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Interrupted)) throw error;
      if (number === attempts)
        throw new KilnError(
          'UploadFailed',
          `${name}: ${what} failed ${number === 1 ? 'once' : `${number} times`}, at last because ${error.message}.`,
          { target: name, cause: error },
        );
      // Several requests that failed at once are not to come again at once.
      const next = Math.min(pause * 2 ** (number - 1), LONGEST_PAUSE) * (0.75 + Math.random() / 2);
      const wait = error.after === undefined ? next : Math.min(error.after, LONGEST_WISH);
      await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}
