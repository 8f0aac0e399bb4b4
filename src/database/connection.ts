/** The open database: a pool for queries, and connections of one's own for those who hold locks or listen. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Kysely, PostgresDialect, type Transaction } from 'kysely';
import pg from 'pg';
import { KilnError } from '../arm/errors.ts';
import type { Home } from '../home.ts';
import { type EmbeddedServer, openEmbedded } from './embedded.ts';
import { migrate, SCHEMA_NAME } from './migrate.ts';
import type { Schema } from './schema.ts';
import type { ServiceLog } from './service-log.ts';
import { connectClient } from './session.ts';

export type Transacting = Transaction<Schema>;

export interface Database {
  readonly kysely: Kysely<Schema>;
  /** For libraries that bring their own SQL. */
  readonly pool: pg.Pool;
  /** The server belongs to the state directory, so every worker in it runs on this computer. */
  readonly embedded: boolean;
  /** A connection beside the pool; the caller ends it. */
  connect(): Promise<pg.Client>;
  /** Ends all connections; the last process of a state directory stops its server. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly home: Home;
  readonly log: ServiceLog;
  /** A PostgreSQL to use instead of the state directory's own. Default: DATABASE_URL. */
  readonly url?: string | undefined;
  /** The state directory's own, where it has been begun before. Taken over in every case. */
  readonly server?: Promise<EmbeddedServer> | undefined;
}

/**
 * Opens the database and brings its tables up to date. Errors: DatabaseUnavailable, StateTooNew, StateUnwritable, DiskFull.
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const { home, log } = options;
  const url = options.url ?? process.env.DATABASE_URL;
  const embedded = url ? undefined : await (options.server ?? openEmbedded(home, log));
  const config: pg.ClientConfig = {
    ...(embedded?.config ?? { connectionString: url! }),
    application_name: `kiln ${process.pid}`,
    options: `-c search_path=${SCHEMA_NAME},public`,
    types: types(),
  };
  const pool = new pg.Pool({ ...config, max: 6, idleTimeoutMillis: 10_000, connectionTimeoutMillis: 5_000 });
  // A lost connection fails the query that waits on it. Idle ones (in the pool, or between two statements of a transaction)
  // have nobody waiting, and their event would end the process.
  pool.on('error', error => log('debug', 'An idle database connection was lost.', { error: error.message }));
  pool.on('connect', client => client.on('error', () => undefined));
  const kysely = new Kysely<Schema>({
    dialect: new PostgresDialect({
      pool: {
        // Whoever waits until it is reachable would wait for somebody to make room.
        connect: () => pool.connect().catch(error => Promise.reject(embedded?.noRoom() ?? error)),
        end: () => pool.end(),
      },
    }),
  });
  const connect = () => connectClient(config);
  const close = async () => {
    await kysely.destroy();
    await embedded?.close();
  };
  try {
    if (url) await reach(url, connect);
    await migrate(kysely, connect);
  } catch (error) {
    await close();
    throw error;
  }
  return { kysely, pool, embedded: embedded !== undefined, connect, close };
}

/** Sizes are below 2^53: bigint columns are read as numbers. */
function types(): pg.CustomTypesConfig {
  const overrides = new pg.TypeOverrides();
  overrides.setTypeParser(pg.types.builtins.INT8, Number);
  return overrides as pg.CustomTypesConfig;
}

async function reach(url: string, connect: () => Promise<pg.Client>): Promise<void> {
  try {
    await (await connect()).end();
  } catch (error) {
    throw new KilnError('DatabaseUnavailable', `The database of DATABASE_URL cannot be reached: ${reason(error)}`, {
      target: withoutPassword(url),
      hint: 'Check DATABASE_URL, and that the server runs; unset it to use the state directory.',
      cause: error,
    });
  }
}

/** Several addresses of one name fail with an AggregateError whose own message is empty. */
function reason(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  return first instanceof Error ? first.message : String(first);
}

function withoutPassword(url: string): string {
  try {
    const parsed = new URL(url);
    if (parsed.password) parsed.password = '***';
    return parsed.href;
  } catch {
    return 'DATABASE_URL';
  }
}

/** Whether an error says that the database was out of reach, rather than that the statement was wrong. */
export function isAway(error: unknown): boolean {
  const { code, message, syscall } = error as { code?: unknown; message?: unknown; syscall?: unknown };
  // No socket file; a missing file of other work is not meant.
  if (code === 'ENOENT') return syscall === 'connect';
  if (typeof code === 'string' && /^(ECONN|EPIPE|ETIMEDOUT|EAI_AGAIN|08|57P0|53300)/.test(code)) return true;
  return /connection terminated|timeout exceeded when trying to connect|not queryable/i.test(String(message));
}

/**
 * Repeats work until the database can be reached. Only for work that may be done twice: the answer of a statement that was
 * executed can be lost too. Rejects with other errors, and with the signal's reason.
 */
export async function whenReachable<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
    try {
      return await work();
    } catch (error) {
      if (!isAway(error)) throw error;
      signal?.throwIfAborted();
      await sleep(wait, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}
