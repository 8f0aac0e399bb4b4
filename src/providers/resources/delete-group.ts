/**
 * The `delete` operation of a resource group: all that is in it goes, last the group. From the first moment on nothing new gets in (life.ts refuses it), and a
 * worker that dies over it leaves it to the next one.
 */
import { type Kysely, sql } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { idKey, parseId, sameText } from '../../arm/ids.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import type { Engine } from '../../engine/engine.ts';
import { OPEN, type OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import { requireUnlocked } from '../authorization/locked-scopes.ts';
import { type Conditions, requireConditions } from '../conditions.ts';
import { dropOrphansIn } from '../image-builder/orphan-layers.ts';
import { removeTemplate, requireUnlockedStaging } from '../image-builder/remove.ts';
import { ACTIVE } from '../image-builder/run.ts';
import { forgetStaging } from '../image-builder/staging.ts';
import { TEMPLATE_TYPE } from '../image-builder/validate.ts';
import { notFoundError } from '../life.ts';
import { requireUnusedOutside } from '../network/use.ts';
import { beginOperation, openOperation } from '../resource-operation.ts';
import { getResource, listResources, lockResource, patchProperties, removeResource, waitsFor } from '../store.ts';
import { removeImages } from './group-images.ts';
import { isDeleting } from './groups.ts';

export const DELETE_GROUP_KIND = 'Microsoft.Resources/resourceGroups/delete';

interface DeleteInput {
  readonly groupId: string;
}

/** Begins it, or finds it going on. @returns the operation's id. Errors: ResourceGroupNotFound, ScopeLocked, Conflict while something in it is being built, or used from outside. */
export async function deleteGroup(
  { database, engine }: { readonly database: Kysely<Schema>; readonly engine: Engine },
  id: string,
  caller: string,
  conditions?: Conditions,
): Promise<string> {
  const key = idKey(id);
  return await database.transaction().execute(async trx => {
    await trx.selectFrom('resource').select('id').where('id', '=', key).forUpdate().execute();
    const group = await getResource(trx, key);
    if (!group) throw await notFoundError(trx, parseId(id));
    requireConditions(conditions, id, group);
    if (isDeleting(group)) {
      const open = await openOperation(trx, key, DELETE_GROUP_KIND);
      if (open !== undefined) return open;
    }
    await requireContentUnlocked(trx, group.id);
    await refuseWhileBuilding(trx, key, group.name);
    await requireUnusedOutside(trx, key, group.name);
    await patchProperties(trx, key, { provisioningState: 'Deleting' });
    const input: DeleteInput = { groupId: group.id };
    return await beginOperation(trx, engine, { kind: DELETE_GROUP_KIND, resource: key, input, caller });
  });
}

/** All that goes with the group: what is in it, and the staging groups of its templates. Errors: ScopeLocked. */
async function requireContentUnlocked(trx: Transacting, groupId: string): Promise<void> {
  await requireUnlocked(trx, groupId, 'delete');
  const { subscription, resourceGroup } = parseId(groupId);
  const templates = await listResources(trx, { type: TEMPLATE_TYPE, subscription, resourceGroup: resourceGroup! });
  for (const template of templates) await requireUnlockedStaging(trx, template);
}

/** Builds of templates in the group, and of those that have it for staging. */
async function refuseWhileBuilding(trx: Transacting, key: string, name: string): Promise<void> {
  const active = await trx
    .selectFrom('run')
    .leftJoin('resource', 'resource.id', 'run.template_id')
    .select(['run.id', 'run.template_name'])
    .where('run.state', 'in', ACTIVE)
    .where(where =>
      where.or([
        sql<boolean>`starts_with(run.template_id, ${`${key}/`})`,
        sql<boolean>`lower(resource.properties->>'exactStagingResourceGroup') = ${key}`,
      ]),
    )
    .orderBy('run.created_at')
    .executeTakeFirst();
  if (!active) return;
  throw new KilnError(
    'Conflict',
    `The resource group '${name}' cannot be deleted: the image template '${active.template_name}' is being built by run ${active.id}.`,
    { target: key, hint: 'Cancel the run, or wait until it has ended.' },
  );
}

export interface DeleteGroupEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  /** Read when the operation runs. */
  readonly engine: Engine;
}

