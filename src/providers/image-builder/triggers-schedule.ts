/**
 * Looks at all active triggers now and then, and starts a run where a source has got newer.
 *
 * Every process that serves has a timer, and takes the triggers that nobody has looked at for an interval by writing the time into their rows: PostgreSQL
 * gives each row to one of them. That needs no process that is elected, no lock that is held while a publisher is asked, and no second clock (it is the
 * database's); a process that dies over a trigger leaves it to the next look. A cron job of the queue would do the same with more rows, and would stand in
 * line behind builds.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { publicMessage } from '../../arm/public-error.ts';
import { isObject } from '../../arm/shape.ts';
import { isAway } from '../../database/connection.ts';
import type { NamedVersion } from '../../images/catalogue/newest.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { getResource, patchProperties, type StoredResource } from '../store.ts';
import { templateOf } from './image-templates.ts';
import { startRun } from './run.ts';
import { formatSeen, isNews, newestSource, parseSeen } from './triggers-source.ts';
import { healthy } from './triggers-state.ts';

/**
 * In seconds, as is LOOK_EVERY: how often a process asks whether a trigger is due. What is new starts a run within the sum of both; where the process that has
 * taken the trigger dies over it, another one does within twice the sum. That is to be less than a minute.
 */
export const DEFAULT_TRIGGER_INTERVAL = 20;
export const LOOK_EVERY = 5;
/** Publishers are asked by so many at once. */
const AT_ONCE = 4;

export type TriggerEnvironment = Pick<ProviderEnvironment, 'database' | 'home' | 'engine' | 'machines' | 'log'>;

export interface TriggerOptions {
  readonly environment: TriggerEnvironment;
  /** Between two looks at one trigger. */
  readonly intervalSeconds: number;
}

/** Begins with a look: a source may have got newer while nobody served. */
export function startTriggers({ environment, intervalSeconds }: TriggerOptions): { close(): Promise<void> } {
  const closing = new AbortController();
  const { signal } = closing;
  const { log } = environment;
  const loop = (async () => {
    while (!signal.aborted) {
      await lookAtTriggers(environment, { olderThanSeconds: intervalSeconds, signal }).catch(error =>
        log(isAway(error) || signal.aborted ? 'debug' : 'error', 'Triggers could not be looked at.', {
          error: String(error),
        }),
      );
      const seconds = Math.min(intervalSeconds, LOOK_EVERY);
      await sleep(seconds * 1000, undefined, { signal, ref: false }).catch(() => undefined);
    }
  })();
  return {
    async close() {
      closing.abort(new KilnError('Canceled', 'The server is closing.'));
      await loop;
    },
  };
}

/** One look at the triggers that are due. Returns the ids of the runs that it started. Errors: those of the database. */
export async function lookAtTriggers(
  environment: TriggerEnvironment,
  { olderThanSeconds, signal }: { readonly olderThanSeconds: number; readonly signal: AbortSignal },
): Promise<string[]> {
  const due = await takeDue(environment, olderThanSeconds);
  const started: string[] = [];
  const looks = due.values();
  const work = async () => {
    for (const id of looks) {
      if (signal.aborted) return;
      const run = await look(environment, id, signal).catch(error => {
        if (isAway(error)) throw error;
        environment.log('error', 'A trigger could not be looked at.', { trigger: id, error: String(error) });
        return undefined;
      });
      if (run !== undefined) started.push(run);
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return started;
}

/** Triggers that are on and that nobody has looked at for so long; they are this process's for now. */
async function takeDue({ database }: TriggerEnvironment, seconds: number): Promise<string[]> {
  const rows = await database
    .updateTable('trigger_state')
    .set({ checked_at: sql<Date>`now()` })
    .where('active', '=', true)
    .where(sql<boolean>`(checked_at is null or checked_at <= now() - make_interval(secs => ${seconds}))`)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('resource')
          .select('resource.id')
          .whereRef('resource.id', '=', 'trigger_state.id')
          .where(sql<boolean>`resource.properties ->> 'provisioningState' = 'Succeeded'`),
      ),
    )
    .returning('id')
    .execute();
  return rows.map(({ id }) => id).sort();
}

