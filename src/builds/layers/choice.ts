/** Which stored layers a build takes: what its caller, and the template, say of it. */
import { KilnError } from '../../arm/errors.ts';
import type { Phase } from '../phase.ts';
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
}

/** The limits that follow for the phases. Errors: UsageError for a step that is none. */
export function limitsOf(phases: readonly Phase[], { neverSteps, fresh, from }: Omit<StepCache, 'store' | 'takes'>) {
  const first = phases.findIndex(({ kind }) => kind === 'customize');
  const never = neverSteps.map(index => first + index);
  const word = from ?? fresh;
  return {
    neverFrom: Math.min(phases.length, ...never),
    freshFrom: word === undefined ? phases.length : stepIndex(phases, word),
    required: from !== undefined,
  };
}

const KINDS: readonly string[] = ['boot', 'generalize', 'capture', 'prove', 'distribute'];

/** Errors: UsageError. */
export function stepIndex(phases: readonly Phase[], word: string): number {
  const steps = [...phases.keys()].filter(index => phases[index]!.kind === 'customize');
  const named = steps.filter(index => nameOf(phases[index]!) === word);
  if (named.length === 1) return named[0]!;
  if (/^\d+$/.test(word) && steps[Number(word) - 1] !== undefined) return steps[Number(word) - 1]!;
  const kind = KINDS.includes(word) ? phases.findIndex(phase => phase.kind === word) : -1;
  if (kind > 0) return kind;
  const known = steps.map((index, n) => nameOf(phases[index]!) || String(n + 1));
  throw new KilnError(
    'UsageError',
    named.length > 1 ? `Several steps are called "${word}".` : `The template has no step "${word}".`,
    { target: word, hint: `Steps by number or name: ${[...known, ...KINDS].join(', ')}.` },
  );
}

/** The name that the template gives the step, of `2/3 Shell "install"`. */
const nameOf = ({ name }: Phase): string => /^\d+\/\d+ \S+ "(.*)"$/s.exec(name)?.[1] ?? '';
