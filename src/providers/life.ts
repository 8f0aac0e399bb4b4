/** How resources of any type are made, changed and deleted: what Resource Manager checks once for all types, then the definition's own rules. */
import { randomUUID } from 'node:crypto';
import { checkApiVersion } from '../arm/api-versions.ts';
import { KilnError } from '../arm/errors.ts';
import {
  formatId,
  idKey,
  parentId,
  parseId,
  RESOURCE_GROUP_TYPE,
  type ResourceId,
  resourceGroupId,
  sameId,
  sameText,
} from '../arm/ids.ts';
import { findRegion } from '../arm/locations.ts';
import { type ResourceType, violationError } from '../arm/resource-type.ts';
import type { JsonObject } from '../arm/shape.ts';
import { requireUnlocked } from './authorization/locked-scopes.ts';
import { type Conditions, requireConditions } from './conditions.ts';
import {
  getResource,
  listResources,
  lockResource,
  putResource,
  removeResource,
  type Store,
  type StoredResource,
} from './store.ts';

export interface PutRequest {
  readonly id: string;
  /** Untrusted JSON: location, tags, properties … */
  readonly body: unknown;
  readonly apiVersion: string;
  /** See ValidationContext.local. */
  readonly local?: boolean;
  /** Replace a resource whose type refuses updates: `kiln build` of a template that changed. */
  readonly revise?: boolean;
  /** Read-only properties that Kiln itself knows; they win over what the definition computes. */
  readonly known?: JsonObject;
  /** What of the properties is stored, where secrets of them are not stored as they are. */
  readonly kept?: (properties: JsonObject) => Promise<JsonObject>;
  readonly conditions?: Conditions | undefined;
  readonly now?: Date;
}

export interface PutResult {
  readonly resource: StoredResource;
  readonly created: boolean;
  readonly warnings: readonly string[];
}

/**
 * Validates and stores a resource. Call it in a transaction when other changes belong to it; else it has one of its own. For a type whose `create` is an
 * operation, the caller starts that.
 * Errors: those of ids, api-versions and locations; ResourceGroupNotFound, ParentResourceNotFound, InvalidResourceLocation, Conflict, PreconditionFailed, ScopeLocked, the definition's violations.
 */
export async function putValidated(store: Store, definition: ResourceType, request: PutRequest): Promise<PutResult> {
  if (!store.isTransaction) return await store.transaction().execute(own => putValidated(own, definition, request));
  const id = parseId(request.id);
  if (!sameText(id.type, definition.type)) throw new TypeError(`${request.id} is no ${definition.type}`);
  const apiVersion = checkApiVersion(request.apiVersion, definition.apiVersions, definition.type);
  const named = definition.checkName(id.name);
  // One that is there has a good name, in whatever case it is written now.
  if (named && !(await getResource(store, id))) throw violationError(definition.violationCode, [named]);
  await requireUnlocked(store, formatId(id), 'write');
  const { parent, existing } = await beginChange(store, id);
  requireConditions(request.conditions, id, existing);
  if (existing && definition.refuseUpdate !== undefined && !request.revise)
    throw new KilnError('Conflict', definition.refuseUpdate, { target: existing.id });
  const siblings = parent
    ? (await listResources(store, { type: definition.type, parent: parent.id })).filter(one => !sameId(one.id, id))
    : [];
  const { resource, violations, warnings } = definition.validate(request.body, {
    id,
    apiVersion,
    now: request.now ?? new Date(),
    newGuid: randomUUID,
    siblings,
    local: request.local ?? false,
    ...(existing && { existing }),
    ...(parent && { parent }),
  });
  if (violations.length > 0) throw violationError(definition.violationCode, violations);
  if (
    existing &&
    !request.revise &&
    definition.kind === 'tracked' &&
    !sameLocation(existing.location, resource.location)
  )
    throw elsewhereError(existing, resource.location, existing.id);
  const valid = { ...resource.properties, ...request.known };
  const properties = request.kept ? await request.kept(valid) : valid;
  const whole = { ...resource, properties, id: existing?.id ?? request.id, apiVersion };
  const stored = await putResource(store, whole).catch(error => {
    throw parent && (error as { code?: unknown }).code === FOREIGN_KEY_VIOLATION
      ? parentNotFound(parentId(id)!)
      : error;
  });
  return { resource: stored, created: existing === undefined, warnings };
}

/** Nothing moves to another location. @param target what is at fault */
export function elsewhereError(existing: StoredResource, location: string | undefined, target: string): KilnError {
  const group = parseId(existing.id).resourceGroup ?? existing.name;
  return new KilnError(
    'InvalidResourceLocation',
    `The resource '${existing.name}' already exists in location '${existing.location}' in resource group '${group}'. A resource with the same name cannot be created in location '${location}'. Please select a new resource name.`,
    { target },
  );
}

/** What PostgreSQL calls a child whose parent is not there. */
const FOREIGN_KEY_VIOLATION = '23503';

