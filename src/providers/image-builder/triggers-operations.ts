/** The `create` and `delete` operations of a trigger. Creating one looks at the source: what is newest then has been seen. */
import type { Kysely } from 'kysely';
import { asKilnError } from '../../arm/errors.ts';
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
        // One that is put again keeps what it has seen, and whether it is on: its publisher, who may be away, is not asked.
        const known = await isKnown(database, triggerId);
        const seen = known ? undefined : formatSeen(await newestSource(template, { database, home }, signal));
        await database.transaction().execute(async trx => {
          const trigger = await pending(trx, triggerId);
          if (!trigger) return;
          const isNew =
            seen !== undefined &&
            (await trx
              .insertInto('trigger_state')
              .values({ id: triggerId.toLowerCase(), seen_version: seen })
              .onConflict(conflict => conflict.doNothing())
              .returning('id')
              .executeTakeFirst()) !== undefined;
          await patchProperties(trx, triggerId, {
            provisioningState: 'Succeeded',
            ...(isNew && { status: healthy() }),
          });
        });
      } catch (error) {
        // Another worker makes the trigger now.
        if (asKilnError(signal.aborted ? signal.reason : error).code === 'WorkerLost') throw error;
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

/** One that was provisioned before, and was only put again, works as it did. */
async function fail(trx: Transacting, triggerId: string): Promise<void> {
  if (!(await pending(trx, triggerId))) return;
  const provisioningState = (await isKnown(trx, triggerId)) ? 'Succeeded' : 'Failed';
  await patchProperties(trx, triggerId, { provisioningState });
}

async function isKnown(database: Kysely<Schema>, triggerId: string): Promise<boolean> {
  const id = triggerId.toLowerCase();
  return (
    (await database.selectFrom('trigger_state').select('id').where('id', '=', id).executeTakeFirst()) !== undefined
  );
}