/** The run that it started, if there is news. */
async function look(environment: TriggerEnvironment, id: string, signal: AbortSignal): Promise<string | undefined> {
  const { database, home, log } = environment;
  const [trigger, template] = [await getResource(database, id), await getResource(database, templateIdOf(id))];
  if (!trigger || template?.properties.provisioningState !== 'Succeeded') return undefined;
  let newest: NamedVersion | undefined;
  try {
    newest = await newestSource(templateOf(template), { database, home }, signal);
  } catch (thrown) {
    signal.throwIfAborted();
    if (isAway(thrown)) throw thrown;
    const error = asKilnError(thrown);
    log('warning', 'The source of a trigger cannot be looked up.', { trigger: trigger.id, error: error.message });
    await say(environment, trigger, {
      code: error.code,
      message: `Trigger is active, but the source cannot be looked up: ${publicMessage(error)}`,
    });
    return undefined;
  }
  await say(environment, trigger, healthy());
  return await fireWhenNew(environment, trigger, template, newest);
}

const templateIdOf = (triggerId: string): string => triggerId.split('/').slice(0, -2).join('/');

/** The run and the memory of what it was for are written together: no version starts two runs, and none is lost. */
async function fireWhenNew(
  environment: TriggerEnvironment,
  trigger: StoredResource,
  template: StoredResource,
  newest: NamedVersion | undefined,
): Promise<string | undefined> {
  const { database, engine, machines, log } = environment;
  const key = trigger.id.toLowerCase();
  try {
    return await database.transaction().execute(async trx => {
      // The template first, as everybody who changes it or deletes it with its triggers does.
      await trx.selectFrom('resource').select('id').where('id', '=', template.id.toLowerCase()).forUpdate().execute();
      const state = await trx
        .selectFrom('trigger_state')
        .selectAll()
        .where('id', '=', key)
        .where('active', '=', true)
        .forUpdate()
        .executeTakeFirst();
      if (!state) return undefined;
      const seen = parseSeen(state.seen_version);
      const update = trx.updateTable('trigger_state').where('id', '=', key);
      if (!isNews(newest, seen)) {
        if (!seen && newest) await update.set({ seen_version: formatSeen(newest) }).execute();
        return undefined;
      }
      const run = await startRun(engine, trx, template.id, { where: 'anywhere', machines });
      await update.set({ seen_version: formatSeen(newest), fired_at: sql<Date>`now()`, last_run_id: run }).execute();
      log('info', 'A trigger started a run.', { trigger: trigger.id, run, version: formatSeen(newest) });
      return run;
    });
  } catch (error) {
    // It stays news, and the end of the run that goes on makes the trigger due again.
    if (!(error instanceof KilnError) || !BUSY.has(error.code)) throw error;
    log('info', 'A trigger waits for its template.', { trigger: trigger.id, reason: error.message });
    return undefined;
  }
}

const BUSY: ReadonlySet<string> = new Set(['RunInProgress', 'OperationNotAllowed', 'ResourceNotFound', 'Conflict']);

/** Writes the status where it says something else than before, unless the trigger was turned off or deleted meanwhile. */
async function say(
  { database }: TriggerEnvironment,
  trigger: StoredResource,
  { code, message }: { readonly code: string; readonly message: string },
): Promise<void> {
  const { status } = trigger.properties;
  if (isObject(status) && status.code === code && status.message === message) return;
  await database.transaction().execute(async trx => {
    const key = trigger.id.toLowerCase();
    await trx.selectFrom('resource').select('id').where('id', '=', key).forUpdate().execute();
    const state = await trx.selectFrom('trigger_state').select('active').where('id', '=', key).executeTakeFirst();
    if (state?.active) await patchProperties(trx, key, { status: { code, message, time: new Date().toISOString() } });
  });
}
