/** A run as rows: its phases with their times, and its log lines, written as they happen. */
import { type Kysely, sql } from 'kysely';
import { errorBody, type KilnError } from '../../arm/errors.ts';
import type { Recorder } from '../../builds/fold.ts';
import type { LogLine } from '../../builds/log.ts';
import type { Phase, PhaseResult } from '../../builds/phase.ts';
import { whenReachable } from '../../database/connection.ts';
import { json, text } from '../../database/json.ts';
import type { Schema } from '../../database/schema.ts';
import { rowLimit } from './row-limit.ts';

/** Lines are gathered this long, so that a chatty script costs a statement every now and then, not one a line. */
const FLUSH_EVERY_MS = 250;
/** Azure's words, in their order. */
const SUB_STATES: readonly string[] = ['Building', 'Customizing', 'Optimizing', 'Validating', 'Distributing'];

export interface RunRecord extends Recorder {
  /** Replaces what an earlier attempt of the run left. */
  planned(phases: readonly Phase[]): Promise<void>;
  line(line: LogLine): void;
  /** Writes what is still gathered. Rejects when lines could not be kept. */
  close(): Promise<void>;
}

/** How long a row is tried to be written while the database is away (ms). */
const PATIENCE = 60_000;
const outOfPatience = (failure: unknown) => (failure as Error | undefined)?.name === 'TimeoutError';
const reachable = <T>(work: () => Promise<T>) => whenReachable(work, AbortSignal.timeout(PATIENCE));

export function runRecord(database: Kysely<Schema>, runId: string): RunRecord {
  const lines = lineWriter(database, runId);
  const phaseRow = (index: number) =>
    database.updateTable('phase').where('run_id', '=', runId).where('index', '=', index);
  let reached = 0;
  return {
    async planned(phases) {
      reached = 0;
      await database.transaction().execute(async trx => {
        await trx.deleteFrom('phase').where('run_id', '=', runId).execute();
        await trx.deleteFrom('log_line').where('run_id', '=', runId).execute();
        await trx
          .insertInto('phase')
          .values(
            phases.map((phase, index) => ({
              run_id: runId,
              index,
              kind: phase.kind,
              name: text(phase.name),
              state: 'Pending' as const,
              key: null,
              cached: false,
              bytes: null,
              detail: phase.about ? json(phase.about) : null,
              error: null,
              started_at: null,
              ended_at: null,
            })),
          )
          .execute();
      });
    },
    async started(index, phase, key) {
      await reachable(() => phaseRow(index).set({ state: 'Running', key, started_at: new Date() }).execute());
      const rank = SUB_STATES.indexOf(phase.subState);
      // The image is captured and proven when the customizers are over; what clients see goes forward only (contract 3.3).
      if (rank < reached) return;
      reached = rank;
      await reachable(() =>
        database
          .updateTable('run')
          .set({ sub_state: phase.subState })
          .where('id', '=', runId)
          .where('state', '=', 'Running')
          .execute(),
      );
    },
    async succeeded(index, _phase, result: PhaseResult, key) {
      const ended = {
        state: 'Succeeded' as const,
        key,
        ended_at: new Date(),
        cached: result.cached ?? false,
        bytes: result.bytes ?? null,
        detail: result.detail ? json(result.detail) : null,
      };
      await reachable(() => phaseRow(index).set(ended).execute());
    },
    async failed(index, _phase, error: KilnError, skipped) {
      await phaseRow(index)
        .set({
          state: error.code === 'Canceled' ? 'Canceled' : 'Failed',
          ended_at: new Date(),
          error: json(errorBody(error)),
        })
        .execute();
      if (skipped.length === 0) return;
      await database
        .updateTable('phase')
        .set({ state: 'Skipped' })
        .where('run_id', '=', runId)
        .where('index', 'in', skipped)
        .execute();
    },
    line: lines.add,
    close: lines.close,
  };
}

function lineWriter(database: Kysely<Schema>, runId: string) {
  let waiting: LogLine[] = [];
  let seq = 0;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let failure: unknown;
  const limited = rowLimit();

  const flush = () => {
    timer = undefined;
    const batch = waiting;
    waiting = [];
    if (batch.length === 0) return;
    const first = seq;
    seq += batch.length;
    writing = writing
      .then(async () => {
        // Who waited in vain for the database does not wait again for each batch.
        if (outOfPatience(failure)) return;
        for (let at = 0; at < batch.length; at += 5_000) {
          const lines = batch.slice(at, at + 5_000);
          const column = <Value>(value: (line: LogLine, index: number) => Value) => sql.val(lines.map(value));
          // Five arrays instead of a parameter for each value: a flood of lines takes a third less time, and less memory.
          const insert = sql`
            insert into log_line (run_id, seq, at, phase, stream, text)
            select ${runId}::uuid, * from unnest(
              ${column((_, index) => first + at + index)}::bigint[],
              ${column(line => line.at)}::timestamptz[],
              ${column(line => line.phase)}::integer[],
              ${column(line => line.stream)}::text[],
              ${column(line => text(line.text))}::text[]
            )
            on conflict do nothing`; // The answer to a batch that was written may have been lost.
          await reachable(() => insert.execute(database));
        }
      })
      .catch(error => {
        failure ??= error;
      });
  };
  return {
    add(line: LogLine) {
      const row = limited(line);
      if (!row) return;
      waiting.push(row);
      timer ??= setTimeout(flush, FLUSH_EVERY_MS);
    },
    async close() {
      clearTimeout(timer);
      flush();
      await writing;
      if (failure !== undefined) throw failure;
    },
  };
}