/**
 * What a change of a resource is judged by: the resource, where it is there, and its parent. They, and the resource's siblings, stay as they are until the
 * transaction ends. Errors: ResourceGroupNotFound, ResourceGroupBeingDeleted, ParentResourceNotFound.
 */
export async function beginChange(
  trx: Store,
  id: ResourceId,
): Promise<{ readonly parent: StoredResource | undefined; readonly existing: StoredResource | undefined }> {
  const parent = await requireOwner(trx, id);
  await lockResource(trx, id);
  return { parent, existing: await getResource(trx, id) };
}

/** The parent of a nested resource; for others it only has to be there: their group. */
async function requireOwner(store: Store, id: ResourceId): Promise<StoredResource | undefined> {
  const above = parentId(id);
  if (above) {
    // It stays, and nobody else makes or changes a child of it: each is judged by the others.
    await store.selectFrom('resource').select('id').where('id', '=', idKey(above)).forNoKeyUpdate().execute();
    const parent = await getResource(store, above);
    if (parent) return parent;
    throw parentNotFound(above);
  }
  await requireGroup(store, id);
  return undefined;
}

/** The group of a resource stays until the transaction ends. Errors: ResourceGroupNotFound, ResourceGroupBeingDeleted. */
export async function requireGroup(store: Store, id: ResourceId): Promise<void> {
  if (id.type === RESOURCE_GROUP_TYPE || id.resourceGroup === undefined) return;
  const group = resourceGroupId(id.subscription, id.resourceGroup);
  const found = await store
    .selectFrom('resource')
    .select('properties')
    .where('id', '=', idKey(group))
    // It stays until the resource is in it, or its deletion finds that.
    .forKeyShare()
    .executeTakeFirst();
  if (!found)
    throw new KilnError('ResourceGroupNotFound', `Resource group '${id.resourceGroup}' could not be found.`, {
      target: group,
    });
  if ((found.properties as JsonObject).provisioningState === 'Deleting') throw groupBeingDeleted(id.resourceGroup);
}

function parentNotFound(parent: ResourceId): KilnError {
  return new KilnError(
    'ParentResourceNotFound',
    `Can not perform requested operation on nested resource. Parent resource '${parent.names.join('/')}' not found.`,
    { target: formatId(parent) },
  );
}

export function groupBeingDeleted(name: string): KilnError {
  return new KilnError(
    'ResourceGroupBeingDeleted',
    `The resource group '${name}' is in deprovisioning state and cannot perform this operation.`,
  );
}

const sameLocation = (a: string | undefined, b: string | undefined): boolean =>
  a === undefined || b === undefined || findRegion(a)?.name === findRegion(b)?.name;

/** Deletes a resource that has nothing below it; false when it was not there. Errors: CannotDeleteResource, PreconditionFailed, ScopeLocked. */
export async function deleteResource(store: Store, id: string, conditions?: Conditions): Promise<boolean> {
  if (!store.isTransaction) return await store.transaction().execute(own => deleteResource(own, id, conditions));
  const parsed = parseId(id);
  await requireUnlocked(store, formatId(parsed), 'delete');
  // Nothing gets below it from now on.
  await lockResource(store, parsed);
  const existing = await getResource(store, parsed);
  if (!existing) return false;
  requireConditions(conditions, parsed, existing);
  const below =
    parsed.type === RESOURCE_GROUP_TYPE
      ? (await listResources(store, { subscription: parsed.subscription, resourceGroup: parsed.name })).filter(
          one => !sameId(one.id, parsed),
        )
      : await listResources(store, { parent: id });
  if (below.length > 0)
    throw new KilnError('CannotDeleteResource', 'Can not delete resource before nested resources are deleted.', {
      target: id,
      hint: `It still has ${below
        .slice(0, 5)
        .map(one => one.id)
        .join(', ')}${below.length > 5 ? ` and ${below.length - 5} more` : ''}.`,
    });
  return removeResource(store, id);
}

/** A resource that must be there. Errors: ResourceGroupNotFound, ResourceNotFound, in the words of Azure. */
export async function requireResource(store: Store, id: string): Promise<StoredResource> {
  const found = await getResource(store, id);
  if (found) return found;
  throw await notFoundError(store, parseId(id));
}

/** What Azure says about a resource that is not there: the group comes first. */
export async function notFoundError(store: Store, id: ResourceId): Promise<KilnError> {
  const { type, resourceGroup, subscription } = id;
  const target = formatId(id);
  const isGroup = sameText(type, RESOURCE_GROUP_TYPE);
  if (
    resourceGroup !== undefined &&
    (isGroup || !(await getResource(store, resourceGroupId(subscription, resourceGroup))))
  )
    return new KilnError('ResourceGroupNotFound', `Resource group '${resourceGroup}' could not be found.`, { target });
  // Types and names in turn: 'Microsoft.Compute/galleries/g/images/d'.
  const path = target.slice(target.lastIndexOf('/providers/') + '/providers/'.length);
  return new KilnError(
    'ResourceNotFound',
    `The Resource '${path}' under resource group '${resourceGroup ?? ''}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`,
    { target },
  );
}
