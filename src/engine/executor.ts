/** Executes operations in this process: takes the row, runs the handler, writes how it ended. */
import { setTimeout as sleep } from 'node:timers/promises';
import { asKilnError, errorBody, KilnError } from '../arm/errors.ts';
import { type Database, whenReachable } from '../database/connection.ts';
import type { OperationRow } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { OPEN, type OperationHandler, type Outcome, settle } from './operation.ts';
import type { Job } from './queue.ts';
import { isAlive } from './worker.ts';

/** A notification of a cancel request may be lost with its connection; this is how soon it is seen even so (ms). */
const CANCEL_POLL = 1_000;
/** How often a result that found no room is tried to be written (ms). */
const ROOM_POLL = 2_000;
/** The longest delay that a timer takes (ms). */
const LONGEST_TIMER = 2 ** 31 - 1;

interface Execution {
  readonly abort: AbortController;
  readonly shared: boolean;
  done: Promise<void>;
}

export interface ExecutorOptions {
  readonly database: Database;
  readonly worker: string;
  readonly handlers: ReadonlyMap<string, OperationHandler>;
  readonly log: ServiceLog;
}

export class Executor {
  readonly #options: ExecutorOptions;
  readonly #running = new Map<string, Execution>();
  readonly #unwritten = new Map<string, KilnError>();
  readonly #closing = new AbortController();
  #poll: NodeJS.Timeout | undefined;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  /**
   * Executes a job's operation to its end. A job that comes again while its first execution runs joins that one; one whose
   * operation has ended does nothing. Rejects only for a shared job that another worker is to have.
   */
  execute(job: Job, shared: boolean): Promise<void> {
    const running = this.#running.get(job.id);
    if (running) return running.done;
    const execution: Execution = { abort: new AbortController(), shared, done: Promise.resolve() };
    this.#running.set(job.id, execution);
    this.#poll ??= setInterval(() => void this.#pollCancels(), CANCEL_POLL);
    execution.done = this.#perform(job, execution).finally(() => {
      this.#running.delete(job.id);
      if (this.#running.size > 0) return;
      clearInterval(this.#poll);
      this.#poll = undefined;
    });
    return execution.done;
  }

  cancel(id: string): void {
    this.#running.get(id)?.abort.abort(new KilnError('Canceled', 'The operation was canceled.'));
  }

  /** Why the end of an operation, which has come, cannot be written at the moment. */
  unwritten(id: string): KilnError | undefined {
    return this.#unwritten.get(id);
  }

