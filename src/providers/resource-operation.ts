/** Operations of the engine that a resource waits for: how one begins, which is open, how others are ended. */
import type { Kysely } from 'kysely';
import { idKey, type ResourceId } from '../arm/ids.ts';
import type { Transacting } from '../database/connection.ts';
import type { Schema } from '../database/schema.ts';
import type { Engine } from '../engine/engine.ts';
import { OPEN } from '../engine/operation.ts';
import { writeOperation } from './store.ts';

export interface ResourceOperation {
  readonly kind: string;
  readonly resource: string | ResourceId;
  readonly input: unknown;
  /** Object id: who may poll it, whatever becomes of the resource. */
  readonly caller: string;
  readonly timeoutSeconds?: number;
}

/** Any worker may carry it out. It is written on the resource, which waits for it from now on. @returns its id */
export async function beginOperation(
  trx: Transacting,
  engine: Pick<Engine, 'submit'>,
  { kind, resource, input, caller, timeoutSeconds }: ResourceOperation,
): Promise<string> {
  const limit = timeoutSeconds === undefined ? {} : { timeoutSeconds };
  const id = await engine.submit(trx, { kind, resourceId: idKey(resource), input, where: 'anywhere', ...limit });
  await writeOperation(trx, resource, id);
  await trx.updateTable('operation').set({ caller }).where('id', '=', id).execute();
  return id;
}

/** The one of a kind that has not ended: who asks for the same is told of it. */
export async function openOperation(
  store: Kysely<Schema>,
  resource: string | ResourceId,
  kind: string,
): Promise<string | undefined> {
  const row = await store
    .selectFrom('operation')
    .select('id')
    .where('resource_id', '=', idKey(resource))
    .where('kind', '=', kind)
    .where('status', 'in', OPEN)
    .executeTakeFirst();
  return row?.id;
}

/**
 * What else is done to a resource is of no use any more. It is canceled rather than waited for: an operation that has not begun may stand behind this one, in
 * front of the only worker. @returns their ids, when they have ended
 */
export async function endOthers(
  { database, engine }: { readonly database: Kysely<Schema>; readonly engine: Pick<Engine, 'cancel' | 'wait'> },
  resource: string | ResourceId,
  own: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const open = await database
    .selectFrom('operation')
    .select('id')
    .where('resource_id', '=', idKey(resource))
    .where('id', '!=', own)
    .where('status', 'in', OPEN)
    .execute();
  for (const { id } of open) await engine.cancel(id);
  for (const { id } of open) await engine.wait(id, { signal });
  return open.map(({ id }) => id);
}
