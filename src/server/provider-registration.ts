/** Providers are registered in a subscription and unregistered; what changes something needs its provider registered. */
import { KilnError } from '../arm/errors.ts';
import { idKey, resourceGroupId } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import { unlocked } from '../providers/authorization/locked-scopes.ts';
import { groupBeingDeleted } from '../providers/life.ts';
import { findNamespace } from '../providers/registry.ts';
import { RESOURCES_API_VERSIONS } from '../providers/resources/api-versions.ts';
import { register, registrationOf, subscriptionId } from '../providers/resources/subscriptions.ts';
import { getResource, listResources } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { isRegistrationFree, providerDocument } from './provider-documents.ts';
import { requireVersion } from './request-checks.ts';

export async function registerProvider(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  namespace: string,
  registered: boolean,
): Promise<Reply> {
  const id = subscriptionId(request.path.subscription!);
  requireVersion(request, RESOURCES_API_VERSIONS);
  await roles.require(request.caller, `${namespace}/${registered ? 'register' : 'unregister'}/action`, id);
  const { database } = await unlocked(environment, id, 'write');
  if (isRegistrationFree(namespace))
    return {
      status: 200,
      body: providerDocument(namespace, (await getResource(database, id))!, environment.options.strict),
    };
  if (!registered) {
    const left = (await listResources(database, { subscription: request.path.subscription! })).find(one =>
      one.type.toLowerCase().startsWith(`${namespace.toLowerCase()}/`),
    );
    if (left)
      throw new KilnError(
        'Conflict',
        `The resource provider '${namespace}' cannot be unregistered: the subscription still has resources of it.`,
        { target: left.id, hint: `One of them is ${left.id}.` },
      );
  }
  const state = registered ? 'Registered' : 'Unregistered';
  const subscription = await register(database, request.path.subscription!, 'registrations', namespace, state);
  return { status: 200, body: providerDocument(namespace, subscription, environment.options.strict) };
}

/**
 * For what changes something: the group is not being deleted, the provider registered. Said only to those who may know that; others are refused by what they
 * asked for.
 */
export async function requireWritable(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  namespace: string,
): Promise<void> {
  const { path, method, caller } = request;
  if (method === 'GET' || method === 'HEAD') return;
  const subscription = idKey(subscriptionId(path.subscription!));
  const group =
    path.resourceGroup === undefined ? undefined : idKey(resourceGroupId(path.subscription!, path.resourceGroup));
  const rows = await environment.database
    .selectFrom('resource')
    .select(['id', 'name', 'properties'])
    .where('id', 'in', group === undefined ? [subscription] : [subscription, group])
    .execute();
  for (const { id, name, properties } of rows) {
    const stored = properties as JsonObject;
    const may = () => roles.may(caller, 'Microsoft.Resources/subscriptions/resourceGroups/read', group ?? id);
    if (id === group && stored.provisioningState === 'Deleting' && (await may())) throw groupBeingDeleted(name);
    if (id !== subscription || isRegistrationFree(namespace)) continue;
    if (registrationOf(stored, namespace) === 'Registered' || !(await may())) continue;
    const usual = findNamespace(namespace) ?? namespace;
    const message = `The subscription is not registered to use namespace '${usual}'. See https://aka.ms/rps-not-found for how to register subscriptions.`;
    throw new KilnError('MissingSubscriptionRegistration', message, {
      details: [new KilnError('MissingSubscriptionRegistration', message, { target: usual })],
    });
  }
}
