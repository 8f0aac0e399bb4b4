/** Runs as commands see them: found by the beginning of their id, and as JSON for machines. */
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import type { PhaseRow, RunOutputRow, RunRow, Schema } from '../database/schema.ts';
import { dropKeptOf } from '../providers/image-builder/kept-machines.ts';
import { cancelRun } from '../providers/image-builder/run.ts';
import type { Service } from '../service.ts';

/** A run with the id of its template as its author wrote it; null when the template is gone. */
export type ShownRun = RunRow & { readonly display_id: string | null };

export async function listRuns(database: Kysely<Schema>, limit: number): Promise<ShownRun[]> {
  return await runs(database).orderBy('run.created_at', 'desc').limit(limit).execute();
}

const runs = (database: Kysely<Schema>) =>
  database
    .selectFrom('run')
    .leftJoin('resource', 'resource.id', 'run.template_id')
    .selectAll('run')
    .select('resource.display_id');

/** @param id a whole id, its beginning, or `latest`. Errors: NotFound, UsageError when several begin so. */
export async function findRun(database: Kysely<Schema>, id: string): Promise<ShownRun> {
  if (id === 'latest') {
    const [newest] = await listRuns(database, 1);
    if (newest) return newest;
    throw new KilnError('NotFound', 'Nothing was built here yet.');
  }
  const prefix = id.toLowerCase();
  const found = /^[0-9a-f-]{1,36}$/.test(prefix)
    ? await runs(database).where(sql`run.id::text`, 'like', `${prefix}%`).limit(2).execute()
    : [];
  if (found.length === 1) return found[0]!;
  if (found.length === 0)
    throw new KilnError('NotFound', `There is no run ${id}.`, { hint: '`kiln runs list` shows them.' });
  throw new KilnError('UsageError', `Several runs begin with ${id}.`, { hint: 'Type more of the id.' });
}

export async function phasesOf(database: Kysely<Schema>, runId: string): Promise<PhaseRow[]> {
  return await database.selectFrom('phase').selectAll().where('run_id', '=', runId).orderBy('index').execute();
}

export async function outputsOf(database: Kysely<Schema>, runId: string): Promise<RunOutputRow[]> {
  return await database.selectFrom('run_output').selectAll().where('run_id', '=', runId).orderBy('name').execute();
}

export async function cancel(service: Service, id: string): Promise<void> {
  const run = await findRun(service.database.kysely, id);
  if (!(await cancelRun(service.engine, service.database.kysely, run.id)))
    throw new KilnError('Conflict', `The run ${run.id} has ended already: ${run.state}.`);
}

/** The machine of a failed run, while it lives on: until when, what lets a person in at this host, what ends it. */
export function keptOf(run: RunRow): { until: string; command: string; drop: string } | undefined {
  if (!run.kept_until) return undefined;
  const drop = `kiln runs drop ${run.id.slice(0, 8)}`;
  return { until: run.kept_until.toISOString(), command: run.kept_command!, drop };
}

/** Errors: those of findRun, Conflict where no machine is kept. */
export async function drop(service: Service, id: string): Promise<void> {
  const run = await findRun(service.database.kysely, id);
  await dropKeptOf(service.database.kysely, run.id);
}

/** The JSON of a run. Times are ISO 8601, durations seconds, sizes bytes. */
export function reportOf(run: ShownRun, phases?: readonly PhaseRow[], outputs?: readonly RunOutputRow[]) {
  return {
    id: run.id,
    template: run.display_id ?? run.template_id,
    name: run.template_name,
    state: run.state,
    subState: run.sub_state,
    startedAt: run.started_at,
    endedAt: run.ended_at,
    seconds: secondsOf(run),
    machine: run.machine,
    kept: keptOf(run) ?? null,
    error: run.error,
    ...(phases && {
      cache: {
        cached: phases.filter(({ cached, kind }) => cached && kind !== 'source').length,
        savedSeconds: savedSeconds(phases),
      },
      phases: phases.map(phase => ({
        kind: phase.kind,
        name: phase.name,
        state: phase.state,
        key: phase.key,
        cached: phase.cached,
        seconds: secondsOf(phase),
        bytes: phase.bytes,
        detail: phase.detail,
        error: phase.error,
      })),
    }),
    ...(outputs && {
      outputs: outputs.map(output => ({
        name: output.name,
        artifactId: output.artifact_id,
        artifactUri: output.artifact_uri,
        location: output.location,
        path: output.path,
        fsverity: output.fsverity,
        sha256: output.sha256,
        bytes: output.bytes,
        virtualSize: output.virtual_size,
      })),
    }),
  };
}

/** What the layers that a run took would have taken to make. */
export function savedSeconds(phases: readonly PhaseRow[]): number {
  const saved = phases.map(({ cached, detail }) =>
    cached ? Number((detail as { savedSeconds?: number } | null)?.savedSeconds ?? 0) : 0,
  );
  return Math.round(saved.reduce((a, b) => a + b, 0) * 1000) / 1000;
}

function secondsOf(row: { readonly started_at: Date | null; readonly ended_at: Date | null }): number | null {
  return row.started_at && row.ended_at ? (row.ended_at.getTime() - row.started_at.getTime()) / 1000 : null;
}
