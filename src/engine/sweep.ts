/** Settles what dead workers left: nothing stays Running that nobody runs. */
import { errorBody, KilnError } from '../arm/errors.ts';
import type { Database } from '../database/connection.ts';
import type { OperationRow, WorkerRow } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { abandon, notify, OPEN, type OperationHandler } from './operation.ts';
import { ownQueue, type Queue, SHARED_QUEUES } from './queue.ts';
import { isAlive, openWorkersHere } from './worker.ts';

const KEPT_DAYS = 30;
/** Clients may ask for an operation's result for a day (contract 2.1); runs keep theirs. */
const RESULT_DAYS = 2;
const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000);

export interface Swept {
  /** Workers found dead. */
  readonly workers: readonly WorkerRow[];
  /** Operations that were ended, as they were before. */
  readonly operations: readonly OperationRow[];
}

export interface SweepOptions {
  readonly database: Database;
  readonly queue: Queue;
  readonly handlers: ReadonlyMap<string, OperationHandler>;
  readonly log: ServiceLog;
}

/** Several processes may sweep at once: each dead worker is settled by one of them. */
export async function sweep(options: SweepOptions): Promise<Swept> {
  const { database, queue, log } = options;
  const workers: WorkerRow[] = [];
  const operations: OperationRow[] = [];
  for (const worker of await openWorkersHere(database)) {
    if (await isAlive(database.kysely, worker.id)) continue;
    // One that cannot be settled (a defect in a handler's hook) must not keep the others waiting; the next sweep tries again.
    const settled = await settleWorker(options, worker).catch(error => {
      log('error', 'What a dead worker left could not be settled.', { worker: worker.id, error: String(error) });
    });
    if (!settled) continue;
    log('info', 'A worker was found dead.', { worker: worker.id, pid: worker.pid, operations: settled.length });
    workers.push(worker);
    operations.push(...settled);
  }
  operations.push(...(await settleShared(options)));
  await removeQueues(database, queue);
  await database.kysely.deleteFrom('worker').where('ended_at', '<', daysAgo(KEPT_DAYS)).execute();
  await database.kysely
    .deleteFrom('operation')
    .where('ended_at', '<', daysAgo(RESULT_DAYS))
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('run').select('run.id').whereRef('run.operation_id', '=', 'operation.id'))),
    )
    .execute();
  return { workers, operations };
}

export const workerLost = (worker: Pick<WorkerRow, 'pid' | 'host'>): KilnError =>
  new KilnError(
    'WorkerLost',
    `The process that ran this (pid ${worker.pid} on ${worker.host}) ended without finishing it.`,
    { hint: 'Run it again; what was finished and kept is not done twice.' },
  );

/** Ends the operations that only the dead worker could execute. undefined: somebody else did. */
async function settleWorker(
  { database, handlers }: SweepOptions,
  worker: WorkerRow,
): Promise<OperationRow[] | undefined> {
  return await database.kysely.transaction().execute(async trx => {
    const claimed = await trx
      .selectFrom('worker')
      .select('id')
      .where('id', '=', worker.id)
      .where('ended_at', 'is', null)
      .forUpdate()
      .skipLocked()
      .executeTakeFirst();
    if (!claimed) return undefined;
    const operations = await trx
      .selectFrom('operation')
      .selectAll()
      .where('queue', '=', ownQueue(worker.id))
      .where('status', 'in', OPEN)
      .forUpdate()
      .execute();
    for (const operation of operations)
      await abandon(trx, handlers.get(operation.kind), operation, errorBody(workerLost(worker)));
    await trx.updateTable('worker').set({ ended_at: new Date() }).where('id', '=', worker.id).execute();
    return operations;
  });
}

/** Shared operations without a living worker: another attempt begins now, or, after the last one, they have failed. */
async function settleShared({ database, queue, handlers, log }: SweepOptions): Promise<OperationRow[]> {
  const { kysely } = database;
  const running = await kysely
    .selectFrom('operation')
    .selectAll()
    .where('queue', 'in', SHARED_QUEUES)
    .where('status', '=', 'Running')
    .execute();
  const ended: OperationRow[] = [];
  for (const operation of running) {
    const { id, attempt, worker, queue: name } = operation;
    if (worker !== null && (await isAlive(kysely, worker))) continue;
    // A worker that took the job meanwhile has a later attempt, which this leaves alone.
    if (worker !== null) {
      await queue.giveBack(name, { id, attempt });
      await notify(kysely, 'submitted', name);
    }
    const state = await queue.state(name, id);
    if (state === 'waiting' || state === 'active') continue;
    const settled = await kysely.transaction().execute(async trx => {
      const found = await trx
        .selectFrom('operation')
        .selectAll()
        .where('id', '=', id)
        .where('status', '=', 'Running')
        .where('attempt', '=', attempt)
        .forUpdate()
        .skipLocked()
        .executeTakeFirst();
      if (!found) return false;
      const last =
        worker === null
          ? undefined
          : await trx.selectFrom('worker').selectAll().where('id', '=', worker).executeTakeFirst();
      const error = last
        ? workerLost(last)
        : new KilnError('WorkerLost', 'The processes that ran this ended without finishing it.');
      await abandon(trx, handlers.get(found.kind), found, errorBody(error));
      return true;
    });
    if (!settled) continue;
    log('warning', 'An operation lost all the workers that tried it.', { id, attempt });
    ended.push(operation);
  }
  return ended;
}

/** Queues whose worker has ended. Told by the rows, so that a sweep that was itself killed is completed by the next. */
async function removeQueues(database: Database, queue: Queue): Promise<void> {
  const queues = await queue.ownQueues();
  if (queues.length === 0) return;
  const open = await database.kysely
    .selectFrom('worker')
    .select('id')
    .where('ended_at', 'is', null)
    .where(
      'id',
      'in',
      queues.map(({ worker }) => worker),
    )
    .execute();
  const living = new Set(open.map(({ id }) => id));
  for (const { queue: name, worker } of queues) if (!living.has(worker)) await queue.remove(name);
}
