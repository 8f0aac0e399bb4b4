/** How long the phases of a plan take, by what they took in earlier runs. */
import { type Kysely, sql } from 'kysely';
import type { PlannedPhase } from '../builds/layers/plan.ts';
import type { Schema } from '../database/schema.ts';
import type { MachineKind } from '../machines/machine.ts';

/**
 * Seconds, in the plan's order; null where nothing like it ran here. What a container took says nothing about a virtual machine. Of phases that are stored only
 * the first takes time: it is the one that a build goes on from the last of them in.
 */
export function expectedTimes(
  database: Kysely<Schema>,
  plan: readonly PlannedPhase[],
  machine: MachineKind,
): Promise<(number | null)[]> {
  const captured = plan.some(({ kind, cached }) => kind === 'capture' && cached);
  return Promise.all(
    plan.map(async (phase, index) => {
      if (!phase.cached) return await ranIn(database, phase, machine);
      if (index === 0) return await secondsOf(like(database, machine, true).where('phase.kind', '=', phase.kind));
      return index === 1 ? await wentOnIn(database, phase, machine, captured) : 0;
    }),
  );
}

/** Most recently: this very phase, else one of its name, else of its kind. */
async function ranIn(
  database: Kysely<Schema>,
  { kind, name, key }: PlannedPhase,
  machine: MachineKind,
): Promise<number | null> {
  const ran = like(database, machine, false);
  const alike = ran.where('phase.kind', '=', kind);
  const same = key === undefined ? null : await secondsOf(ran.where('phase.key', '=', key));
  return same ?? (await secondsOf(alike.where('phase.name', '=', name))) ?? (await secondsOf(alike));
}

/** @param captured whether the build goes on from a finished image, for which no machine has to be resumed; such builds are looked at first */
async function wentOnIn(
  database: Kysely<Schema>,
  { kind }: PlannedPhase,
  machine: MachineKind,
  captured: boolean,
): Promise<number | null> {
  const image = sql<boolean>`exists (
    select from phase as other where other.run_id = phase.run_id and other.kind = 'capture' and other.cached
  )`;
  const alike = like(database, machine, true).where('phase.kind', '=', kind);
  return (await secondsOf(alike.where(image, '=', captured))) ?? (await secondsOf(alike));
}

const like = (database: Kysely<Schema>, machine: MachineKind, cached: boolean) =>
  database
    .selectFrom('phase')
    .innerJoin('run', 'run.id', 'phase.run_id')
    .select(['phase.started_at', 'phase.ended_at'])
    .where('phase.state', '=', 'Succeeded')
    .where('phase.cached', '=', cached)
    .where('phase.ended_at', 'is not', null)
    .where(sql`run.machine ->> 'kind'`, '=', machine)
    .orderBy('phase.ended_at', 'desc')
    .limit(1);

async function secondsOf(query: ReturnType<typeof like>): Promise<number | null> {
  const found = await query.executeTakeFirst();
  return found ? (found.ended_at!.getTime() - found.started_at!.getTime()) / 1000 : null;
}
