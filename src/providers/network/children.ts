/** Subnets and security rules are resources of their own, and stand in the body of what they belong to; here the two ways to write them meet. */
import { isDeepStrictEqual } from 'node:util';
import { idKey } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import {
  listResources,
  lockResource,
  patchProperties,
  putResource,
  removeResource,
  type Store,
  type StoredResource,
} from '../store.ts';

export interface Child {
  readonly name: string;
  /** As they are stored. */
  readonly properties: JsonObject;
}

/** By the key of the owner. Ordered by id. */
export async function childrenOf(
  store: Store,
  owners: readonly { readonly id: string }[],
  type: string,
): Promise<Map<string, StoredResource[]>> {
  const found = new Map<string, StoredResource[]>();
  const [only] = owners;
  if (!only) return found;
  if (owners.length === 1) return found.set(idKey(only.id), await listResources(store, { type, parent: only.id }));
  const wanted = new Set(owners.map(({ id }) => idKey(id)));
  const subscription = idKey(only.id).split('/')[2]!;
  for (const child of await listResources(store, { type, subscription })) {
    const owner = idKey(child.id).split('/').slice(0, -2).join('/');
    if (wanted.has(owner)) found.set(owner, [...(found.get(owner) ?? []), child]);
  }
  return found;
}

/** Makes, changes and removes children until they are those of the list. Who does not change keeps its etag. The owner is locked. */
export async function replaceChildren(
  trx: Transacting,
  owner: { readonly id: string },
  collection: string,
  existing: readonly StoredResource[],
  wanted: readonly Child[],
  apiVersion: string,
): Promise<void> {
  for (const child of missing(existing, wanted)) {
    await lockResource(trx, child.id);
    await removeResource(trx, child.id);
  }
  const byName = new Map(existing.map(one => [one.name.toLowerCase(), one]));
  for (const { name, properties } of wanted) {
    const before = byName.get(name.toLowerCase());
    if (before && isDeepStrictEqual(before.properties, JSON.parse(JSON.stringify(properties)))) continue;
    await putResource(trx, { id: before?.id ?? `${owner.id}/${collection}/${name}`, properties, apiVersion });
  }
}

/** Those that a list leaves out. */
export function missing(existing: readonly StoredResource[], wanted: readonly Child[]): StoredResource[] {
  const names = new Set(wanted.map(({ name }) => name.toLowerCase()));
  return existing.filter(one => !names.has(one.name.toLowerCase()));
}

/** The owner's etag speaks for its children, too. */
export async function touch(trx: Transacting, owner: string): Promise<void> {
  await patchProperties(trx, owner, {});
}