  /** After the database was away: what others took meanwhile is theirs. */
  async recheck(): Promise<void> {
    const { database, worker } = this.#options;
    const ids = [...this.#running.keys()];
    if (ids.length === 0) return;
    const lost = await database.kysely
      .selectFrom('operation')
      .select('id')
      .where('id', 'in', ids)
      .where(where => where.or([where('worker', '!=', worker), where('status', 'not in', OPEN)]))
      .execute();
    for (const { id } of lost)
      this.#running
        .get(id)
        ?.abort.abort(new KilnError('WorkerLost', 'The operation was taken over while the database was out of reach.'));
  }

  /** Aborts what runs and waits for it, but no longer than `patience` (ms); returns the ids that did not end. */
  async close(patience: number): Promise<string[]> {
    this.#closing.abort();
    const executions = [...this.#running.values()];
    for (const { abort, shared } of executions)
      abort.abort(
        shared
          ? new KilnError('WorkerLost', 'The worker is closing; another one takes the operation over.')
          : new KilnError('Canceled', 'The process that ran the operation is closing.'),
      );
    const expired = new AbortController();
    await Promise.race([
      Promise.allSettled(executions.map(({ done }) => done)),
      sleep(patience, undefined, { signal: expired.signal }).catch(() => undefined),
    ]);
    expired.abort();
    clearInterval(this.#poll);
    return [...this.#running.keys()];
  }

  async #perform(job: Job, { abort, shared }: Execution): Promise<void> {
    const { database, worker, handlers, log } = this.#options;
    const operation = await this.#take(job);
    if (!operation) return;
    if (operation.cancel_requested) this.cancel(job.id);
    const deadline = this.#armDeadline(operation, abort);
    const { signal } = abort;
    log('debug', 'An operation begins.', { id: job.id, kind: operation.kind, attempt: job.attempt });
    const outcome = await (async (): Promise<Outcome> => {
      try {
        const handler = handlers.get(operation.kind);
        if (!handler) throw new Error(`No handler for operations of kind ${operation.kind}.`);
        const output = await handler.run({ id: job.id, attempt: job.attempt, signal }, operation.input);
        return { status: 'Succeeded', output: output ?? null };
      } catch (error) {
        return failure(error, signal, log, operation);
      } finally {
        clearTimeout(deadline);
      }
    })();
    const closing = this.#closing.signal.aborted && shared && outcome.status !== 'Succeeded';
    const written = await this.#write(job.id, async () => {
      if (!closing) return await settle(database.kysely, job.id, outcome, worker);
      await database.kysely
        .updateTable('operation')
        .set({ worker: null })
        .where('id', '=', job.id)
        .where('worker', '=', worker)
        .where('status', '=', 'Running')
        .execute();
      return true;
    });
    if (closing) throw new Error('The worker is closing.');
    if (!written) log('warning', 'The operation was ended by somebody else.', { id: job.id });
    log('debug', 'An operation ended.', { id: job.id, status: outcome.status });
  }

  /** While the database is away, or has no room, the result waits for it: it may be an hour's work. Nobody else need wait that long for room. */
  async #write<T>(id: string, work: () => Promise<T>): Promise<T> {
    try {
      for (;;) {
        try {
          return await whenReachable(work);
        } catch (error) {
          const known = asKilnError(error);
          if (known.code !== 'DiskFull' || this.#closing.signal.aborted) throw error;
          this.#unwritten.set(id, known);
          await sleep(ROOM_POLL, undefined, { signal: this.#closing.signal }).catch(() => undefined);
        }
      }
    } finally {
      this.#unwritten.delete(id);
    }
  }

  /**
   * Makes the operation this worker's. undefined when it has ended. Where a worker that lives still has it (pg-boss lost patience with
   * it while the database was away), waits until that one is done: two never execute one operation.
   */
  async #take(job: Job): Promise<OperationRow | undefined> {
    const { kysely } = this.#options.database;
    const { worker } = this.#options;
    const find = () => kysely.selectFrom('operation').selectAll().where('id', '=', job.id).executeTakeFirst();
    for (;;) {
      const found = await whenReachable(find, this.#closing.signal);
      if (!found || !OPEN.includes(found.status)) return undefined;
      const owner = found.worker;
      if (owner === null || owner === worker || !(await whenReachable(() => isAlive(kysely, owner)))) {
        const taken = await whenReachable(() =>
          kysely
            .updateTable('operation')
            .set({ status: 'Running', worker, attempt: job.attempt, started_at: found.started_at ?? new Date() })
            .where('id', '=', job.id)
            .where('status', 'in', OPEN)
            // Of two that saw the same, one gets it.
            .where(where => (owner === null ? where('worker', 'is', null) : where('worker', '=', owner)))
            .returningAll()
            .executeTakeFirst(),
        );
        if (taken) return taken;
      }
      await sleep(500, undefined, { signal: this.#closing.signal });
    }
  }

  #armDeadline(operation: OperationRow, abort: AbortController): NodeJS.Timeout | undefined {
    const seconds = operation.timeout_seconds;
    if (seconds === null) return undefined;
    const whole = this.#options.handlers.get(operation.kind)?.limit === 'whole';
    const gone = whole ? Date.now() - operation.started_at!.getTime() : 0;
    const expire = () =>
      abort.abort(new KilnError('Timeout', `It took longer than the ${seconds} s that it may take.`));
    return setTimeout(expire, Math.min(Math.max(seconds * 1000 - gone, 0), LONGEST_TIMER));
  }

  async #pollCancels(): Promise<void> {
    const ids = [...this.#running.keys()];
    if (ids.length === 0) return;
    const requested = await this.#options.database.kysely
      .selectFrom('operation')
      .select('id')
      .where('id', 'in', ids)
      .where('cancel_requested', '=', true)
      .execute()
      .catch(() => []);
    for (const { id } of requested) this.cancel(id);
  }
}

/** The outcome for what a handler threw. An abort without words means what the signal says. */
function failure(error: unknown, signal: AbortSignal, log: ServiceLog, operation: OperationRow): Outcome {
  const wordless = error instanceof Error && error.name === 'AbortError';
  const known = asKilnError(wordless && signal.aborted ? signal.reason : error);
  if (known.code === 'InternalError')
    log('error', "An operation failed for a reason that is not the user's.", {
      id: operation.id,
      kind: operation.kind,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
  return { status: known.code === 'Canceled' ? 'Canceled' : 'Failed', error: errorBody(known) };
}
