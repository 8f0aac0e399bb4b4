/** The tenant and its subscriptions: `az account`. */
import type { Kysely } from 'kysely';
import { isSince } from '../arm/api-versions.ts';
import { KilnError } from '../arm/errors.ts';
import { idKey, LOCAL_TENANT } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import type { Schema } from '../database/schema.ts';
import { covers } from '../providers/authorization/grants.ts';
import { findSubscription, listSubscriptions } from '../providers/resources/subscriptions.ts';
import type { StoredResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';

/** Subscriptions never go away, so one that was there once is there. */
const seen = new WeakMap<Kysely<Schema>, Set<string>>();

export async function requireSubscription(database: Kysely<Schema>, id: string): Promise<void> {
  const known = seen.get(database) ?? new Set();
  seen.set(database, known);
  if (known.has(id.toLowerCase())) return;
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
    throw new KilnError(
      'InvalidSubscriptionId',
      `The provided subscription identifier '${id}' is malformed or invalid.`,
    );
  if (!(await findSubscription(database, id)))
    throw new KilnError('SubscriptionNotFound', `The subscription '${id}' could not be found.`);
  known.add(id.toLowerCase());
}

export function tenant(tenantId: string, apiVersion: string): JsonObject {
  const names = {
    countryCode: '',
    displayName: tenantId === LOCAL_TENANT ? 'Kiln' : tenantId,
    domains: ['kiln.local'],
    tenantCategory: 'Home',
  };
  return {
    id: `/tenants/${tenantId}`,
    tenantId,
    ...(isSince(apiVersion, '2019-11-01') && names),
    ...(isSince(apiVersion, '2020-01-01') && { defaultDomain: 'kiln.local', tenantType: 'AAD' }),
  };
}

/** No nextLink, though the OpenAPI files demand one: the real service has none at the end, and clients would follow it. */
export async function subscriptions(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  apiVersion: string,
): Promise<Reply> {
  const visible = visibleBy(await roles.scopes(request.caller));
  const value = (await listSubscriptions(environment.database))
    .filter(one => visible(idKey(one.id)))
    .map(one => shownSubscription(one, request.caller.tenantId, apiVersion));
  return { status: 200, body: { value } };
}

export function shownSubscription(
  { id, name, properties, tags = {} }: StoredResource,
  tenantId: string,
  apiVersion: string,
): JsonObject {
  return {
    id,
    authorizationSource: 'RoleBased',
    ...(isSince(apiVersion, '2019-06-01') && { managedByTenants: [] }),
    subscriptionId: name,
    tenantId,
    displayName: properties.displayName,
    state: 'Enabled',
    ...(isSince(apiVersion, '2019-11-01') && Object.keys(tags).length > 0 && { tags }),
    subscriptionPolicies: { locationPlacementId: 'Public_2014-09-01', quotaId: 'Kiln', spendingLimit: 'Off' },
  };
}

/** Whether something can be read at a place or anywhere in it: what lists show. */
export function visibleBy(scopes: readonly string[]): (key: string) => boolean {
  return key => scopes.some(scope => covers(scope, key) || covers(key, scope));
}
