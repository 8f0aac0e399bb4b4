/** Durable work: an operation is a row and a job, written in the transaction that needs it, and executed by a worker. */
import { randomUUID } from 'node:crypto';
import { errorBody, KilnError } from '../arm/errors.ts';
import { type Database, isAway, type Transacting, whenReachable } from '../database/connection.ts';
import { json } from '../database/json.ts';
import type { OperationRow } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import type { Home } from '../home.ts';
import { Executor } from './executor.ts';
import { abandon, isTerminal, notify, OPEN, type OperationHandler } from './operation.ts';
import { BUILD_QUEUE, type Consumer, openQueue, ownQueue, SHARED_QUEUE } from './queue.ts';
import { type Swept, sweep as sweepOnce } from './sweep.ts';
import { endWorker, isAlive, openWorker } from './worker.ts';

/** Notifications wake those who wait; this is how long they sleep where one was lost (ms). */
const WAIT_POLL = 1_000;
/** How often a serving worker looks for dead ones (ms). */
const SWEEP_EVERY = 5_000;
/** How long what runs may take to clean up when the engine closes (ms). */
const CLOSING_PATIENCE = 30_000;

export interface Submission {
  readonly kind: string;
  readonly resourceId: string | null;
  readonly input: unknown;
  /** here: by this process only, and by nobody when it dies. anywhere: by a worker that serves, again by another when it dies. */
  readonly where: 'here' | 'anywhere';
  /** For each attempt, or for all of them (`OperationHandler.limit`). Default: none. */
  readonly timeoutSeconds?: number;
}

export interface Engine {
  /** This process, as rows name it. */
  readonly worker: string;
  /** Writes the operation and its job in the caller's transaction; it begins when that commits. Returns its id. */
  submit(trx: Transacting, submission: Submission): Promise<string>;
  /** The row when the operation has ended. Errors: NotFound; DiskFull, where the database has no room for its end; the signal's reason (the operation goes on). */
  wait(id: string, options?: { signal?: AbortSignal }): Promise<OperationRow>;
  /** Asks for the end of an operation; one that has not begun ends at once. Whether it was open. Errors: NotFound. */
  cancel(id: string): Promise<boolean>;
  /** Executes shared operations, and sweeps now and then, until the engine closes. `builds`: heavy ones at a time; default: `concurrency`. */
  serve(options: { readonly concurrency: number; readonly builds?: number }): Promise<void>;
  /** Settles what dead workers left. */
  sweep(): Promise<Swept>;
  isAlive(worker: string): Promise<boolean>;
  /** Aborts what runs here, waits for it to clean up, and leaves. The database stays open: it is the caller's. */
  close(): Promise<void>;
}

export interface EngineOptions {
  readonly database: Database;
  readonly home: Home;
  readonly handlers: readonly OperationHandler[];
  readonly log: ServiceLog;
}

