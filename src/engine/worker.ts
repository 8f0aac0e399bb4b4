/**
 * A worker is a process that executes operations. It lives as long as its session holds an advisory lock: PostgreSQL frees it in the
 * moment the process dies, so nobody waits for a heartbeat to find out.
 */
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../arm/errors.ts';
import type { Database } from '../database/connection.ts';
import type { Schema, WorkerRow } from '../database/schema.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { openSession, type Session } from '../database/session.ts';
import { CHANNEL } from './operation.ts';

const key = (worker: string) => sql<string>`hashtextextended(${`kiln worker ${worker}`}, 0)`;

export interface WorkerOptions {
  readonly database: Database;
  readonly id: string;
  readonly log: ServiceLog;
  /** The payload of each notification on the operations' channel. */
  readonly onNotification: (payload: string) => void;
  /** The database was away: locks were free for a while, notifications were missed. */
  readonly onReturn: () => void;
}

/** Registers this process as a worker, for as long as the session is open. */
export async function openWorker(options: WorkerOptions): Promise<Session> {
  const { database, id, log } = options;
  const identity = await ownIdentity();
  let returning = false;
  return await openSession({
    log,
    connect: database.connect,
    onNotification: options.onNotification,
    async prepare(client) {
      // A host that vanishes from the network must not be held alive by its half-open connection.
      await client.query('set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3');
      const lock = key(id).compile(database.kysely);
      // Somebody who asks whether this worker lives holds the lock for an instant.
      for (let tries = 0; ; tries += 1, await sleep(20)) {
        const { rows } = await client.query(`select pg_try_advisory_lock(${lock.sql}) as held`, [...lock.parameters]);
        if (rows[0].held) break;
        if (tries > 250) throw new KilnError('DatabaseUnavailable', `Another session holds the lock of worker ${id}.`);
      }
      await client.query(`listen ${CHANNEL}`);
      await database.kysely
        .insertInto('worker')
        .values({ id, ...identity })
        .onConflict(conflict => conflict.column('id').doUpdateSet({ ended_at: null }))
        .execute();
      if (returning) options.onReturn();
      returning = true;
    },
  });
}

/** Says that a worker ended by itself. */
export async function endWorker(database: Kysely<Schema>, id: string): Promise<void> {
  await database.updateTable('worker').set({ ended_at: new Date() }).where('id', '=', id).execute();
}

/** Whether the worker still runs. A free lock is proof of death unless its process is seen running here: its connection may be coming back. */
export async function isAlive(database: Kysely<Schema>, id: string): Promise<boolean> {
  const row = await database.selectFrom('worker').selectAll().where('id', '=', id).executeTakeFirst();
  if (!row || row.ended_at !== null) return false;
  // The lock of a statement's own transaction is gone with the statement.
  const { rows } = await sql<{ free: boolean }>`select pg_try_advisory_xact_lock(${key(id)}) as free`.execute(database);
  return !rows[0]?.free || (await runsHere(row));
}

/** Open rows of workers that can be judged from here: those of this host, or all where the state directory has its own server. */
export async function openWorkersHere(database: Database): Promise<WorkerRow[]> {
  return await database.kysely
    .selectFrom('worker')
    .selectAll()
    .where('ended_at', 'is', null)
    // A container that comes back on the same state directory has another host name.
    .$if(!database.embedded, query => query.where('host', '=', hostname()))
    .execute();
}

async function runsHere(row: WorkerRow): Promise<boolean> {
  const own = await ownIdentity();
  if (row.boot_id !== own.boot_id) return false;
  return row.process === (await processIdentity(row.pid));
}

async function ownIdentity(): Promise<Pick<WorkerRow, 'host' | 'boot_id' | 'pid' | 'process'>> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const process_ = (await processIdentity(process.pid)) ?? '';
  return { host: hostname(), boot_id: bootId.trim(), pid: process.pid, process: process_ };
}

/** PID namespace (ours: no other can be seen) and start time. undefined: no such process. */
async function processIdentity(pid: number): Promise<string | undefined> {
  try {
    const [namespace, stat] = await Promise.all([readlink('/proc/self/ns/pid'), readFile(`/proc/${pid}/stat`, 'utf8')]);
    // proc(5): the second field is the name in parentheses, which may hold anything; state is the third, the start time the 22nd.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : `${namespace} ${fields[19]}`;
  } catch {
    return undefined;
  }
}
