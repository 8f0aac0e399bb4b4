/** Which stored layers a build takes: what its caller, and the template, say of it. */
import { KilnError } from '../../arm/errors.ts';
import type { Phase, PhaseKind } from '../phase.ts';
import type { LayerRecord } from './record.ts';
import type { LayerStore } from './store.ts';

export interface StepCache {
  readonly store: LayerStore;
  /** Whether a stored layer may be taken. */
  readonly takes: (record: LayerRecord, phase: Phase) => boolean;
  /** Layers are there for other builds too. */
  readonly shared: boolean;
  /** Indexes of customizers whose outcome their inputs do not tell. */
  readonly neverSteps: readonly number[];
  /** A step, by its number, its name, or the kind of its phase: it and what follows runs, whatever is stored. */
  readonly fresh?: string | undefined;
  /** The same, and refused where the layer before it is not stored. */
  readonly from?: string | undefined;
  /** What to do where that layer is not stored, for people. */
  readonly otherwise?: string;
}

/** The limits that follow for the phases. Errors: UsageError for a step that is none. */
export function limitsOf(
  phases: readonly Phase[],
  { neverSteps, fresh, from, otherwise }: Omit<StepCache, 'store' | 'takes'>,
) {
  const first = phases.findIndex(({ kind }) => kind === 'customize');
  const never = neverSteps.map(index => first + index);
  const word = from ?? fresh;
  return {
    neverFrom: Math.min(phases.length, ...never),
    freshFrom: word === undefined ? phases.length : stepIndex(phases, word),
    required: from !== undefined,
    ...(otherwise !== undefined && { otherwise }),
  };
}

const KINDS: readonly PhaseKind[] = ['boot', 'generalize', 'capture', 'optimize', 'prove', 'distribute'];

/** Before there is a run that could fail of it. Errors: UsageError for a step that no build of these customizers has. */
export function checkStep(customize: readonly { readonly type: string; readonly name?: string }[], word: string): void {
  const { length } = customize;
  const steps = customize.map(({ type, name }, index) => ({
    kind: 'customize' as const,
    name: `${index + 1}/${length} ${type}${name ? ` "${name}"` : ''}`,
  }));
  stepIndex([{ kind: 'source', name: '' }, ...steps, ...KINDS.map(kind => ({ kind, name: '' }))], word);
}

/** Errors: UsageError. */
export function stepIndex(phases: readonly Pick<Phase, 'kind' | 'name'>[], word: string): number {
  const steps = [...phases.keys()].filter(index => phases[index]!.kind === 'customize');
  const named = steps.filter(index => nameOf(phases[index]!) === word);
  if (named.length === 1) return named[0]!;
  if (/^\d+$/.test(word) && steps[Number(word) - 1] !== undefined) return steps[Number(word) - 1]!;
  const kind = KINDS.some(kind => kind === word) ? phases.findIndex(phase => phase.kind === word) : -1;
  if (kind > 0) return kind;
  const kinds = KINDS.filter(other => phases.some(phase => phase.kind === other));
  const known = steps.map((index, n) => nameOf(phases[index]!) || String(n + 1));
  throw new KilnError(
    'UsageError',
    named.length > 1 ? `Several steps are called "${word}".` : `The template has no step "${word}".`,
    { hint: `Steps by number or name: ${[...known, ...kinds].join(', ')}.` },
  );
}

/** The name that the template gives the step, of `2/3 Shell "install"`. */
const nameOf = ({ name }: Pick<Phase, 'name'>): string => /^\d+\/\d+ \S+ "(.*)"$/s.exec(name)?.[1] ?? '';
