/**
 * How a build ended, from how its phases ended: the same whether the build itself says it, or the rows of one whose process died before it could.
 */
import { ERRORS, type ErrorBody, type ErrorCode } from '../arm/errors.ts';
import { publicMessage } from '../arm/public-error.ts';
import type { PhaseKind } from './phase.ts';

export interface PhaseEnd {
  readonly kind: PhaseKind;
  readonly name: string;
  readonly state: 'Succeeded' | 'Failed' | 'Canceled' | 'Skipped';
  readonly error: ErrorBody | null;
}

/** Words of `lastRunStatus.runState`. */
export type BuildOutcome =
  | { readonly state: 'Succeeded' }
  | { readonly state: 'PartiallySucceeded' | 'Failed' | 'Canceled'; readonly error: ErrorBody };

/** What ends a whole build wherever it happens: nobody's fault but that of whoever wanted it, the clock, or the process. */
const ENDINGS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['Canceled', 'Timeout', 'WorkerLost']);

/** Of a build that an error ended before its phases could say more. */
export const endedBy = (error: ErrorBody): BuildOutcome => ({
  state: error.code === 'Canceled' ? 'Canceled' : 'Failed',
  error,
});

/** @param phases all of the build, in order, each at its end */
export function outcomeOf(phases: readonly PhaseEnd[]): BuildOutcome {
  const failures = phases.flatMap(({ kind, error }) => (error ? [{ kind, error }] : []));
  const ended = failures.find(({ error }) => ENDINGS.has(error.code));
  const targets = phases.filter(({ kind }) => kind === 'distribute');
  const some = targets.some(({ state }) => state === 'Succeeded');
  if (ended) {
    // The clock takes nothing back (contract 3.3: some but not all); who cancels wants to be told so.
    const partial = ended.error.code === 'Timeout' && some && failures.every(({ kind }) => kind === 'distribute');
    return partial ? { state: 'PartiallySucceeded', error: ended.error } : endedBy(ended.error);
  }
  const unpublished = targets.some(({ error }) => error) ? distributionError(targets) : undefined;
  // A validator that failed fails the run, whatever was distributed (contract 1.3).
  const before = failures.find(({ kind }) => kind !== 'distribute');
  if (before) return { state: 'Failed', error: unpublished ? withDetail(before.error, unpublished) : before.error };
  if (!unpublished) return { state: 'Succeeded' };
  return { state: some ? 'PartiallySucceeded' : 'Failed', error: unpublished };
}

const withDetail = (error: ErrorBody, more: ErrorBody): ErrorBody => ({
  ...error,
  details: [...(error.details ?? []), more],
});

const PREFIX = 'Failed in distributing ';

/** Azure's sentence for what could not be published (contract 3.2), with Kiln's reason in the place of its own. */
export function distributionError(targets: readonly PhaseEnd[]): ErrorBody {
  // What was not even begun when the build ended has failed of the same.
  const ending = targets.find(({ error }) => error && ENDINGS.has(error.code))?.error;
  const failed = targets.flatMap(({ name, state, error: own }, index): (ErrorBody & { index: number })[] => {
    const error = own ?? (state === 'Skipped' ? ending : undefined);
    if (!error) return [];
    const { code, hint } = error;
    // Azure's words for a build whose time was over while images were distributed; scripts look for them.
    const message = `${code === 'Timeout' ? 'context deadline exceeded: ' : ''}${publicMessage(error)}`;
    return [
      {
        index,
        code,
        message: message.startsWith(name) ? message : `${name}: ${message}`,
        target: `properties.distribute[${index}]`,
        hint: hint ?? ERRORS[code].remedy,
      },
    ];
  });
  const reasons = failed.map(({ index, message }, number) => `[Error ${number}] [Distribute ${index}] ${message}`);
  const [first] = failed;
  const details = failed.map(({ index: _, ...body }) => body);
  // One reason for all of them (a full disk) says more than that they failed.
  const shared = failed.length === targets.length && failed.every(({ code }) => code === first!.code);
  return {
    code: shared ? first!.code : 'DistributionFailed',
    message: `${PREFIX}${failed.length} images out of total ${targets.length}: {${reasons.join(' ')}}`,
    ...(failed.length === 1
      ? { target: first!.target!, hint: first!.hint! }
      : { target: 'properties.distribute', details }),
  };
}

/** Whether the message begins with the sentence for images that could not be published. */
export const isDistributionError = ({ message }: ErrorBody): boolean => message.startsWith(PREFIX);
