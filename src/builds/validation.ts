/**
 * The part of a build that takes place in the image that is to be validated: its phases have a log of their own, as Azure's have (contract 3.4), and what they
 * hold (the machine, its disk) is freed when the last of them is over, before anything is distributed.
 */
import type { BuildLog } from './log.ts';
import type { Phase } from './phase.ts';

export interface Validation {
  /** The phase as it runs here; `index` is its place among all. */
  host(phase: Phase, index: number): Phase;
  /** Gives away what is held: whoever asks has to free it. */
  yield(): AsyncDisposableStack;
  /** Frees what is held, and closes the log. Safe at any time and more than once. */
  end(): Promise<void>;
}

export const isValidation = ({ subState }: Phase): boolean => subState === 'Validating';

export function openValidation(openLog: () => BuildLog): Validation {
  let held = new AsyncDisposableStack();
  let log: BuildLog | undefined;
  let failure: string | undefined;
  return {
    host: (phase, index) => ({
      ...phase,
      async run(state, context) {
        log ??= openLog();
        log.phase = index;
        try {
          return await phase.run(state, { ...context, log, own: one => void held.use(one) });
        } catch (error) {
          failure = (error as Error).message;
          throw error;
        }
      },
    }),
    yield() {
      const given = held;
      held = new AsyncDisposableStack();
      return given;
    },
    async end() {
      const [ended, closing] = [held, log];
      held = new AsyncDisposableStack();
      log = undefined;
      await ended.disposeAsync();
      closing?.end(failure);
      await closing?.close();
    },
  };
}
