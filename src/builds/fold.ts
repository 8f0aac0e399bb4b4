/** The engine of a build: one loop over its phases. */
import { asKilnError, KilnError } from '../arm/errors.ts';
import { layerKey } from './layer.ts';
import type { BuildState, Phase, PhaseContext, PhaseResult } from './phase.ts';

/** Told of every phase; awaited, so that what it keeps is true before the build goes on. */
export interface Recorder {
  started(index: number, phase: Phase, key: string): Promise<void>;
  succeeded(index: number, phase: Phase, result: PhaseResult): Promise<void>;
  failed(index: number, phase: Phase, error: KilnError): Promise<void>;
}

/**
 * Runs the phases in order. The first failure ends the fold; its error carries the phase as its target when it has
 * none of its own. An abort surfaces as the signal's reason, whatever the phase made of it.
 */
export async function fold(phases: readonly Phase[], context: PhaseContext, recorder: Recorder): Promise<BuildState> {
  let state: BuildState = {};
  let parent = '';
  for (const [index, phase] of phases.entries()) {
    const key = layerKey(parent, phase);
    await recorder.started(index, phase, key);
    try {
      context.signal.throwIfAborted();
      const result = await phase.run(state, context);
      await recorder.succeeded(index, phase, result);
      state = result.state;
      parent = result.content ? layerKey('', { ...phase, inputs: result.content }) : key;
    } catch (thrown) {
      const error = located(context.signal.aborted ? context.signal.reason : thrown, phase);
      // What went wrong first is what is told: the record fails too when the disk is full.
      await recorder.failed(index, phase, error).catch(() => {});
      throw error;
    }
  }
  return state;
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
