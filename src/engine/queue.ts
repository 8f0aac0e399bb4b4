/**
 * pg-boss, and all of it that Kiln uses. A job carries nothing but the id of its operation: the operation's row is the truth, and a
 * job that comes twice finds there that it is done, or being done.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { fromKysely, PgBoss } from 'pg-boss';
import type { Database, Transacting } from '../database/connection.ts';
import { withSetupLock } from '../database/migrate.ts';
import type { ServiceLog } from '../database/service-log.ts';

/** What long-lived workers serve. A worker's own queue is this with its id. */
export const SHARED_QUEUE = 'operations';
/** And the heavy operations, each with a machine of its own for minutes: whatever is short must not wait behind them. */
export const BUILD_QUEUE = 'builds';
export const SHARED_QUEUES: readonly string[] = [SHARED_QUEUE, BUILD_QUEUE];

/** How often a worker shows that it lives (s; pg-boss's minimum), and how often a dead one's jobs are looked for. */
const HEARTBEAT = 10;
const SUPERVISION = 5;
/** Attempts of a shared operation after the first; a job that kills three workers is at fault itself. */
const RETRIES = 2;
/** pg-boss gives no job longer (s). Deadlines of operations are kept by who executes them. */
const LONGEST = 24 * 3600;
const KEPT = 24 * 3600;
/** Between looks when no notification comes (ms). */
const POLL = 2_000;
/** The same, for those who look beside another (s). */
const REST = 30;

/** What pg-boss says of a job that it hands out, as far as it is used here. */
interface JobAttempt {
  readonly id: string;
  readonly retryCount: number;
}

export interface Job {
  /** Of the operation too. */
  readonly id: string;
  /** 1 for the first. */
  readonly attempt: number;
}

export type JobState = 'waiting' | 'active' | 'ended' | 'gone';

export interface Consumer {
  /** Look now. */
  nudge(): void;
  /** Takes no more jobs. What runs, runs on. */
  stop(): Promise<void>;
}

export interface Queue {
  /** In the caller's transaction. */
  send(trx: Transacting, queue: string, id: string): Promise<void>;
  create(queue: string): Promise<void>;
  /** Hands out every job at once: whoever is its only consumer limits nothing. */
  consumeOwn(queue: string, work: (job: Job) => Promise<void>): Consumer;
  /** A rejection gives the job back for another attempt. */
  consumeShared(queue: string, concurrency: number, work: (job: Job) => Promise<void>): Promise<Consumer>;
  state(queue: string, id: string): Promise<JobState>;
  /** The attempt is over, because its worker died: another may begin at once. */
  giveBack(queue: string, job: Job): Promise<void>;
  /** Queues of single workers, with the worker's id. */
  ownQueues(): Promise<{ queue: string; worker: string }[]>;
  remove(queue: string): Promise<void>;
  close(): Promise<void>;
}

export const ownQueue = (worker: string): string => `${SHARED_QUEUE}-${worker}`;