export function deleteGroupHandler(environment: DeleteGroupEnvironment): OperationHandler {
  const { database } = environment;
  return {
    kind: DELETE_GROUP_KIND,
    async run({ id, signal }, input) {
      const { groupId } = input as DeleteInput;
      // A worker has done it, and died before it could say so; somebody may have made it anew since.
      if (!waitsFor(await getResource(database, groupId), id, ['Deleting'])) return null;
      try {
        do {
          await endOperations(environment, groupId, signal);
          await removeContent(environment, groupId);
          await removeImages(environment.home, groupId);
          signal.throwIfAborted();
        } while (!(await removeEmpty(database, groupId, id)));
        await dropOrphansIn(environment.home.cache, database);
        return null;
      } catch (error) {
        // It may be tried again then. When this process is closing, another one goes on.
        if (asKilnError(signal.aborted ? signal.reason : error).code !== 'WorkerLost')
          await whenReachable(() => database.transaction().execute(trx => giveUp(trx, groupId, id)), signal).catch(
            () => undefined,
          );
        throw error;
      }
    },
    async abandoned(trx, operation) {
      const kept = await giveUp(trx, operation.resource_id!, operation.id);
      return kept || operation.status !== 'Running' ? undefined : { status: 'Succeeded', output: null };
    },
  };
}

/** False when the group does not wait for the deletion any more. */
async function giveUp(trx: Transacting, groupId: string, operation: string): Promise<boolean> {
  await lockResource(trx, groupId);
  if (!waitsFor(await getResource(trx, groupId), operation, ['Deleting'])) return false;
  await patchProperties(trx, groupId, { provisioningState: 'Failed' });
  return true;
}

/**
 * What is being made in the group is of no use any more. It is canceled rather than waited for: an operation that has not begun may stand behind this one, in
 * front of the only worker.
 */
async function endOperations(
  { database, engine }: DeleteGroupEnvironment,
  groupId: string,
  signal: AbortSignal,
): Promise<void> {
  const open = await database
    .selectFrom('operation')
    .select('id')
    .where('status', 'in', OPEN)
    .where(sql<boolean>`starts_with(resource_id, ${`${idKey(groupId)}/`})`)
    .execute();
  for (const { id } of open) await engine.cancel(id);
  for (const { id } of open) await engine.wait(id, { signal });
}

/**
 * Templates first: their staging groups are elsewhere. Then the others, children before parents. What is assigned on them, and the principals of identities,
 * the database removes with them.
 */
async function removeContent({ database, home }: DeleteGroupEnvironment, groupId: string): Promise<void> {
  const { subscription, resourceGroup } = parseId(groupId);
  const rows = await database
    .selectFrom('resource')
    .select(['id', 'type'])
    .where('subscription', '=', subscription.toLowerCase())
    .where('resource_group', '=', resourceGroup!.toLowerCase())
    .where('id', '!=', idKey(groupId))
    .execute();
  const depth = (type: string) => type.split('/').length;
  const templates = rows.filter(({ type }) => sameText(type, TEMPLATE_TYPE));
  const others = rows
    .filter(({ type }) => !sameText(type, TEMPLATE_TYPE))
    .sort((a, b) => depth(b.type) - depth(a.type));
  for (const { id } of templates) {
    const staging = await database.transaction().execute(trx => removeTemplate(trx, id));
    for (const group of staging) await removeImages(home, group);
  }
  for (const { id } of others) await removeResource(database, id);
}

/** False when something has got in meanwhile: who was about to make it held the group's row. */
async function removeEmpty(database: Kysely<Schema>, groupId: string, operation: string): Promise<boolean> {
  const id = parseId(groupId);
  return await database.transaction().execute(async trx => {
    await lockResource(trx, id);
    if (!waitsFor(await getResource(trx, id), operation, ['Deleting'])) return true;
    const left = await trx
      .selectFrom('resource')
      .select('id')
      .where('subscription', '=', id.subscription.toLowerCase())
      .where('resource_group', '=', id.resourceGroup!.toLowerCase())
      .where('id', '!=', idKey(id))
      .executeTakeFirst();
    if (left) return false;
    await forgetStaging(trx, groupId);
    await removeResource(trx, id);
    return true;
  });
}
