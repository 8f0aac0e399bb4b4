/**
 * The staging resource group of a template (contract 1.3, 3.4): made with a generated name, made with the name that the template gives, or one that was there
 * already and is only used. It holds the storage account where the template's logs lie.
 */
import { randomUUID } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey, parseId, resourceGroupId, resourceId, sameText } from '../../arm/ids.ts';
import { CONTRIBUTOR } from '../../arm/role-ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import { requireUnlocked } from '../authorization/locked-scopes.ts';
import { groupBeingDeleted, putValidated, requireResource } from '../life.ts';
import { isDeleting } from '../resources/groups.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { PLAIN_ACCOUNT, randomAccountName, storageAccounts } from '../storage/storage-accounts.ts';
import { getResource, listResources, patchProperties, putResource, type StoredResource } from '../store.ts';
import { type Acting, requireRights } from './links.ts';
import { lockTemplate } from './lock.ts';
import { parseGroup } from './rules.ts';
import { TEMPLATE_TYPE } from './validate.ts';

type Tags = Readonly<Record<string, string>>;

/** What Kiln remembers of a template's staging group; under `staging` in the stored properties, never shown. */
export interface Staging extends JsonObject {
  /** Whether Kiln made the group: then it goes with the template. */
  readonly made: boolean;
  readonly account: string;
  /** The tags that Kiln wrote on the group, and those of its owner that they replaced. */
  readonly wrote: Tags;
  readonly replaced: Tags;
}

export const MAKER = 'AzureVMImageBuilder';
const PATH = 'properties.stagingResourceGroup';
const NAME_LENGTH = 40;
/** What the identity has to be allowed in a group that was there. */
const STAGE = 'Microsoft.Storage/storageAccounts/write';

export function stagingOf(template: StoredResource): (Staging & { readonly group: string }) | undefined {
  const { staging, exactStagingResourceGroup: group } = template.properties;
  return isObject(staging) && typeof group === 'string' && group !== ''
    ? { ...(staging as Staging), group }
    : undefined;
}

/**
 * Makes or adopts the group, with the storage account, the tags and the identity's role on it; what an earlier attempt has made is taken up. One transaction.
 * @returns the template as it is then. Errors, all about the property stagingResourceGroup: Conflict (in use, not empty, elsewhere),
 * ResourceGroupBeingDeleted, Unauthorized, ScopeLocked; and those of requireResource.
 */
export async function openStaging(
  database: Kysely<Schema>,
  template: StoredResource,
  acting: Acting | undefined,
): Promise<StoredResource> {
  const id = parseId(template.id);
  const named = String(template.properties.stagingResourceGroup ?? '');
  const wanted = named === '' ? undefined : parseGroup(named);
  const known = stagingOf(template);
  const group = known?.group ?? resourceGroupId(id.subscription, wanted?.name ?? generatedName(template));
  if (wanted && !sameText(wanted.subscription, id.subscription))
    throw bad(group, `it is in another subscription than the template`);

  return await database.transaction().execute(async trx => {
    // First, as whoever removes it does.
    await lockTemplate(trx, template.id);
    await requireResource(trx, template.id);
    // Of two templates that name one group, one gets it.
    await sql`select pg_advisory_xact_lock(hashtextextended(${idKey(group)}, 0))`.execute(trx);
    const existing = await lockGroup(trx, group);
    // In the name of the identity; without one, the caller was asked when the template was put (provider.ts).
    if (existing && !known && acting)
      await requireRights(trx, acting, [{ path: PATH, action: STAGE, scope: group, shown: group }]);
    if (existing && !known) await requireFree(trx, existing, template);
    if (existing) await requireUnlocked(trx, group, 'write');
    const made = known ? known.made : !existing;
    const managed = template.properties.managedResourceTags as Tags | undefined;
    const ofTemplate = { imageTemplateName: id.name, imageTemplateResourceGroupName: id.resourceGroup! };
    const wrote = withOwn(managed, { [made ? 'createdBy' : 'usedBy']: MAKER, ...ofTemplate });
    // Of an earlier revision of the template.
    const owners = existing && known ? ownersTags(existing, known) : (existing?.tags ?? {});
    const replaced = made ? {} : pick(owners, Object.keys(wrote));
    const tags = { ...owners, ...wrote };
    if (existing) await putResource(trx, { ...existing, tags, apiVersion: existing.apiVersion ?? '' });
    else await makeGroup(trx, group, template.location!, tags);
    const account =
      known && (await getResource(trx, accountId(group, known.account)))
        ? known.account
        : await makeAccount(trx, group, template.location!, managedTags(template, managed));
    if (acting && made) await assignContributor(trx, group, acting.principalId);
    const staging: Staging = { made, account, wrote, replaced };
    return (await patchProperties(trx, template.id, { exactStagingResourceGroup: group, staging }))!;
  });
}

