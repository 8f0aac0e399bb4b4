/** An operation that was over when it began: what it stands for was written in one transaction with it. Clients poll it as any other. */
import { randomUUID } from 'node:crypto';
import type { Transacting } from '../database/connection.ts';
import { json } from '../database/json.ts';
import { SHARED_QUEUE } from './queue.ts';

export interface Done {
  readonly kind: string;
  /** In lower case; it may be gone. */
  readonly resourceId: string;
  readonly output?: unknown;
  /** Object id of the principal that asked for it. */
  readonly caller: string;
}

/** @returns the operation's id. */
export async function recordDone(trx: Transacting, { kind, resourceId, output, caller }: Done): Promise<string> {
  const id = randomUUID();
  const now = new Date();
  await trx
    .insertInto('operation')
    .values({
      id,
      kind,
      resource_id: resourceId,
      queue: SHARED_QUEUE,
      status: 'Succeeded',
      input: json({}),
      output: json(output),
      caller,
      started_at: now,
      ended_at: now,
    })
    .execute();
  return id;
}
