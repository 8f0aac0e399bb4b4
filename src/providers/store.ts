/** Resources as rows. The functions take a Kysely or a transaction of it, so that several changes become one. */
import { randomUUID } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import { formatId, idKey, type ResourceId, tryParseId } from '../arm/ids.ts';
import type { Resource } from '../arm/resource-type.ts';
import type { JsonObject } from '../arm/shape.ts';
import { json } from '../database/json.ts';
import type { ResourceRow, Schema } from '../database/schema.ts';

export type Store = Kysely<Schema>;

export interface StoredResource extends Resource {
  /** Of a type that Kiln does not know: what of its body has no column. Missing for all others. */
  readonly unmodelled?: JsonObject;
  readonly apiVersion?: string;
  readonly createdAt: Date;
  readonly changedAt: Date;
  readonly etag: string;
}

/** What is written: everything but what the store adds. */
export interface NewResource extends Omit<Resource, 'name' | 'type'> {
  readonly unmodelled?: JsonObject;
  readonly apiVersion: string;
}

/**
 * Two at once that make, change or delete one resource come one after the other; also where it is not there yet, and so has no row to lock. Lasts until the
 * transaction ends. Whoever locks several goes from the top down: a parent before its children, else by key; or two wait for each other.
 */
export async function lockResource(trx: Store, id: string | ResourceId): Promise<void> {
  if (!trx.isTransaction) throw new TypeError('a lock needs a transaction');
  await sql`select pg_advisory_xact_lock(hashtextextended(${idKey(id)}, 0))`.execute(trx);
  await trx.selectFrom('resource').select('id').where('id', '=', idKey(id)).forUpdate().execute();
}

export async function getResource(store: Store, id: string | ResourceId): Promise<StoredResource | undefined> {
  const row = await store.selectFrom('resource').selectAll().where('id', '=', idKey(id)).executeTakeFirst();
  return row && fromRow(row);
}

/** Makes or replaces a resource; its parent's row must exist. `id` keeps the case in which it was written first. */
export async function putResource(store: Store, resource: NewResource): Promise<StoredResource> {
  const id = tryParseId(resource.id);
  if (!id) throw new TypeError(`not a resource id: ${resource.id}`);
  const now = new Date();
  const content = {
    location: resource.location ?? null,
    tags: resource.tags === undefined ? null : json(resource.tags as Record<string, string>),
    identity: resource.identity === undefined ? null : json<unknown>(resource.identity),
    sku: resource.sku === undefined ? null : json<unknown>(resource.sku),
    kind: resource.kind ?? null,
    properties: json<unknown>(resource.properties),
    unmodelled: resource.unmodelled === undefined ? null : json<unknown>(resource.unmodelled),
    api_version: resource.apiVersion,
    changed_at: now,
    etag: randomUUID(),
  };
  const row = await store
    .insertInto('resource')
    .values({
      id: idKey(resource.id),
      display_id: formatId(id),
      type: id.type,
      name: id.name,
      subscription: id.subscription.toLowerCase(),
      resource_group: id.resourceGroup?.toLowerCase() ?? null,
      parent_id: parentKey(id),
      created_at: now,
      ...content,
    })
    .onConflict(conflict => conflict.column('id').doUpdateSet(content))
    .returningAll()
    .executeTakeFirstOrThrow();
  return fromRow(row);
}

export interface ResourceFilter {
  /** Compared without regard to case, as all of these. */
  readonly type?: string;
  readonly subscription?: string;
  readonly resourceGroup?: string;
  /** Id of the parent: its children only. */
  readonly parent?: string | ResourceId;
  /** Only those whose key (idKey) comes after this one. */
  readonly after?: string;
  readonly limit?: number;
}

/** Ordered by key, code point by code point. */
export async function listResources(store: Store, filter: ResourceFilter = {}): Promise<StoredResource[]> {
  let query = store.selectFrom('resource').selectAll();
  if (filter.type !== undefined)
    query = query.where(eb => eb.fn<string>('lower', ['type']), '=', filter.type.toLowerCase());
  if (filter.subscription !== undefined) query = query.where('subscription', '=', filter.subscription.toLowerCase());
  if (filter.resourceGroup !== undefined)
    query = query.where('resource_group', '=', filter.resourceGroup.toLowerCase());
  if (filter.parent !== undefined) query = query.where('parent_id', '=', idKey(filter.parent));
  if (filter.after !== undefined) query = query.where(sql<boolean>`id collate "C" > ${filter.after}`);
  if (filter.limit !== undefined) query = query.limit(filter.limit);
  return (await query.orderBy(sql`id collate "C"`).execute()).map(fromRow);
}

/** False when it was not there. What is stored below it goes, too. */
export async function removeResource(store: Store, id: string | ResourceId): Promise<boolean> {
  const result = await store.deleteFrom('resource').where('id', '=', idKey(id)).executeTakeFirst();
  return result.numDeletedRows > 0n;
}

/**
 * The operation that changes a resource is written on it, in the transaction that begins it. One that runs again, after its worker died, finds out by that
 * whether the resource still waits for it: what it was to change may be done, gone, or made anew and changed by another one.
 */
export async function writeOperation(trx: Store, id: string | ResourceId, operation: string): Promise<void> {
  await patchProperties(trx, id, { operation });
}

/** Under which state a resource waits for an operation: `Creating`. */
export function waitsFor(
  resource: StoredResource | undefined,
  operation: string,
  states: readonly string[],
): resource is StoredResource {
  const { operation: written, provisioningState } = resource?.properties ?? {};
  return written === operation && states.includes(String(provisioningState));
}

/** Replaces some of the properties, leaving the others; undefined when the resource is gone. */
export async function patchProperties(
  store: Store,
  id: string | ResourceId,
  change: JsonObject,
): Promise<StoredResource | undefined> {
  const row = await store
    .updateTable('resource')
    .set(eb => ({
      properties: eb(eb.ref('properties'), '||', json<unknown>(change)) as never,
      changed_at: new Date(),
      etag: randomUUID(),
    }))
    .where('id', '=', idKey(id))
    .returningAll()
    .executeTakeFirst();
  return row && fromRow(row);
}

/** Replaces the tags alone. Call it under the resource's lock. */
export async function writeTags(
  store: Store,
  id: string | ResourceId,
  tags: Readonly<Record<string, string>>,
): Promise<StoredResource> {
  const row = await store
    .updateTable('resource')
    .set({ tags: json({ ...tags }), changed_at: new Date(), etag: randomUUID() })
    .where('id', '=', idKey(id))
    .returningAll()
    .executeTakeFirstOrThrow();
  return fromRow(row);
}

function parentKey(id: ResourceId): string | null {
  if (id.names.length < 2) return null;
  return idKey(id).split('/').slice(0, -2).join('/');
}

/** For those who ask for rows in another way than by id or list. */
export function fromRow(row: ResourceRow): StoredResource {
  return {
    id: row.display_id,
    name: row.name,
    type: row.type,
    ...(row.location !== null && { location: row.location }),
    ...(row.tags !== null && { tags: row.tags }),
    ...(row.identity !== null && { identity: row.identity as JsonObject }),
    ...(row.sku !== null && { sku: row.sku as JsonObject }),
    ...(row.kind !== null && { kind: row.kind }),
    properties: row.properties as JsonObject,
    ...(row.unmodelled !== null && { unmodelled: row.unmodelled as JsonObject }),
    ...(row.api_version !== null && { apiVersion: row.api_version }),
    createdAt: row.created_at,
    changedAt: row.changed_at,
    etag: row.etag,
  };
}
