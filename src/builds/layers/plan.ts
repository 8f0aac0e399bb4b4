/** What a build would do: its phases with their keys, and which of them are stored. Nothing runs, nothing is fetched. */
import { type BuildRequest, phasesOf } from '../build.ts';
import { distributePhase } from '../distributors/distribute.ts';
import { keysOf, sourceKey } from '../layer.ts';
import type { PhaseKind } from '../phase.ts';
import { limitsOf } from './choice.ts';
import { furthestStored } from './stored.ts';

export interface PlannedPhase {
  readonly kind: PhaseKind;
  readonly name: string;
  /** Missing where the source is not on this host yet. */
  readonly key?: string;
  readonly cached: boolean;
  /** When its layer was made; ISO 8601. */
  readonly madeAt?: string;
}

/** @param content what the source's phase would say of its image; missing where that is not known yet */
export async function planOf(
  request: BuildRequest,
  content: Readonly<Record<string, unknown>> | undefined,
): Promise<PlannedPhase[]> {
  const { runId, templateId } = request;
  const distribute = request.distribute.map(target => distributePhase(target, '/nonexistent', { runId, templateId }));
  const phases = phasesOf(request, distribute);
  const keys = content && keysOf(phases, sourceKey(phases[0]!, content));
  const { cache } = request;
  const choice = cache && { ...cache, ...limitsOf(phases, cache) };
  const stored = choice && keys && (await furthestStored(choice, phases, keys));
  const plan: PlannedPhase[] = [];
  for (const [index, { kind, name, layer }] of phases.entries()) {
    const cached = index === 0 ? content !== undefined : index <= (stored?.index ?? 0);
    const record = cached && layer && keys ? await cache?.store.look(keys[index]!) : undefined;
    const key = keys?.[index];
    plan.push({ kind, name, cached, ...(key !== undefined && { key }), ...(record && { madeAt: record.madeAt }) });
  }
  return plan;
}
