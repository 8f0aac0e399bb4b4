/** The newest run of a template, as `lastRunStatus` shows it (contract 3.3). */
import type { Kysely } from 'kysely';
import { isSince } from '../../arm/api-versions.ts';
import { idKey } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { RunRow, Schema } from '../../database/schema.ts';
import type { StoredResource } from '../store.ts';
import { withLogUrl } from './staged-blobs.ts';

export type LastRun = Pick<
  RunRow,
  'id' | 'template_id' | 'state' | 'sub_state' | 'message' | 'created_at' | 'started_at' | 'ended_at'
>;

const COLUMNS = ['id', 'template_id', 'state', 'sub_state', 'message', 'created_at', 'started_at', 'ended_at'] as const;

/** Of each of the templates that was ever run. Runs of a deleted template with the same name are not this one's. */
export async function lastRuns(
  database: Kysely<Schema>,
  templates: readonly Pick<StoredResource, 'id' | 'createdAt'>[],
): Promise<ReadonlyMap<string, LastRun>> {
  if (templates.length === 0) return new Map();
  const created = new Map(templates.map(({ id, createdAt }) => [idKey(id), createdAt]));
  const rows = await database
    .selectFrom('run')
    .distinctOn('template_id')
    .select(COLUMNS)
    .where('template_id', 'in', [...created.keys()])
    .orderBy('template_id')
    .orderBy('created_at', 'desc')
    .execute();
  return new Map(
    rows.filter(row => row.created_at >= created.get(row.template_id)!).map(row => [row.template_id, row] as const),
  );
}

export async function lastRun(
  database: Kysely<Schema>,
  template: Pick<StoredResource, 'id' | 'createdAt'>,
): Promise<LastRun | undefined> {
  return (await lastRuns(database, [template])).get(idKey(template.id));
}

/** What Go writes for a time that is not set. */
const ZERO_TIME = '0001-01-01T00:00:00Z';

/** As the service writes times: with nanoseconds, of which the database knows the first three digits. */
const nanoseconds = (time: Date): string => time.toISOString().replace(/Z$/, '000000Z');

/** Cancelling came with this version; clients of older ones know only states that they have. */
const CANCEL_SINCE = '2020-02-14';

/** States came with what they are about. What older clients know instead is that the build is at work in a guest. */
const SUB_STATE_SINCE: Readonly<Record<string, string>> = { Validating: '2022-02-14', Optimizing: '2022-07-01' };

/** `origin`: what URLs begin with, for the place of the log in a failed run's message. */
export function lastRunStatus(run: LastRun, apiVersion: string, origin: string): JsonObject {
  let state: string = run.state;
  if (!isSince(apiVersion, CANCEL_SINCE))
    state = state === 'Canceling' ? 'Running' : state === 'Canceled' ? 'Failed' : state;
  let subState = run.ended_at === null ? run.sub_state : null;
  if (subState !== null && !isSince(apiVersion, SUB_STATE_SINCE[subState] ?? apiVersion)) subState = 'Customizing';
  return {
    startTime: nanoseconds(run.started_at ?? run.created_at),
    endTime: run.ended_at ? nanoseconds(run.ended_at) : ZERO_TIME,
    runState: state,
    ...(subState !== null && { runSubState: subState }),
    message: withLogUrl(run.message ?? '', origin),
  };
}
