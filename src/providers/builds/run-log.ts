/**
 * The build log of a run as a stream: as text, as far as it goes now; or as server-sent events, as it grows. Nothing is held between two pieces, no
 * connection and no more lines than one piece has, so that a reader may be as slow as it likes.
 */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import { publicError } from '../../arm/public-error.ts';
import { formatLine, type LogStream } from '../../builds/log.ts';
import type { LogLineRow, Schema } from '../../database/schema.ts';

/** Lines of one statement; a line has at most 8 KiB. */
const LINES = 200;
/** Characters of one piece of the stream, roughly. */
const PIECE = 32 * 1024;
/** How soon new lines are looked for (ms): at first, and when there were none for a while. */
const SOON = 250;
const LATER = 1_500;
/** Proxies cut connections that are silent for 30 s and longer (ms). */
const HEARTBEAT = 15_000;
/** When a client that was cut off may come again (ms). */
const RETRY = 2_000;

/** Where the host that built keeps the files of a run's log. */
export function logFile(logs: string, runId: string, name = 'customization.log'): string {
  return join(logs, runId, name);
}

/**
 * In the format of Azure's customization.log, and after it what the validators said. The files where this host has them, which have more than the rows:
 * Packer's own remarks, and all of long outputs.
 */
export async function logText(
  database: Kysely<Schema>,
  logs: string,
  runId: string,
): Promise<AsyncIterable<string | Uint8Array>> {
  const there: string[] = [];
  for (const path of [logFile(logs, runId), logFile(logs, runId, 'validation.log')]) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile()) there.push(path);
  }
  return there.length > 0 ? fileText(there) : rowText(database, runId);
}

/** Opened when the first piece is asked for, so that a client that has gone leaves nothing open. */
async function* fileText(paths: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const path of paths) {
    const file = await open(path);
    try {
      for await (const piece of file.createReadStream({ autoClose: false })) yield piece as Buffer;
    } finally {
      await file.close();
    }
  }
}

async function* rowText(database: Kysely<Schema>, runId: string): AsyncGenerator<string> {
  for (let next = 0; ; ) {
    const lines = await linesFrom(database, runId, next);
    if (lines.length === 0) return;
    yield* pieces(lines.map(({ stream, text }) => formatLine(runId, { stream: stream as LogStream, text })));
    next = lines.at(-1)!.seq + 1;
  }
}

export interface FollowOptions {
  /** The first line that the reader has not seen. */
  readonly from: number;
  readonly signal: AbortSignal;
  /** Whether the reader may read on: asked now and then, for a log is followed for hours. */
  readonly allowed: () => Promise<boolean>;
  /** For tests: between two looks, and between two questions whether the reader may (ms). */
  readonly poll?: number;
  readonly ask?: number;
}

/**
 * Server-sent events, until the run has ended: one for each line (`id`: its number; `data`: seq, at, phase, stream, text), `restart` when a worker died and
 * another one builds from the beginning, and at last `end` with the run's state. Without that it ends for a reader who may not read it any more.
 */
export async function* followLog(
  database: Kysely<Schema>,
  runId: string,
  { from, signal, allowed, poll = SOON, ask = HEARTBEAT }: FollowOptions,
): AsyncGenerator<string> {
  let next = from;
  let last: Date | undefined;
  let wait = poll;
  let spoken = Date.now();
  let asked = Date.now();
  const refused = async (): Promise<boolean> => {
    if (Date.now() - asked < ask) return false;
    asked = Date.now();
    return !(await allowed());
  };
  // Something at once: the client learns that it is connected.
  yield `retry: ${RETRY}\n\n`;
  while (!signal.aborted) {
    // Read before the lines: what a run wrote before it ended is then surely among them.
    const run = await standing(database, runId, next - 1);
    if (!run || (await refused())) return;
    if (next > 0 && (run.last_at === null || (last && run.last_at.getTime() !== last.getTime()))) {
      next = 0;
      last = undefined;
      yield 'event: restart\ndata: {}\n\n';
    }
    for (let more = true; more; ) {
      const lines = await linesFrom(database, runId, next);
      more = lines.length === LINES;
      if (lines.length === 0) break;
      next = lines.at(-1)!.seq + 1;
      last = lines.at(-1)!.at;
      for (const piece of pieces(lines.map(lineEvent))) {
        yield piece;
        if (signal.aborted || (await refused())) return;
      }
      spoken = Date.now();
      wait = poll;
    }
    if (run.ended_at) {
      const { state, message, error } = run;
      yield `event: end\ndata: ${JSON.stringify({ state, message: message ?? '', error: error && publicError(error) })}\n\n`;
      return;
    }
    if (Date.now() - spoken >= HEARTBEAT) {
      yield ': the run goes on\n\n';
      spoken = Date.now();
    }
    await sleep(wait, undefined, { signal }).catch(() => undefined);
    wait = Math.min(wait * 1.5, Math.max(LATER, poll));
  }
}

/** The run, and when the last line that the reader has was written: another time, or none, when the log was begun anew. */
async function standing(database: Kysely<Schema>, runId: string, lastSeq: number) {
  return await database
    .selectFrom('run')
    .select(['state', 'message', 'error', 'ended_at'])
    .select(sql<Date | null>`(select at from log_line where run_id = run.id and seq = ${lastSeq})`.as('last_at'))
    .where('id', '=', runId)
    .executeTakeFirst();
}

async function linesFrom(database: Kysely<Schema>, runId: string, next: number): Promise<LogLineRow[]> {
  return await database
    .selectFrom('log_line')
    .selectAll()
    .where('run_id', '=', runId)
    .where('seq', '>=', next)
    .orderBy('seq')
    .limit(LINES)
    .execute();
}

/** JSON has no line ends of its own, so a line of data is one line. */
function lineEvent({ seq, at, phase, stream, text }: LogLineRow): string {
  return `id: ${seq}\ndata: ${JSON.stringify({ seq, at, phase, stream, text })}\n\n`;
}

function* pieces(texts: readonly string[]): Generator<string> {
  let piece = '';
  for (const text of texts) {
    if (piece.length + text.length > PIECE && piece !== '') {
      yield piece;
      piece = '';
    }
    piece += text;
  }
  if (piece !== '') yield piece;
}
