/** What an operation is: its states as data, who executes one, and how its row moves. */

import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import type { ErrorBody } from '../arm/errors.ts';
import type { Transacting } from '../database/connection.ts';
import { json } from '../database/json.ts';
import type { OperationRow, OperationStatus, Schema } from '../database/schema.ts';

/** The states and the moves between them. Running to Running: another worker takes it over. */
export const MOVES: Readonly<Record<OperationStatus, readonly OperationStatus[]>> = Object.freeze({
  NotStarted: ['Running', 'Failed', 'Canceled'],
  Running: ['Running', 'Succeeded', 'Failed', 'Canceled'],
  Succeeded: [],
  Failed: [],
  Canceled: [],
});

export const OPEN: readonly OperationStatus[] = ['NotStarted', 'Running'];

export const isTerminal = (status: OperationStatus): boolean => MOVES[status].length === 0;

/** From where a state may be reached. */
export const origins = (to: OperationStatus): OperationStatus[] =>
  (Object.keys(MOVES) as OperationStatus[]).filter(from => MOVES[from].includes(to));

export interface OperationContext {
  readonly id: string;
  /** 1 for the first; more when a worker died over it. */
  readonly attempt: number;
  /**
   * Aborts within a second of a cancel request (reason: KilnError Canceled), at the deadline (Timeout), when the process closes its
   * engine, or when the operation was taken away from this process (WorkerLost). The handler cleans up, and throws the reason.
   */
  readonly signal: AbortSignal;
}

/** How an operation ends. */
export type Outcome =
  | { readonly status: 'Succeeded'; readonly output: unknown }
  | { readonly status: 'Failed' | 'Canceled'; readonly error: ErrorBody };

export interface OperationHandler {
  readonly kind: string;
  /** Takes minutes and a machine of its own: waits for others of its like, and lets the short ones pass. */
  readonly heavy?: boolean;
  /** What `timeoutSeconds` counts: the time of each attempt (the default), or all that goes by since the first one began, also while nobody executes it. */
  readonly limit?: 'attempt' | 'whole';
  /** Does the work. A KilnError Canceled that it throws ends the operation Canceled, any other error Failed. */
  run(context: OperationContext, input: unknown): Promise<unknown>;
  /**
   * Called in the transaction that ends an operation which `run` will not end: its worker died, or it was canceled before it
   * started. Settles what belongs to it (the run's row). May return the outcome, where the rows show that the work was done.
   */
  abandoned?(trx: Transacting, operation: OperationRow, error: ErrorBody): Promise<Outcome | undefined>;
}

/** The channel on which operations tell each other's processes of changes; the payload is the verb and a name. */
export const CHANNEL = 'kiln_operation';

export type Verb = 'submitted' | 'cancel' | 'ended';

/** Delivered when the transaction commits. */
export async function notify(database: Kysely<Schema>, verb: Verb, name: string): Promise<void> {
  await sql`select pg_notify(${CHANNEL}, ${`${verb} ${name}`})`.execute(database);
}

/** Writes the end of an operation, if it is where this move is allowed (and, where given, still this worker's). Whether it was. */
export async function settle(
  database: Kysely<Schema>,
  id: string,
  outcome: Outcome,
  worker?: string,
): Promise<boolean> {
  const { numUpdatedRows } = await database
    .updateTable('operation')
    .set({
      status: outcome.status,
      ended_at: new Date(),
      ...(outcome.status === 'Succeeded' ? { output: json(outcome.output) } : { error: json(outcome.error) }),
    })
    .where('id', '=', id)
    .where('status', 'in', origins(outcome.status))
    .$if(worker !== undefined, query => query.where('worker', '=', worker!))
    .executeTakeFirst();
  if (numUpdatedRows > 0n) await notify(database, 'ended', id);
  return numUpdatedRows > 0n;
}

/** Ends an operation that nobody will end, with what belongs to it. */
export async function abandon(
  trx: Transacting,
  handler: OperationHandler | undefined,
  operation: OperationRow,
  error: ErrorBody,
): Promise<void> {
  const status = error.code === 'Canceled' ? 'Canceled' : 'Failed';
  const outcome = await handler?.abandoned?.(trx, operation, error);
  await settle(trx, operation.id, outcome ?? { status, error });
}
