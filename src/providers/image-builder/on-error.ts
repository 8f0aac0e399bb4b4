/** What becomes of the machine when a step fails: what the person at the host says, or the template's errorHandling. */
import type { Failure, Keeper } from '../../builds/keep.ts';
import type { KeptMachines } from './kept-machines.ts';
import type { ImageTemplate } from './normalise.ts';

/** How long a machine is kept where nobody says otherwise (minutes). */
export const KEPT_MINUTES = 60;
/** How many a server keeps at a time, where its operator says nothing. */
export const KEPT_AT_ONCE = 2;

export const ON_ERROR = ['ask', 'keep', 'clean'] as const;

/** Of whoever builds at this host. */
export interface ErrorWish {
  readonly action: (typeof ON_ERROR)[number];
  readonly minutes?: number;
}

export interface KeeperOptions {
  readonly runId: string;
  readonly kept: KeptMachines;
  readonly template: ImageTemplate;
  /** Missing, in a run of the API: what the template says. */
  readonly wish?: ErrorWish | undefined;
  readonly local: boolean;
  /** How many machines of API runs are kept at a time. */
  readonly atMost?: number | undefined;
  /** Asks whoever watches; missing, or where nobody does: the machine is ended. */
  readonly ask?: ((failure: Failure) => Promise<'keep' | 'clean'>) | undefined;
}

export function keeperOf(options: KeeperOptions): Keeper {
  const { runId, kept, local, wish } = options;
  return async failure => {
    if ((await actionOf(options, failure)) === 'clean') return undefined;
    const { memoryMiB } = failure.machine.shape;
    return await kept.reserve(runId, {
      minutes: wish?.minutes ?? KEPT_MINUTES,
      memoryMiB,
      ...(!local && { atMost: options.atMost ?? KEPT_AT_ONCE }),
    });
  };
}

async function actionOf({ template, wish, local, ask }: KeeperOptions, failure: Failure): Promise<'keep' | 'clean'> {
  if (wish) return wish.action === 'ask' ? ((await ask?.(failure)) ?? 'clean') : wish.action;
  if (local) return 'clean';
  const field = failure.phase.kind === 'validate' ? 'onValidationError' : 'onCustomizerError';
  return template.properties.errorHandling?.[field] === 'abort' ? 'keep' : 'clean';
}
