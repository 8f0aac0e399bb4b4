/**
 * The staging resource group of a template (contract 1.3, 3.4): made with a generated name, made with the name that the template gives, or one that was there
 * already and is only used. It holds the storage account where the template's logs lie.
 */
import { randomUUID } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey, parseId, resourceGroupId, resourceId, sameText } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import type { Schema } from '../../database/schema.ts';
import { CONTRIBUTOR } from '../authorization/built-in-roles.ts';
import { putValidated } from '../life.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { randomAccountName, storageAccounts } from '../storage/storage-accounts.ts';
import {
  getResource,
  listResources,
  patchProperties,
  putResource,
  removeResource,
  type StoredResource,
} from '../store.ts';
import { type Acting, requireRights } from './links.ts';
import { parseGroup } from './rules.ts';

/** What Kiln remembers of a template's staging group; under `staging` in the stored properties, never shown. */
export interface Staging extends JsonObject {
  /** Whether Kiln made the group: then it goes with the template. */
  readonly made: boolean;
  readonly account: string;
}

const MAKER = 'AzureVMImageBuilder';
const PATH = 'properties.stagingResourceGroup';
const NAME_LENGTH = 40;

export function stagingOf(template: StoredResource): (Staging & { readonly group: string }) | undefined {
  const { staging, exactStagingResourceGroup: group } = template.properties;
  return isObject(staging) && typeof group === 'string' && group !== ''
    ? { ...(staging as Staging), group }
    : undefined;
}

/**
 * Makes or adopts the group, with the storage account, the tags and the identity's role on it; what an earlier attempt has made is taken up. One transaction.
 * @returns the template as it is then. Errors, all about the property stagingResourceGroup: Conflict (in use, not empty, elsewhere), Unauthorized.
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
  if (!known && (await getResource(database, group))) await requireOwnerRights(database, acting, group);

  return await database.transaction().execute(async trx => {
    // Of two templates that name one group, one gets it.
    await sql`select pg_advisory_xact_lock(hashtextextended(${idKey(group)}, 0))`.execute(trx);
    const existing = await getResource(trx, group);
    if (existing && !known) await requireFree(trx, existing, template);
    const made = known ? known.made : !existing;
    const own = {
      imageTemplateName: id.name,
      imageTemplateResourceGroupName: id.resourceGroup!,
      ...(template.properties.managedResourceTags as Record<string, string> | undefined),
    };
    const tags = { [made ? 'createdBy' : 'usedBy']: MAKER, ...own };
    if (existing)
      await putResource(trx, {
        ...existing,
        tags: { ...existing.tags, ...tags },
        apiVersion: existing.apiVersion ?? '',
      });
    else await makeGroup(trx, group, template.location!, tags);
    const account =
      known && (await getResource(trx, accountId(group, known.account)))
        ? known.account
        : await makeAccount(trx, group, template.location!, { createdBy: MAKER, ...own });
    if (acting && made) await assignContributor(trx, group, acting.principalId);
    const staging: Staging = { made, account };
    return (await patchProperties(trx, template.id, { exactStagingResourceGroup: group, staging }))!;
  });
}

/** `IT_<group>_<template>`, cut, and a GUID. */
function generatedName(template: StoredResource): string {
  const { resourceGroup, name } = parseId(template.id);
  return `IT_${`${resourceGroup}_${name}`.slice(0, NAME_LENGTH)}_${randomUUID()}`;
}

const accountId = (group: string, name: string): string => {
  const { subscription, resourceGroup } = parseId(group);
  return resourceId(subscription, resourceGroup!, storageAccounts.type, name);
};

/** A group that was there is written to in the name of the identity. */
async function requireOwnerRights(database: Kysely<Schema>, acting: Acting | undefined, group: string): Promise<void> {
  if (!acting) return;
  const action = 'Microsoft.Storage/storageAccounts/write';
  await requireRights(database, acting, [{ path: PATH, action, scope: group, shown: group }]);
}

async function requireFree(trx: Transacting, group: StoredResource, template: StoredResource): Promise<void> {
  const { name, tags = {}, location } = group;
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
    body: { location, tags },
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

/** With the template: the group with all that is in it, or, of one's own, what Kiln put there. */
export async function removeStaging(trx: Transacting, template: StoredResource): Promise<void> {
  const staging = stagingOf(template);
  const group = staging && (await getResource(trx, staging.group));
  if (!staging || !group) return;
  const { subscription } = parseId(group.id);
  if (!staging.made) {
    await removeWithRoles(trx, accountId(group.id, staging.account));
    const {
      usedBy: _used,
      imageTemplateName: _name,
      imageTemplateResourceGroupName: _group,
      ...tags
    } = group.tags ?? {};
    await putResource(trx, { ...group, tags, apiVersion: group.apiVersion ?? '' });
    return;
  }
  const content = await listResources(trx, { subscription, resourceGroup: group.name });
  // Children go with their parents; the group is last.
  for (const { id } of content.sort((a, b) => b.id.length - a.id.length)) {
    if (idKey(id) === idKey(group.id)) continue;
    await removeResource(trx, id);
  }
  await removeWithRoles(trx, formatId(parseId(group.id)));
}

/** Roles that were assigned on a resource or below it mean nothing without it. */
export async function removeWithRoles(trx: Transacting, id: string): Promise<boolean> {
  const key = idKey(id);
  await trx
    .deleteFrom('role_assignment')
    .where(where => where.or([where('scope', '=', key), sql<boolean>`starts_with(scope, ${`${key}/`})`]))
    .execute();
  return await removeResource(trx, id);
}
