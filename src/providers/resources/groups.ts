/** How resource groups are made and changed through the API. Their deletion is an operation (delete-group.ts). */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey, parseId, RESOURCE_GROUP_TYPE } from '../../arm/ids.ts';
import { findRegion, REGIONS } from '../../arm/locations.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireTags } from '../../arm/tags.ts';
import type { Schema } from '../../database/schema.ts';
import { type Conditions, requireConditions } from '../conditions.ts';
import { groupBeingDeleted, notFoundError, type PutRequest, type PutResult, putValidated } from '../life.ts';
import {
  getResource,
  listResources,
  lockResource,
  patchProperties,
  putResource,
  type Store,
  type StoredResource,
} from '../store.ts';
import { resourceGroups } from './resource-groups.ts';

export const isDeleting = ({ properties }: Pick<StoredResource, 'properties'>): boolean =>
  properties.provisioningState === 'Deleting';

/** Errors: LocationRequired, LocationNotAvailableForResourceGroup, InvalidResourceGroupLocation, ResourceGroupBeingDeleted, InvalidParameter. */
export async function putGroup(
  database: Kysely<Schema>,
  request: Pick<PutRequest, 'id' | 'body' | 'apiVersion' | 'conditions'>,
): Promise<PutResult> {
  const { name } = parseId(request.id);
  const location = isObject(request.body) ? request.body.location : undefined;
  if (typeof location === 'string' && location.trim() !== '' && !findRegion(location))
    throw new KilnError(
      'LocationNotAvailableForResourceGroup',
      `The provided location '${location.slice(0, 100)}' is not available for resource group. List of available regions is '${REGIONS.map(region => region.name).join(',')}'.`,
      { target: 'location' },
    );
  return await database.transaction().execute(async trx => {
    // Of two that make it at once, the second finds it.
    await lockResource(trx, request.id);
    const existing = await getResource(trx, request.id);
    requireConditions(request.conditions, request.id, existing);
    if (existing && isDeleting(existing)) throw groupBeingDeleted(name);
    if (existing && typeof location === 'string' && findRegion(location)?.name !== existing.location)
      throw new KilnError(
        'InvalidResourceGroupLocation',
        `Invalid resource group location '${location}'. The Resource group already exists in location '${existing.location}'.`,
        { target: 'location' },
      );
    return await putValidated(trx, resourceGroups, request);
  });
}

/** Tags that are given replace all. Errors: ResourceGroupNotFound, ResourceGroupBeingDeleted, InvalidParameter. */
export async function patchGroup(
  database: Kysely<Schema>,
  id: string,
  body: JsonObject,
  conditions?: Conditions,
): Promise<StoredResource> {
  return await database.transaction().execute(async trx => {
    await trx.selectFrom('resource').select('id').where('id', '=', idKey(id)).forUpdate().execute();
    const existing = await getResource(trx, id);
    if (!existing) throw await notFoundError(trx, parseId(id));
    requireConditions(conditions, id, existing);
    if (isDeleting(existing)) throw groupBeingDeleted(existing.name);
    const tags = body.tags === undefined ? existing.tags : requireTags(body.tags);
    const changed = await putResource(trx, {
      ...existing,
      ...(tags !== undefined && { tags }),
      apiVersion: existing.apiVersion ?? resourceGroups.apiVersions[0]!,
    });
    if (typeof body.managedBy !== 'string') return changed;
    return (await patchProperties(trx, id, { managedBy: body.managedBy }))!;
  });
}

/** Ordered by id. */
export async function listGroups(store: Store, subscription: string): Promise<StoredResource[]> {
  return await listResources(store, { type: RESOURCE_GROUP_TYPE, subscription });
}