export async function openQueue(database: Database, log: ServiceLog): Promise<Queue> {
  const boss = new PgBoss({
    db: { executeSql: (text, values) => database.pool.query(text, values) },
    schema: 'pgboss',
    schedule: false,
    superviseIntervalSeconds: SUPERVISION,
    monitorIntervalSeconds: SUPERVISION,
    // Nothing here depends on other jobs; once an hour is as rarely as it may be asked.
    flowIntervalSeconds: 3600,
    warningQueueSize: 10_000,
  });
  boss.on('error', quiet(log));
  boss.on('warning', warning => log('debug', `pg-boss: ${warning.message}`, { ...warning.data }));
  // Its tables, like ours, are made by one process at a time.
  if (await isReady(database)) await boss.start();
  else
    await withSetupLock(database.connect, async () => {
      await boss.start();
      for (const queue of SHARED_QUEUES)
        await boss.createQueue(queue, {
          retryLimit: RETRIES,
          heartbeatSeconds: HEARTBEAT,
          expireInSeconds: LONGEST,
          deleteAfterSeconds: KEPT,
        });
    });

  const asJob = (job: JobAttempt): Job => ({ id: job.id, attempt: job.retryCount + 1 });

  return {
    async send(trx, queue, id) {
      const sent = await boss.send(queue, {}, { id, db: fromKysely(trx) });
      if (sent !== id) throw new Error(`The job ${id} was not taken by the queue ${queue}.`);
    },

    async create(queue) {
      await boss.createQueue(queue, { retryLimit: 0, expireInSeconds: LONGEST, deleteAfterSeconds: KEPT });
    },

    consumeOwn(queue, work) {
      const stopping = new AbortController();
      let look = new AbortController();
      const loop = (async () => {
        while (!stopping.signal.aborted) {
          const jobs: JobAttempt[] = await boss.fetch(queue, { batchSize: 10 }).catch(error => {
            quiet(log)(error);
            return [];
          });
          for (const job of jobs)
            void work(asJob(job))
              .then(() => boss.complete(queue, job.id))
              // A lost completion is harmless: the operation's row has the outcome, and the queue goes with its worker.
              .catch(error => log('debug', 'A job was not completed.', { id: job.id, error: String(error) }));
          if (jobs.length > 0) continue;
          await sleep(POLL, undefined, { signal: AbortSignal.any([stopping.signal, look.signal]) }).catch(
            () => undefined,
          );
          look = new AbortController();
        }
      })();
      return {
        nudge: () => look.abort(),
        async stop() {
          stopping.abort();
          await loop;
        },
      };
    },

    async consumeShared(queue, concurrency, work) {
      // Least recently woken first. Who is busy looks again by itself when it is done.
      const idle = new Set<string>();
      for (let n = 0; n < concurrency; n++) {
        let id = '';
        const pollingIntervalSeconds = n === 0 ? POLL / 1000 : REST;
        id = await boss.work(queue, { pollingIntervalSeconds, heartbeatRefreshSeconds: 2 }, async ([job]) => {
          idle.delete(id);
          try {
            if (job) await work(asJob(job));
          } finally {
            idle.add(id);
            boss.notifyWorker(id);
          }
        });
        idle.add(id);
      }
      return {
        nudge() {
          const [id] = idle;
          if (id === undefined) return;
          idle.delete(id);
          idle.add(id);
          boss.notifyWorker(id);
        },
        stop: () => boss.offWork(queue, { wait: false }),
      };
    },

    async state(queue, id) {
      const [job] = await boss.findJobs(queue, { id });
      if (!job) return 'gone';
      if (job.state === 'active') return 'active';
      return job.state === 'created' || job.state === 'retry' ? 'waiting' : 'ended';
    },

    async giveBack(queue, job) {
      await boss.fail(queue, { id: job.id, retryCount: job.attempt - 1 }, { message: 'The worker died.' });
    },

    async ownQueues() {
      const queues = await boss.getQueues();
      return queues
        .filter(({ name }) => name.startsWith(`${SHARED_QUEUE}-`))
        .map(({ name }) => ({ queue: name, worker: name.slice(SHARED_QUEUE.length + 1) }));
    },

    // pg-boss's own deleteQueue fails for the second of two processes that remove one queue, and leaves its connection in a
    // transaction that has failed. Here the second waits for the row, and finds nothing.
    async remove(queue) {
      await sql`
        with found as materialized (select name from pgboss.queue where name = ${queue} for update)
        select pgboss.delete_queue(name) from found`.execute(database.kysely);
    },

    close: () => boss.stop({ graceful: false, close: false }),
  };
}

/** Whether pg-boss's tables and the shared queues are there; a newer pg-boss migrates its tables under its own lock. */
async function isReady(database: Database): Promise<boolean> {
  try {
    const { rowCount } = await database.pool.query('select from pgboss.queue where name = any($1)', [SHARED_QUEUES]);
    return rowCount === SHARED_QUEUES.length;
  } catch {
    return false;
  }
}

/** A database that is away makes every poll of pg-boss fail; one line in half a minute tells as much. */
function quiet(log: ServiceLog): (error: Error) => void {
  let last = Number.NEGATIVE_INFINITY;
  return error => {
    if (Date.now() - last < 30_000) return;
    last = Date.now();
    log('warning', 'The queue reports an error.', { error: error.message });
  };
}
