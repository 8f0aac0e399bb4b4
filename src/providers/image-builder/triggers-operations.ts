/** The `create` and `delete` operations of a trigger. Creating one looks at the source: what is newest then has been seen. */
import type { Kysely } from 'kysely';
import { formatId, parentId, parseId } from '../../arm/ids.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { requireResource } from '../life.ts';
import { getResource, patchProperties, removeResource } from '../store.ts';
import { templateOf } from './image-templates.ts';
import { formatSeen, newestSource } from './triggers-source.ts';
import { healthy } from './triggers-state.ts';
import { TRIGGER_TYPE } from './triggers-type.ts';

export const TRIGGER_CREATE_KIND = `${TRIGGER_TYPE}/create`;
export const TRIGGER_DELETE_KIND = `${TRIGGER_TYPE}/delete`;

export interface TriggerInput {
  readonly triggerId: string;
}

export function createTriggerHandler({
  database,
  home,
}: {
  readonly database: Kysely<Schema>;
  readonly home: Home;
}): OperationHandler {
  return {
    kind: TRIGGER_CREATE_KIND,
    async run({ signal }, input) {
      const { triggerId } = input as TriggerInput;
      try {
        const template = templateOf(await requireResource(database, templateOfTrigger(triggerId)));
        const seen = formatSeen(await newestSource(template, { database, home }, signal));
        await database.transaction().execute(async trx => {
          const trigger = await pending(trx, triggerId);
          if (!trigger) return;
          const { numInsertedOrUpdatedRows } = await trx
            .insertInto('trigger_state')
            .values({ id: triggerId.toLowerCase(), seen_version: seen })
            // A trigger that is put again keeps what it has seen, and whether it is on.
            .onConflict(conflict => conflict.doNothing())
            .executeTakeFirstOrThrow();
          const isNew = (numInsertedOrUpdatedRows ?? 0n) > 0n;
          await patchProperties(trx, triggerId, {
            provisioningState: 'Succeeded',
            ...(isNew && { status: healthy() }),
          });
        });
      } catch (error) {
        await whenReachable(
          () => database.transaction().execute(trx => fail(trx, triggerId)),
          AbortSignal.timeout(10_000),
        );
        throw error;
      }
      return { triggerId };
    },
    async abandoned(trx, operation) {
      await fail(trx, operation.resource_id!);
      return undefined;
    },
  };
}

export function deleteTriggerHandler({ database }: { readonly database: Kysely<Schema> }): OperationHandler {
  return {
    kind: TRIGGER_DELETE_KIND,
    async run(_context, input) {
      const { triggerId } = input as TriggerInput;
      await whenReachable(() => removeResource(database, triggerId));
      return { triggerId };
    },
    // It would be gone in a moment; nobody waits for it any more.
    async abandoned(trx, operation) {
      await removeResource(trx, operation.resource_id!);
      return { status: 'Succeeded', output: { triggerId: operation.resource_id } };
    },
  };
}

const templateOfTrigger = (triggerId: string): string => formatId(parentId(parseId(triggerId))!);

/** The trigger, locked, unless it is gone or going. */
async function pending(trx: Transacting, triggerId: string) {
  await trx.selectFrom('resource').select('id').where('id', '=', triggerId.toLowerCase()).forUpdate().execute();
  const trigger = await getResource(trx, triggerId);
  return trigger?.properties.provisioningState === 'Deleting' ? undefined : trigger;
}

async function fail(trx: Transacting, triggerId: string): Promise<void> {
  if (await pending(trx, triggerId)) await patchProperties(trx, triggerId, { provisioningState: 'Failed' });
}
