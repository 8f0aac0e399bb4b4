/** The engine of a build: one loop over its phases. */
import { asKilnError, errorBody, KilnError } from '../arm/errors.ts';
import { keysOf, layerKey } from './layer.ts';
import { ago } from './layers/age.ts';
import type { CachedPhase, LayerSession } from './layers/session.ts';
import type { PhaseEnd } from './outcome.ts';
import type { BuildState, Phase, PhaseContext, PhaseResult } from './phase.ts';

/** Told of every phase; awaited, so that what it keeps is true before the build goes on. */
export interface Recorder {
  started(index: number, phase: Phase, key: string): Promise<void>;
  /** @param key what later keys build on: of a source, that of what it turned out to be */
  succeeded(index: number, phase: Phase, result: PhaseResult, key: string): Promise<void>;
  /** @param skipped the indexes of the phases that will not run because of it */
  failed(index: number, phase: Phase, error: KilnError, skipped: readonly number[]): Promise<void>;
}

export interface Folded {
  readonly state: BuildState;
  /** Of all phases, in order. */
  readonly ends: readonly PhaseEnd[];
}

/**
 * Runs the phases in order. A failure means for the others what its phase says (`onFailure`); its error carries the phase as its target when it has
 * none of its own. What `layers` has stored is not run. One that ends the build is thrown. An abort surfaces as the signal's reason, whatever the phase made of it.
 */
export async function fold(
  phases: readonly Phase[],
  context: PhaseContext,
  recorder: Recorder,
  layers?: LayerSession,
): Promise<Folded> {
  let state: BuildState = {};
  let parent = '';
  const ends: PhaseEnd[] = [];
  for (let index = 0; index < phases.length; index++) {
    const phase = phases[index]!;
    const key = layerKey(parent, phase);
    if (phase.lane !== undefined) {
      const rest = await foldLanes(phases, index, { parent, state, context, recorder });
      return { state, ends: [...ends, ...rest] };
    }
    await recorder.started(index, phase, key);
    try {
      context.signal.throwIfAborted();
      const jump = index > 0 ? await layers?.reach(index, state) : undefined;
      if (jump) {
        state = jump.state;
        for (const first = index; ; index++) {
          const cached = phases[index]!;
          parent = layerKey(parent, cached);
          if (index > first) await recorder.started(index, cached, parent);
          const seen = jump.seen(index);
          context.log.say(sentence(cached, seen));
          const { summary, detail, ...times } = seen;
          if (summary !== undefined) context.log.say(summary);
          await recorder.succeeded(index, cached, { state, cached: true, detail: { ...detail, ...times } }, parent);
          ends[index] = end(cached, 'Succeeded');
          if (index === jump.index) break;
        }
        continue;
      }
      const begun = performance.now();
      const result = await phase.run(state, context);
      if (result.summary !== undefined) context.log.say(result.summary);
      parent = result.content ? layerKey('', { ...phase, inputs: result.content }) : key;
      state = result.state;
      if (index === 0) layers?.begin(keysOf(phases, parent));
      else state = (await layers?.keep(index, result, (performance.now() - begun) / 1000)) ?? state;
      await recorder.succeeded(index, phase, { ...result, state }, parent);
      ends[index] = end(phase, 'Succeeded');
    } catch (thrown) {
      const { aborted, reason } = context.signal;
      const error = located(aborted ? reason : thrown, phase);
      const next = aborted ? phases.length : nextAfter(phases, index);
      const skipped = phases.map((_, other) => other).slice(index + 1, next);
      // What went wrong first is what is told: the record fails too when the disk is full.
      await recorder.failed(index, phase, error, skipped).catch(() => {});
      if (aborted || (phase.onFailure ?? 'end') === 'end') throw error;
      ends[index] = end(phase, 'Failed', error);
      for (const other of skipped) ends[other] = end(phases[other]!, 'Skipped');
      index = next - 1;
    }
  }
  return { state, ends };
}

interface LaneFold {
  readonly parent: string;
  readonly state: BuildState;
  readonly context: PhaseContext;
  readonly recorder: Recorder;
}

/** The phases from `first` on, lanes at once. What ends the build is thrown when all of them have come to rest. */
async function foldLanes(phases: readonly Phase[], first: number, fold: LaneFold): Promise<PhaseEnd[]> {
  const { state, recorder } = fold;
  const { signal, log } = fold.context;
  const ends: PhaseEnd[] = [];
  const [, ...keys] = keysOf([phases[first]!, ...phases.slice(first)], fold.parent);
  const lanes = Map.groupBy([...phases.keys()].slice(first), index => phases[index]!.lane);
  const untold: (() => Promise<void>)[] = [];
  const results = await Promise.allSettled([...lanes.values()].map(run));
  for (const tell of untold)
    await tell().catch(error =>
      log.say(`That an image is published could not be recorded: ${(error as Error).message}`),
    );
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return ends;

  async function run(lane: readonly number[]): Promise<void> {
    for (const [at, index] of lane.entries()) {
      const phase = phases[index]!;
      const key = keys[index - first]!;
      await recorder.started(index, phase, key);
      try {
        signal.throwIfAborted();
        const context = { ...fold.context, log: { ...log, ...log.of(index) } };
        const result = await phase.run(state, context);
        ends[index - first] = end(phase, 'Succeeded');
        // What is published is published, whether that can be written down or not.
        const tell = () => recorder.succeeded(index, phase, result, key);
        await tell().catch(() => void untold.push(tell));
      } catch (thrown) {
        const error = located(signal.aborted ? signal.reason : thrown, phase);
        const over = signal.aborted || (phase.onFailure ?? 'end') === 'end';
        await recorder.failed(index, phase, error, over ? lane.slice(at + 1) : []).catch(() => {});
        if (over) throw error;
        ends[index - first] = end(phase, 'Failed', error);
      }
    }
  }
}

/** `CACHED customize 2/3 Shell "install": made 3 hours ago, saves 41 s`. */
function sentence({ kind, name }: Phase, { madeAt, savedSeconds }: CachedPhase): string {
  const facts = [
    ...(madeAt === undefined ? [] : [`made ${ago(madeAt)}`]),
    ...(savedSeconds === undefined ? [] : [`saves ${savedSeconds.toFixed(savedSeconds < 10 ? 1 : 0)} s`]),
  ];
  return `CACHED ${kind} ${name}${facts.length > 0 ? `: ${facts.join(', ')}` : ''}`;
}

const end = ({ kind, name }: Phase, state: PhaseEnd['state'], error?: KilnError): PhaseEnd => ({
  kind,
  name,
  state,
  error: error ? errorBody(error) : null,
});

/** The index of the phase that goes on after a failure; the number of phases when none does. */
function nextAfter(phases: readonly Phase[], index: number): number {
  const { kind, onFailure = 'end' } = phases[index]!;
  if (onFailure === 'next') return index + 1;
  const next = onFailure === 'end' ? -1 : phases.findIndex((other, at) => at > index && other.kind !== kind);
  return next === -1 ? phases.length : next;
}

function located(thrown: unknown, phase: Phase): KilnError {
  const error = asKilnError(thrown);
  if (error.target !== undefined) return error;
  return new KilnError(error.code, error.message, {
    target: `${phase.kind}: ${phase.name}`,
    details: error.details,
    cause: error.cause ?? thrown,
    ...(error.hint !== undefined && { hint: error.hint }),
  });
}
