/** Subscriptions: one that is always there, others that the operator names. They hold groups, and which providers and features are registered. */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey, LOCAL_SUBSCRIPTION, SUBSCRIPTION_TYPE } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Schema } from '../../database/schema.ts';
import { getResource, listResources, patchProperties, putResource, type Store, type StoredResource } from '../store.ts';
import { RESOURCES_API_VERSIONS } from './api-versions.ts';

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const subscriptionId = (subscription: string): string =>
  formatId({ subscription, type: SUBSCRIPTION_TYPE, names: [subscription] });

/** Makes a subscription that is not there yet; a name is written over the old one. Errors: InvalidSubscriptionId. */
export async function ensureSubscription(store: Store, id: string, name?: string): Promise<StoredResource> {
  if (!GUID.test(id))
    throw new KilnError(
      'InvalidSubscriptionId',
      `The provided subscription identifier '${id}' is malformed or invalid.`,
      {
        hint: 'It is a GUID, such as 11111111-2222-3333-4444-555555555555.',
      },
    );
  const subscription = id.toLowerCase();
  const existing = await getResource(store, subscriptionId(subscription));
  if (existing && (name === undefined || existing.properties.displayName === name)) return existing;
  const displayName = name ?? (subscription === LOCAL_SUBSCRIPTION ? 'Kiln' : `Kiln ${subscription.slice(0, 8)}`);
  return await putResource(store, {
    id: subscriptionId(subscription),
    ...(existing?.tags && { tags: existing.tags }),
    properties: { ...existing?.properties, displayName, state: 'Enabled' },
    apiVersion: RESOURCES_API_VERSIONS[0]!,
  });
}

/** A subscription in which `kiln build` has made something is there, too. Errors: InvalidSubscriptionId. */
export async function findSubscription(store: Store, id: string): Promise<StoredResource | undefined> {
  const found = GUID.test(id) ? await getResource(store, subscriptionId(id)) : undefined;
  if (found) return found;
  const used = await store
    .selectFrom('resource')
    .select('id')
    .where('subscription', '=', id.toLowerCase())
    .limit(1)
    .executeTakeFirst();
  return used || !GUID.test(id) || id.toLowerCase() === LOCAL_SUBSCRIPTION
    ? await ensureSubscription(store, id)
    : undefined;
}

/** Ordered by id. */
export async function listSubscriptions(store: Store): Promise<StoredResource[]> {
  const used = await store.selectFrom('resource').select('subscription').distinct().execute();
  for (const id of [LOCAL_SUBSCRIPTION, ...used.map(({ subscription }) => subscription ?? '')])
    if (GUID.test(id)) await ensureSubscription(store, id);
  return await listResources(store, { type: SUBSCRIPTION_TYPE });
}

export type Registration = 'Registered' | 'Unregistered' | 'NotRegistered';

/** Of a provider: nobody has to register one, but who unregisters one does not want it used. */
export function registrationOf(properties: JsonObject, namespace: string): Registration {
  return mapOf(properties, 'registrations')[namespace.toLowerCase()] ?? 'Registered';
}

/** Of a feature (`Microsoft.VirtualMachineImages/Triggers`): kept for those who ask; nothing depends on one. */
export function featureOf(properties: JsonObject, feature: string): Registration {
  return mapOf(properties, 'features')[feature.toLowerCase()] ?? 'NotRegistered';
}

function mapOf(properties: JsonObject, name: 'registrations' | 'features'): Record<string, Registration> {
  const map = properties[name];
  return isObject(map) ? (map as Record<string, Registration>) : {};
}

export async function register(
  database: Kysely<Schema>,
  subscription: string,
  kind: 'registrations' | 'features',
  name: string,
  state: Registration,
): Promise<StoredResource> {
  return await database.transaction().execute(async trx => {
    const id = subscriptionId(subscription);
    await trx.selectFrom('resource').select('id').where('id', '=', idKey(id)).forUpdate().execute();
    const { properties } = await ensureSubscription(trx, subscription);
    const map = { ...mapOf(properties, kind), [name.toLowerCase()]: state };
    return (await patchProperties(trx, id, { [kind]: map }))!;
  });
}
