/** Triggers as the front door serves them: what starts a template's next build when its source gets newer. */
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey, parentId } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { requireConditions } from '../conditions.ts';
import { putValidated, requireResource } from '../life.ts';
import type { Answer, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, lockResource, patchProperties } from '../store.ts';
import { TRIGGER_CREATE_KIND, TRIGGER_DELETE_KIND, type TriggerInput } from './triggers-operations.ts';
import { TRIGGER_TYPE, triggers } from './triggers-type.ts';

/** Of one subscription in one region (contract 4.3). */
export const MOST_TRIGGERS = 100;
/** A publisher is asked at most this long. */
const CREATE_SECONDS = 120;

export const triggersProvider: ResourceProvider = Object.freeze({
  definition: triggers,
  groupSegment: 'resourcegroups',
  untagged: true,
  put,
  remove,
  /** In the order of the recordings. */
  show({ properties }) {
    const { kind, provisioningState, status } = properties;
    return {
      properties: { kind, provisioningState, ...(isObject(status) && { status: statusOf(status) }) },
    };
  },
} satisfies ResourceProvider);

const statusOf = ({ code, message, time }: JsonObject): JsonObject => ({ code, message, time });

async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const { engine, database } = call.environment;
  const { apiVersion, conditions } = call;
  const id = formatId(call.id);
  return await database.transaction().execute(async trx => {
    const templateKey = idKey(parentId(call.id)!);
    // Two triggers at once would both find no other; and the template must stay what it is.
    await trx.selectFrom('resource').select('id').where('id', '=', templateKey).forUpdate().execute();
    const { resource, created } = await putValidated(trx, triggers, { id, body, apiVersion, conditions });
    const template = await requireResource(trx, templateKey);
    if (created) await checkQuota(trx, call.id.subscription, template.location!);
    const operation = await submit(trx, call, TRIGGER_CREATE_KIND, engine);
    return { status: created ? 201 : 200, resource, operation: { id: operation, location: template.location! } };
  });
}

async function remove(call: ResourceCall): Promise<Answer> {
  const { engine, database } = call.environment;
  return await database.transaction().execute(async trx => {
    const template = await requireResource(trx, formatId(parentId(call.id)!));
    await lockResource(trx, call.id);
    requireConditions(call.conditions, call.id, await getResource(trx, call.id));
    if (!(await patchProperties(trx, call.id, { provisioningState: 'Deleting' }))) return { status: 204 };
    const operation = await submit(trx, call, TRIGGER_DELETE_KIND, engine);
    return { status: 202, operation: { id: operation, location: template.location! } };
  });
}

async function submit(
  trx: Transacting,
  call: ResourceCall,
  kind: string,
  engine: ResourceCall['environment']['engine'],
): Promise<string> {
  const input: TriggerInput = { triggerId: formatId(call.id) };
  const resourceId = idKey(call.id);
  const id = await engine.submit(trx, { kind, resourceId, input, where: 'anywhere', timeoutSeconds: CREATE_SECONDS });
  await trx.updateTable('operation').set({ caller: call.caller.objectId }).where('id', '=', id).execute();
  return id;
}

/** The new one is counted already. */
async function checkQuota(trx: Transacting, subscription: string, location: string): Promise<void> {
  // One at a time, or two would both be the last one that fits.
  await sql`select pg_advisory_xact_lock(hashtextextended(${`kiln triggers ${subscription.toLowerCase()} ${location}`}, 0))`.execute(
    trx,
  );
  const { count } = await trx
    .selectFrom('resource as trigger')
    .innerJoin('resource as template', 'template.id', 'trigger.parent_id')
    .where(eb => eb.fn<string>('lower', ['trigger.type']), '=', TRIGGER_TYPE.toLowerCase())
    .where('trigger.subscription', '=', subscription.toLowerCase())
    .where('template.location', '=', location)
    .select(eb => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  if (count > MOST_TRIGGERS)
    throw new KilnError(
      'Conflict',
      `The subscription '${subscription}' has ${MOST_TRIGGERS} triggers in the region '${location}' already; it cannot have more.`,
      { hint: 'Delete triggers that are not needed any more.' },
    );
}