/**
 * A group that was deleted is no template's any more: one that somebody makes under its name later is theirs alone, and goes with no template. To be called in
 * the transaction that removes the group.
 */
export async function forgetStaging(trx: Transacting, group: string): Promise<void> {
  await trx
    .updateTable('resource')
    .set({ properties: sql`(properties - 'staging') || '{"exactStagingResourceGroup": ""}'::jsonb` as never })
    .where(sql<boolean>`lower(type) = ${TEMPLATE_TYPE.toLowerCase()}`)
    .where('subscription', '=', parseId(group).subscription.toLowerCase())
    .where(sql<boolean>`lower(properties ->> 'exactStagingResourceGroup') = ${idKey(group)}`)
    .execute();
}

/** From here to the end of the transaction nothing gets into the group. */
export async function lockGroup(trx: Transacting, id: string): Promise<StoredResource | undefined> {
  await trx.selectFrom('resource').select('id').where('id', '=', idKey(id)).forUpdate().execute();
  return await getResource(trx, id);
}

/** Kiln's own tags win over those that the template gives what is made for it: they say whose the group is. Names of tags compare without case. */
function withOwn(managed: Tags = {}, own: Tags): Tags {
  const others = Object.entries(managed).filter(([name]) => !Object.keys(own).some(one => sameText(one, name)));
  return { ...Object.fromEntries(others), ...own };
}

/** The tags of what Kiln makes for a template. */
export function managedTags(template: Pick<StoredResource, 'id'>, managed: Tags | undefined): Record<string, string> {
  const { name, resourceGroup } = parseId(template.id);
  const own = { createdBy: MAKER, imageTemplateName: name, imageTemplateResourceGroupName: resourceGroup! };
  return { ...withOwn(managed, own) };
}

const pick = (tags: Tags, names: readonly string[]): Tags =>
  Object.fromEntries(Object.entries(tags).filter(([name]) => names.includes(name)));

/** A group's tags without Kiln's. What its owner has changed since stays as it is. */
export function ownersTags({ tags = {} }: Pick<StoredResource, 'tags'>, { wrote, replaced }: Staging): Tags {
  const others = Object.entries(tags).filter(([name, value]) => wrote[name] !== value);
  const missed = Object.entries(replaced).filter(([name]) => tags[name] === wrote[name]);
  return Object.fromEntries([...others, ...missed]);
}

/**
 * Whose a staging group is, its tags say: they have to be the template's when it is built (contract 3.4). A group that somebody has deleted is not asked.
 * Errors: Conflict.
 */
export async function requireOwnStaging(database: Kysely<Schema>, template: StoredResource): Promise<void> {
  const staging = stagingOf(template);
  const group = staging && (await getResource(database, staging.group));
  if (!group) return;
  const { imageTemplateName, imageTemplateResourceGroupName } = group.tags ?? {};
  const { name, resourceGroup } = parseId(template.id);
  if (sameText(imageTemplateName ?? '', name) && sameText(imageTemplateResourceGroupName ?? '', resourceGroup!)) return;
  throw new KilnError(
    'Conflict',
    `The tags of the staging resource group '${group.id}' do not match the image template: imageTemplateName is '${imageTemplateName ?? ''}' and imageTemplateResourceGroupName is '${imageTemplateResourceGroupName ?? ''}'.`,
    {
      target: PATH,
      hint: `Give it the tags imageTemplateName=${name} and imageTemplateResourceGroupName=${resourceGroup}.`,
    },
  );
}

