/**
 * Distributing again what a run could not, without building: a run of its own, which takes the finished image of the newest run out of the layer store, leaves alone
 * the targets that have it, and goes to the others. It is asked for: a plain run after a partly successful one builds anew, as Azure does, for who runs a template
 * again may well want what is new since.
 */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import type { Target } from '../../builds/distributors/distribute.ts';
import type { LayerRecord } from '../../builds/layers/record.ts';
import type { PhaseRow, Schema } from '../../database/schema.ts';
import type { MachineKind, MachineShape } from '../../machines/machine.ts';
import type { StoredResource } from '../store.ts';
import type { ImageTemplateProperties } from './normalise.ts';

export interface Retry {
  readonly runId: string;
  /** Whether a stored layer is that run's. */
  takes(record: LayerRecord): boolean;
  /** What the run says of a target that has its image; undefined of one that it goes to now. */
  published(target: Target): Readonly<Record<string, unknown>> | undefined;
  /** The source as that run found it, whatever `latest` means now. */
  source(source: ImageTemplateProperties['source']): ImageTemplateProperties['source'];
}

/**
 * Only the newest run of a template, for a retry of an older one would put its image above a newer one's; and only one whose image was made, proven and validated,
 * so that all it lacks is distribution. @returns what the run was asked for, which the image follows from. Errors: Conflict.
 */
export async function requireRetryable(
  database: Kysely<Schema>,
  template: StoredResource,
  runId: string,
): Promise<RetriedInput> {
  const refuse = (sentence: string, hint: string) => new KilnError('Conflict', sentence, { target: runId, hint });
  const newest = await newestRun(database, template);
  if (newest?.id !== runId)
    throw refuse(
      `Run ${runId} is not the newest of the template ${template.name}${newest ? `: that is ${newest.id}` : ''}.`,
      'Retry the newest one, or run the template again.',
    );
  if (newest.state === 'Succeeded') throw refuse(`Run ${runId} has distributed everything.`, 'There is nothing to do.');
  const phases = await phasesOf(database, runId);
  const before = phases.filter(({ kind }) => kind !== 'distribute');
  if (!before.some(isCaptured) || before.some(({ state }) => state !== 'Succeeded'))
    throw refuse(
      `Run ${runId} did not fail in distributing: it has no finished image.`,
      'Run the template again: it goes on after the last step that went well.',
    );
  const { catalogue, machine = (newest.machine as MachineShape | null)?.kind } = (newest.input ?? {}) as RetriedInput;
  return { ...(catalogue !== undefined && { catalogue }), ...(machine !== undefined && { machine }) };
}

/** Of the input of a run. */
interface RetriedInput {
  readonly catalogue?: string;
  readonly machine?: MachineKind;
}

/** Retries that came to nothing before they had the image (rights that were missing, say) leave it to the run before them. */
async function newestRun(database: Kysely<Schema>, template: StoredResource) {
  const runs = await database
    .selectFrom('run')
    .leftJoin('operation', 'operation.id', 'run.operation_id')
    .select(['run.id', 'run.state', 'run.machine', 'operation.input'])
    .where('run.template_id', '=', idKey(template.id))
    .where('run.created_at', '>=', template.createdAt)
    .orderBy('run.created_at', 'desc')
    .limit(20)
    .execute();
  for (const run of runs) {
    const isRetry = (run.input as { retry?: unknown } | null)?.retry !== undefined;
    if (!isRetry || (await phasesOf(database, run.id)).some(isCaptured)) return run;
  }
  return undefined;
}

const isCaptured = ({ kind, state }: PhaseRow): boolean => kind === 'capture' && state === 'Succeeded';

/** What is known of the run when its retry begins. Errors: NotFound. */
export async function retryOf(database: Kysely<Schema>, runId: string): Promise<Retry> {
  const phases = await phasesOf(database, runId);
  if (phases.length === 0)
    throw new KilnError('NotFound', `Nothing is known of run ${runId} any more.`, { target: runId });
  const of = <Value>(phase: PhaseRow | undefined, name: string) =>
    (phase?.detail as Readonly<Record<string, Value>> | null | undefined)?.[name];
  // A run that took a layer knows when it was made: no two of one key are of the same moment.
  const taken = new Set(phases.flatMap(phase => (phase.cached ? [of<string>(phase, 'madeAt')] : [])));
  const outputs = await database.selectFrom('run_output').select('name').where('run_id', '=', runId).execute();
  // Written with what is published: the phase's own end comes after it, and may have been lost.
  const published = new Set<unknown>(outputs.map(({ name }) => name));
  const done = phases.filter(
    phase =>
      phase.kind === 'distribute' && (phase.state === 'Succeeded' || published.has(of<string>(phase, 'runOutputName'))),
  );
  const exactVersion = of<string>(phases[0], 'exactVersion');
  return {
    runId,
    takes: record => record.runId === runId || taken.has(record.madeAt),
    published(target) {
      const found = done.find(
        phase => of(phase, 'runOutputName') === target.runOutputName && of(phase, 'to') === target.lane,
      );
      return found && { ...(found.detail as Record<string, unknown>), publishedBy: of(found, 'publishedBy') ?? runId };
    },
    source(source) {
      if (exactVersion === undefined) return source;
      if (source.type === 'PlatformImage') return { ...source, version: exactVersion };
      if (source.type !== 'SharedImageVersion') return source;
      return { ...source, imageVersionId: source.imageVersionId.replace(/\/latest\/?$/i, `/${exactVersion}`) };
    },
  };
}

async function phasesOf(database: Kysely<Schema>, runId: string): Promise<PhaseRow[]> {
  return await database.selectFrom('phase').selectAll().where('run_id', '=', runId).orderBy('index').execute();
}
