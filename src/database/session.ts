/** A connection of one's own that is kept: it holds session locks and listens, and comes back after the database was away. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { ServiceLog } from './service-log.ts';

export interface SessionOptions {
  /** The signal aborts when nobody wants the connection any more. */
  readonly connect: (closing: AbortSignal) => Promise<pg.Client>;
  /** Runs on every new connection before it counts: takes locks, listens. A rejection closes the connection. */
  readonly prepare?: (client: pg.Client) => Promise<void>;
  readonly onNotification?: (payload: string) => void;
  readonly log: ServiceLog;
}

export interface Session {
  /** undefined while the database is away. */
  readonly client: pg.Client | undefined;
  /** Stops the repair and hands the connection over to be ended by the caller; undefined while the database is away. */
  detach(): Promise<pg.Client | undefined>;
  /** Ends the connection, and with it everything it held. Never rejects. */
  close(): Promise<void>;
}

/** A connected client. A lost connection is an event for whoever waits on it, never an uncaught error. */
export async function connectClient(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client({ connectionTimeoutMillis: 5_000, keepAlive: true, ...config });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
}

/** Rejects when the first connection fails; later losses are repaired until `close`. */
export async function openSession(options: SessionOptions): Promise<Session> {
  const closing = new AbortController();
  let client: pg.Client | undefined;
  let repair: Promise<void> | undefined;

  async function establish(): Promise<void> {
    const next = await options.connect(closing.signal);
    let lost = false;
    next.once('end', () => {
      lost = true;
      if (client !== next) return;
      client = undefined;
      if (!closing.signal.aborted) repair = restore();
    });
    if (options.onNotification) next.on('notification', message => options.onNotification?.(message.payload ?? ''));
    try {
      await options.prepare?.(next);
      closing.signal.throwIfAborted();
      if (lost) throw new Error('The connection was lost at once.');
    } catch (error) {
      await next.end().catch(() => undefined);
      throw error;
    }
    client = next;
  }

  async function restore(): Promise<void> {
    options.log('warning', 'The connection to the database was lost.');
    for (let wait = 50; !closing.signal.aborted; wait = Math.min(wait * 2, 2_000)) {
      try {
        await establish();
        options.log('info', 'The database is back.');
        return;
      } catch (error) {
        options.log('debug', 'The database is still away.', { error: String(error) });
        await sleep(wait, undefined, { signal: closing.signal }).catch(() => undefined);
      }
    }
  }

  async function detach(): Promise<pg.Client | undefined> {
    closing.abort();
    await repair;
    return client;
  }

  await establish();
  return {
    get client() {
      return client;
    },
    detach,
    async close() {
      await (await detach())?.end().catch(() => undefined);
    },
  };
}