/** `IT_<group>_<template>`, cut, and a GUID. */
function generatedName(template: StoredResource): string {
  const { resourceGroup, name } = parseId(template.id);
  return `IT_${`${resourceGroup}_${name}`.slice(0, NAME_LENGTH)}_${randomUUID()}`;
}

export const accountId = (group: string, name: string): string => {
  const { subscription, resourceGroup } = parseId(group);
  return resourceId(subscription, resourceGroup!, storageAccounts.type, name);
};

async function requireFree(trx: Transacting, group: StoredResource, template: StoredResource): Promise<void> {
  const { name, tags = {}, location } = group;
  if (isDeleting(group)) throw groupBeingDeleted(name);
  if (tags.imageTemplateName !== undefined || tags.imageTemplateResourceGroupName !== undefined)
    throw bad(
      group.id,
      `it is the staging resource group of the image template '${tags.imageTemplateName}' in resource group '${tags.imageTemplateResourceGroupName}'`,
    );
  if (location !== template.location)
    throw bad(group.id, `it is in '${location}', and the image template in '${template.location}'`);
  const { subscription } = parseId(group.id);
  const content = (await listResources(trx, { subscription, resourceGroup: name })).filter(
    one => idKey(one.id) !== idKey(group.id),
  );
  if (content.length > 0)
    throw bad(
      group.id,
      `it is not empty: it has ${content.length === 1 ? content[0]!.id : `${content.length} resources`}`,
    );
}

const bad = (group: string, why: string): KilnError =>
  new KilnError('Conflict', `The staging resource group '${group}' cannot be used: ${why}.`, {
    target: PATH,
    hint: "It must be empty, in the template's subscription and region, and no other template's; or leave it out: one is made then.",
  });

async function makeGroup(
  trx: Transacting,
  group: string,
  location: string,
  tags: Record<string, string>,
): Promise<void> {
  const violation = resourceGroups.checkName(parseId(group).name);
  if (violation) throw bad(group, violation.message.replace(/\.$/, ''));
  await putValidated(trx, resourceGroups, {
    id: group,
    body: { location, tags },
    apiVersion: resourceGroups.apiVersions[0]!,
  });
}

async function makeAccount(
  trx: Transacting,
  group: string,
  location: string,
  tags: Record<string, string>,
): Promise<string> {
  const name = randomAccountName();
  await putValidated(trx, storageAccounts, {
    id: accountId(group, name),
    body: { ...PLAIN_ACCOUNT, location, tags },
    apiVersion: storageAccounts.apiVersions[0]!,
  });
  return name;
}

async function assignContributor(trx: Transacting, group: string, principalId: string): Promise<void> {
  await trx
    .insertInto('role_assignment')
    .values({
      id: randomUUID(),
      scope: idKey(group),
      display_scope: group,
      principal_id: principalId,
      principal_type: 'ServicePrincipal',
      role_definition_id: CONTRIBUTOR,
      description: 'Of the image template that this resource group belongs to.',
    })
    .onConflict(conflict => conflict.columns(['scope', 'principal_id', 'role_definition_id']).doNothing())
    .execute();
}

/** Another identity acts for the template from now on. Roles on a group of one's own are one's own affair. */
export async function reassignStaging(
  trx: Transacting,
  template: StoredResource,
  from: string | undefined,
  to: string | undefined,
): Promise<void> {
  const staging = stagingOf(template);
  if (!staging?.made || from === to || !(await getResource(trx, staging.group))) return;
  if (from !== undefined)
    await trx
      .deleteFrom('role_assignment')
      .where('scope', '=', idKey(staging.group))
      .where('principal_id', '=', from)
      .where('role_definition_id', '=', CONTRIBUTOR)
      .execute();
  if (to !== undefined) await assignContributor(trx, staging.group, to);
}