/** Registers this process as a worker and takes up what is submitted. Errors: those of the database. */
export async function openEngine({ database, handlers: list, log }: EngineOptions): Promise<Engine> {
  const { kysely } = database;
  const worker = randomUUID();
  const handlers = new Map(list.map(handler => [handler.kind, handler]));
  const executor = new Executor({ database, worker, handlers, log });
  const waiting = new Map<string, Set<() => void>>();
  const own = ownQueue(worker);
  let consumer: Consumer | undefined;
  const shared = new Map<string, Consumer>();
  let sweeper: NodeJS.Timeout | undefined;

  const queue = await openQueue(database, log);
  const session = await openWorker({
    database,
    id: worker,
    log,
    onNotification: hear,
    onReturn: () => void comeBack(),
  }).catch(async error => {
    await queue.close();
    throw error;
  });

  function hear(payload: string): void {
    const [verb, name = ''] = payload.split(' ');
    if (verb === 'submitted') (name === own ? consumer : shared.get(name))?.nudge();
    else if (verb === 'cancel') executor.cancel(name);
    else for (const wake of waiting.get(name) ?? []) wake();
  }

  /** The database was away. A sweeper may have taken this worker for dead, and a job that was handed out may never have arrived. */
  async function comeBack(): Promise<void> {
    try {
      await queue.create(own);
      await executor.recheck();
      const missed = await kysely
        .selectFrom('operation')
        .select('id')
        .where('queue', '=', own)
        .where('status', '=', 'NotStarted')
        .execute();
      for (const { id } of missed)
        execute({ id, attempt: 1 }).catch(error =>
          log('warning', 'An operation was not executed.', { id, error: String(error) }),
        );
      for (const wakes of waiting.values()) for (const wake of wakes) wake();
    } catch (error) {
      log('warning', 'The database went away again.', { error: String(error) });
    }
  }

  const execute = (job: { id: string; attempt: number }) => executor.execute(job, false);

  try {
    await queue.create(own);
    consumer = queue.consumeOwn(own, execute);
  } catch (error) {
    await session.close();
    await queue.close();
    throw error;
  }

  const read = (id: string) => kysely.selectFrom('operation').selectAll().where('id', '=', id).executeTakeFirst();
  const sweep = () => sweepOnce({ database, queue, handlers, log });

  return {
    worker,

    async submit(trx, { kind, resourceId, input, where, timeoutSeconds }) {
      const handler = handlers.get(kind);
      if (!handler) throw new Error(`No handler for operations of kind ${kind}.`);
      const id = randomUUID();
      const name = where === 'here' ? own : handler.heavy ? BUILD_QUEUE : SHARED_QUEUE;
      await trx
        .insertInto('operation')
        .values({
          id,
          kind,
          resource_id: resourceId,
          queue: name,
          input: json(input),
          timeout_seconds: timeoutSeconds ?? null,
        })
        .execute();
      await queue.send(trx, name, id);
      await notify(trx, 'submitted', name);
      return id;
    },

    async wait(id, { signal } = {}) {
      for (;;) {
        signal?.throwIfAborted();
        // Asked for before the row is read: an end between the two wakes.
        const change = nextChange(waiting, id, signal);
        try {
          const row = await whenReachable(() => read(id), signal);
          if (!row) throw notFound(id);
          if (isTerminal(row.status)) return row;
          const unwritten = executor.unwritten(id);
          if (unwritten) throw unwritten;
          await change.happens;
        } finally {
          change.dispose();
        }
      }
    },

    async cancel(id) {
      return await kysely.transaction().execute(async trx => {
        const operation = await trx
          .selectFrom('operation')
          .selectAll()
          .where('id', '=', id)
          .forUpdate()
          .executeTakeFirst();
        if (!operation) throw notFound(id);
        if (isTerminal(operation.status)) return false;
        await trx.updateTable('operation').set({ cancel_requested: true }).where('id', '=', id).execute();
        if (operation.status === 'NotStarted') {
          const error = errorBody(new KilnError('Canceled', 'The operation was canceled before it began.'));
          await abandon(trx, handlers.get(operation.kind), operation, error);
        } else await notify(trx, 'cancel', id);
        return true;
      });
    },

    async serve({ concurrency, builds = concurrency }) {
      if (shared.size > 0) throw new Error('This engine serves already.');
      const serveQueue = async (name: string, atATime: number) =>
        shared.set(name, await queue.consumeShared(name, atATime, job => executor.execute(job, true)));
      await serveQueue(SHARED_QUEUE, concurrency);
      await serveQueue(BUILD_QUEUE, builds);
      const round = async () => {
        await sweep().catch(error =>
          log(isAway(error) ? 'debug' : 'error', 'A sweep failed.', { error: String(error) }),
        );
        sweeper?.refresh();
      };
      sweeper = setTimeout(() => void round(), SWEEP_EVERY);
    },

    sweep,
    isAlive: id => isAlive(kysely, id),

    async close() {
      clearTimeout(sweeper);
      sweeper = undefined;
      await Promise.all([consumer, ...shared.values()].map(one => one?.stop()));
      const left = await executor.close(CLOSING_PATIENCE);
      if (left.length > 0) log('error', 'Operations did not end in time; a sweep will settle them.', { ids: left });
      await queue.close();
      try {
        if (left.length === 0) {
          await settleUnbegun();
          await endWorker(kysely, worker);
          await queue.remove(own);
        }
      } catch (error) {
        log('warning', 'The worker could not sign off; the next one will do it.', { error: String(error) });
      } finally {
        await session.close();
      }
    },
  };

  /** Operations that were submitted to this process and never began. */
  async function settleUnbegun(): Promise<void> {
    await kysely.transaction().execute(async trx => {
      const unbegun = await trx
        .selectFrom('operation')
        .selectAll()
        .where('queue', '=', own)
        .where('status', 'in', OPEN)
        .forUpdate()
        .execute();
      const error = errorBody(new KilnError('Canceled', 'The process that was to run the operation is closing.'));
      for (const operation of unbegun) await abandon(trx, handlers.get(operation.kind), operation, error);
    });
  }
}

const notFound = (id: string) => new KilnError('NotFound', `There is no operation ${id}.`, { target: id });

/** Resolves when the operation is heard of, after a while even so, and when the signal aborts. */
function nextChange(waiting: Map<string, Set<() => void>>, id: string, signal: AbortSignal | undefined) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const wakes = waiting.get(id) ?? new Set();
  waiting.set(id, wakes.add(resolve));
  const timer = setTimeout(resolve, WAIT_POLL);
  const aborted = () => resolve();
  signal?.addEventListener('abort', aborted);
  return {
    happens: promise,
    dispose() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
      wakes.delete(resolve);
      if (wakes.size === 0 && waiting.get(id) === wakes) waiting.delete(id);
    },
  };
}
