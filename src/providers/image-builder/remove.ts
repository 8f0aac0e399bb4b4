/** Removing an image template with all that belongs to it; what it has distributed stays (contract 4.5). */
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey, parseId } from '../../arm/ids.ts';
import type { Transacting } from '../../database/connection.ts';
import { requireUnlocked } from '../authorization/locked-scopes.ts';
import { getResource, listResources, putResource, removeResource, type StoredResource } from '../store.ts';
import { dropKept } from './kept-machines.ts';
import { lockTemplate } from './lock.ts';
import { ACTIVE } from './run.ts';
import { accountId, lockGroup, ownersTags, stagingOf } from './staging.ts';
import { TEMPLATE_TYPE } from './validate.ts';

/**
 * With its staging group, in the caller's transaction. Rows of its runs stay: they are history. Nothing happens when it was not there.
 * @returns the resource groups that went with it: the images in them are for the caller to remove, after the transaction.
 * Errors: ScopeLocked; Conflict, while it is being built or a template in its staging group is.
 */
export async function removeTemplate(trx: Transacting, id: string): Promise<readonly string[]> {
  await lockTemplate(trx, id);
  const template = await getResource(trx, id);
  if (!template) return [];
  await requireIdle(trx, id, `The image template '${template.name}'`);
  await requireUnlockedStaging(trx, template);
  const groups = await removeStaging(trx, template);
  await trx.deleteFrom('run_output').where('template_id', '=', idKey(id)).execute();
  await dropKept(trx, { template: id });
  await removeResource(trx, template.id);
  return groups;
}

/** A staging group that Kiln made goes with all that is in it. Errors: Conflict, while a template in it is being built. */
export async function requireIdleStaging(trx: Transacting, template: StoredResource): Promise<void> {
  const staging = stagingOf(template);
  if (staging?.made)
    await requireIdle(trx, staging.group, `The image template '${template.name}', with its staging resource group,`);
}

/** Locks hold what goes with a template as if its owner deleted it: a group that Kiln made, or what Kiln put into another one. Errors: ScopeLocked. */
export async function requireUnlockedStaging(trx: Transacting, template: StoredResource): Promise<void> {
  const staging = stagingOf(template);
  if (!staging || !(await getResource(trx, staging.group))) return;
  if (staging.made) return await requireUnlocked(trx, staging.group, 'delete');
  await requireUnlocked(trx, accountId(staging.group, staging.account), 'delete');
  // Its tags are the owner's again.
  await requireUnlocked(trx, staging.group, 'write');
}

/** Of a template, or of those in a resource group. */
async function requireIdle(trx: Transacting, id: string, what: string): Promise<void> {
  const key = idKey(id);
  const active = await trx
    .selectFrom('run')
    .select(['id', 'template_name'])
    .where('state', 'in', ACTIVE)
    .where(where => where.or([where('template_id', '=', key), sql<boolean>`starts_with(template_id, ${`${key}/`})`]))
    .orderBy('created_at')
    .executeTakeFirst();
  if (!active) return;
  throw new KilnError(
    'Conflict',
    `${what} cannot be deleted: the image template '${active.template_name}' is being built by run ${active.id}.`,
    { target: id, hint: 'Cancel the run, or wait until it has ended.' },
  );
}

/** The group with all that is in it; of one's own, what Kiln put there, and its owner has the tags again. */
async function removeStaging(trx: Transacting, template: StoredResource): Promise<readonly string[]> {
  const staging = stagingOf(template);
  if (!staging) return [];
  if (!staging.made) {
    const group = await lockGroup(trx, staging.group);
    if (!group) return [];
    await removeResource(trx, accountId(group.id, staging.account));
    await putResource(trx, { ...group, tags: ownersTags(group, staging), apiVersion: group.apiVersion ?? '' });
    return [];
  }
  // Whoever changes or runs one of them locks it, and then the group.
  for (const { id } of await templatesIn(trx, staging.group)) await lockTemplate(trx, id);
  if (!(await lockGroup(trx, staging.group))) return [];
  const groups = [staging.group];
  // They have staging groups of their own.
  for (const { id } of await templatesIn(trx, staging.group)) groups.push(...(await removeTemplate(trx, id)));
  const { subscription, resourceGroup } = parseId(staging.group);
  const content = await listResources(trx, { subscription, resourceGroup: resourceGroup! });
  // Children before their parents, the group last.
  for (const { id } of content.sort((a, b) => b.id.length - a.id.length)) await removeResource(trx, id);
  return groups;
}

async function templatesIn(trx: Transacting, group: string): Promise<StoredResource[]> {
  const { subscription, resourceGroup } = parseId(group);
  return await listResources(trx, { type: TEMPLATE_TYPE, subscription, resourceGroup: resourceGroup! });
}
