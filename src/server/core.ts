/**
 * Resource Manager's own paths, which are no plain resource type: subscriptions, groups, providers, features, lists of all resources, polling. Also what has to
 * be true before any type is asked: the subscription is there, its provider registered, the group not being deleted.
 */
import type { Kysely } from 'kysely';
import { isSince } from '../arm/api-versions.ts';
import { errorFromBody, KilnError } from '../arm/errors.ts';
import { idKey, LOCAL_TENANT, resourceGroupId, sameText } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import type { Schema } from '../database/schema.ts';
import { covers } from '../providers/authorization/grants.ts';
import { authorizationFailed } from '../providers/authorization/open-roles.ts';
import { groupBeingDeleted, notFoundError } from '../providers/life.ts';
import { findNamespace } from '../providers/registry.ts';
import { FEATURES_API_VERSIONS, RESOURCES_API_VERSIONS } from '../providers/resources/api-versions.ts';
import {
  findSubscription,
  listSubscriptions,
  register,
  registrationOf,
  subscriptionId,
} from '../providers/resources/subscriptions.ts';
import { getResource, listResources, type StoredResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { featureDocument, featureDocuments } from './features.ts';
import { locationList } from './locations.ts';
import { operationStatus } from './operations.ts';
import { page } from './paging.ts';
import { isRegistrationFree, namespaceVersions, providerDocument, providerDocuments } from './provider-documents.ts';
import { operationsOf } from './provider-operations.ts';
import { resourceGroup, resourceGroupList, resultHeaders } from './resource-groups.ts';
import { listedResources } from './resource-list.ts';

/** `undefined`: the path is that of a resource type; dispatch.ts goes on. */
export async function core(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply | undefined> {
  const { path } = request;
  if (path.subscription === undefined) return await ofTenant(dispatcher, request);
  await requireSubscription(dispatcher.environment.database, path.subscription);
  if (path.namespace !== undefined) return await ofProvider(dispatcher, request, path.namespace);
  if (path.resourceGroup !== undefined) return await ofGroup(dispatcher, request);
  return await ofSubscription(dispatcher, request);
}

/** Subscriptions never go away, so one that was there once is there. */
const seen = new WeakMap<Kysely<Schema>, Set<string>>();

async function requireSubscription(database: Kysely<Schema>, id: string): Promise<void> {
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

async function ofTenant(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply | undefined> {
  const { path } = request;
  if (path.namespace !== undefined) {
    if (path.scope !== '' || !isWord(path.types[0], 'operations') || path.types.length !== 1) return undefined;
    if (path.names.length > 0) return undefined;
    const namespace = requireNamespace(path.namespace);
    requireGet(request);
    const apiVersion = requireVersion(request, namespaceVersions(namespace));
    return { status: 200, body: { value: operationsOf(namespace, apiVersion) } };
  }
  const [word, name, ...more] = path.rest;
  if (more.length > 0) throw nothing(request);
  requireGet(request);
  const apiVersion = requireVersion(request, RESOURCES_API_VERSIONS);
  if (isWord(word, 'providers')) {
    if (name !== undefined) return { status: 200, body: providerDocument(requireNamespace(name)) };
    return { status: 200, body: { value: providerDocuments() } };
  }
  if (name !== undefined) throw nothing(request);
  if (isWord(word, 'tenants')) return { status: 200, body: { value: [tenant(request.caller.tenantId, apiVersion)] } };
  if (isWord(word, 'subscriptions')) return await subscriptions(dispatcher, request, apiVersion);
  throw nothing(request);
}

function tenant(tenantId: string, apiVersion: string): JsonObject {
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
async function subscriptions(
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

function shownSubscription({ id, name, properties }: StoredResource, tenantId: string, apiVersion: string): JsonObject {
  return {
    id,
    authorizationSource: 'RoleBased',
    ...(isSince(apiVersion, '2019-06-01') && { managedByTenants: [] }),
    subscriptionId: name,
    tenantId,
    displayName: properties.displayName,
    state: 'Enabled',
    subscriptionPolicies: { locationPlacementId: 'Public_2014-09-01', quotaId: 'Kiln', spendingLimit: 'Off' },
  };
}

/** Whether something can be read at a place or anywhere in it: what lists show. */
function visibleBy(scopes: readonly string[]): (key: string) => boolean {
  return key => scopes.some(scope => covers(scope, key) || covers(key, scope));
}

async function ofSubscription(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply> {
  const { environment, roles } = dispatcher;
  const { database } = environment;
  const { path, caller } = request;
  const [word, name, ...more] = path.rest;
  const id = subscriptionId(path.subscription!);
  if (more.length > 0) throw nothing(request);
  if (isWord(word, 'operationresults') && name !== undefined) return await operationResult(dispatcher, request, name);
  requireGet(request);
  const apiVersion = requireVersion(request, RESOURCES_API_VERSIONS);
  const subscription = (await getResource(database, id))!;
  // Whoever has a role on one group only needs all of these: az reads them before it does anything there.
  const scopes = await roles.scopes(caller);
  const visible = visibleBy(scopes);
  const require = async (what: string): Promise<void> => {
    if (!visible(idKey(id))) throw authorizationFailed(caller, `Microsoft.Resources/subscriptions/${what}`, id);
  };
  if (word === undefined) {
    await require('read');
    return { status: 200, body: shownSubscription(subscription, caller.tenantId, apiVersion) };
  }
  if (isWord(word, 'providers')) {
    await require('providers/read');
    if (name !== undefined) return { status: 200, body: providerDocument(requireNamespace(name), subscription) };
    return { status: 200, body: { value: providerDocuments(subscription) } };
  }
  if (name !== undefined) throw nothing(request);
  if (isWord(word, 'locations')) {
    await require('locations/read');
    return { status: 200, body: locationList(subscription.name, apiVersion) };
  }
  if (isWord(word, 'resourcegroups')) {
    await require('resourceGroups/read');
    return await resourceGroupList(dispatcher, request, visible);
  }
  if (isWord(word, 'resources')) {
    await require('resources/read');
    return await resources(dispatcher, request);
  }
  throw nothing(request);
}

async function ofGroup(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply> {
  const { path } = request;
  if (path.rest.length === 0) {
    const apiVersion = requireVersion(request, RESOURCES_API_VERSIONS);
    return await resourceGroup(dispatcher, request, apiVersion);
  }
  if (path.rest.length > 1 || !isWord(path.rest[0], 'resources')) throw nothing(request);
  requireGet(request);
  requireVersion(request, RESOURCES_API_VERSIONS);
  const id = resourceGroupId(path.subscription!, path.resourceGroup!);
  if (!visibleBy(await dispatcher.roles.scopes(request.caller))(idKey(id)))
    throw authorizationFailed(request.caller, 'Microsoft.Resources/subscriptions/resourceGroups/resources/read', id);
  const { database } = dispatcher.environment;
  if (!(await getResource(database, id)))
    throw await notFoundError(database, {
      subscription: path.subscription!,
      resourceGroup: path.resourceGroup!,
      type: 'Microsoft.Resources/resourceGroups',
      names: [path.resourceGroup!],
      name: path.resourceGroup!,
    });
  return await resources(dispatcher, request);
}

/** What the caller may read of it. */
async function resources({ environment, roles }: Dispatcher, request: ArmRequest): Promise<Reply> {
  const { subscription, resourceGroup: group } = request.path;
  const scope = { subscription: subscription!, ...(group !== undefined && { resourceGroup: group }) };
  const may = await roles.view(request.caller);
  const all = (await listedResources(environment.database, scope, request.query)).filter(({ type, key }) =>
    may(`${type}/read`, key),
  );
  const { value, nextLink } = page(all, one => one.key, request.query, request.url.href);
  return {
    status: 200,
    body: { value: value.map(({ body }) => body), ...(nextLink !== undefined && { nextLink }) },
  };
}

/** The Location of a deletion: 202 until it is done, then 200, or why it failed. */
async function operationResult(dispatcher: Dispatcher, request: ArmRequest, id: string): Promise<Reply> {
  requireGet(request);
  requireVersion(request);
  const { body } = await operationStatus(dispatcher, request, id);
  const { status } = body as { status: string };
  if (status === 'Succeeded') return { status: 200 };
  if (status !== 'Failed' && status !== 'Canceled') return { status: 202, headers: resultHeaders(request, id) };
  const row = await dispatcher.environment.database
    .selectFrom('operation')
    .select('error')
    .where('id', '=', id.toLowerCase())
    .executeTakeFirst();
  throw row?.error ? errorFromBody(row.error) : new KilnError('InternalError', `The operation ${id} ended ${status}.`);
}

async function ofProvider(dispatcher: Dispatcher, request: ArmRequest, namespace: string): Promise<Reply | undefined> {
  const { path } = request;
  const { types, names } = path;
  const depth = path.scope.split('/').length;
  if (depth === 3 && types.length === 1 && names.length === 0) {
    const verb = types[0]!.toLowerCase();
    if (request.method === 'POST' && (verb === 'register' || verb === 'unregister'))
      return await registerProvider(dispatcher, request, requireNamespace(namespace), verb === 'register');
  }
  if (
    depth === 3 &&
    names.length === 2 &&
    types.length === 2 &&
    isWord(types[0], 'locations') &&
    OPERATIONS.test(types[1]!)
  ) {
    requireGet(request);
    requireVersion(request);
    // Compute's Location differs from its Azure-AsyncOperation by this parameter only.
    if (request.query.get('monitor') === 'true') return await operationResult(dispatcher, request, names[1]!);
    return await operationStatus(dispatcher, request, names[1]!);
  }
  const features = featurePath(request, namespace);
  if (features) return await feature(dispatcher, request, features);
  await requireWritable(dispatcher, request, namespace);
  return undefined;
}

const OPERATIONS = /^(operations|capsOperations|operationStatuses|operationResults|asyncOperations|diskOperations)$/i;

async function registerProvider(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  namespace: string,
  registered: boolean,
): Promise<Reply> {
  const { database } = environment;
  const id = subscriptionId(request.path.subscription!);
  requireVersion(request, RESOURCES_API_VERSIONS);
  await roles.require(request.caller, `${namespace}/${registered ? 'register' : 'unregister'}/action`, id);
  if (isRegistrationFree(namespace))
    return { status: 200, body: providerDocument(namespace, (await getResource(database, id))!) };
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
  return { status: 200, body: providerDocument(namespace, subscription) };
}

interface FeaturePath {
  /** Missing: of all providers. */
  readonly namespace?: string;
  /** Missing: all. */
  readonly name?: string;
  readonly verb?: 'register' | 'unregister';
}

/** `…/Microsoft.Features/providers/NS/features[/F[/register]]` and `…/Microsoft.Features/features`. */
function featurePath({ path }: ArmRequest, namespace: string): FeaturePath | undefined {
  const [first, verb, ...more] = path.types;
  if (!isWord(first, 'features') || more.length > 0) return undefined;
  const outer = path.scope.split('/').slice(3);
  if (outer.length === 0 && sameText(namespace, 'Microsoft.Features') && path.names.length === 0) return {};
  if (outer.length !== 2 || !sameText(outer.join('/'), 'providers/Microsoft.Features')) return undefined;
  const of = requireNamespace(namespace);
  const name = path.names[0];
  if (name === undefined) return { namespace: of };
  if (verb === undefined) return { namespace: of, name };
  if (isWord(verb, 'register')) return { namespace: of, name, verb: 'register' };
  if (isWord(verb, 'unregister')) return { namespace: of, name, verb: 'unregister' };
  return undefined;
}

async function feature(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  { namespace, name, verb }: FeaturePath,
): Promise<Reply> {
  const { database } = environment;
  const id = subscriptionId(request.path.subscription!);
  requireVersion(request, FEATURES_API_VERSIONS);
  const permission = verb === undefined ? 'read' : `${verb}/action`;
  await roles.require(request.caller, `Microsoft.Features/providers/features/${permission}`, id);
  const subscription = (await getResource(database, id))!;
  if (name === undefined || verb === undefined) {
    requireGet(request);
    if (name === undefined) return { status: 200, body: { value: featureDocuments(subscription, namespace) } };
    return { status: 200, body: featureDocument(subscription, namespace!, name) };
  }
  if (request.method !== 'POST') throw notAllowed(request);
  if (!/^[\w.-]{1,100}$/.test(name))
    throw new KilnError('InvalidParameter', `'${name}' is no name of a feature.`, { target: 'featureName' });
  const state = verb === 'register' ? 'Registered' : 'Unregistered';
  const changed = await register(database, request.path.subscription!, 'features', `${namespace}/${name}`, state);
  return { status: 200, body: featureDocument(changed, namespace!, name) };
}

/**
 * For what changes something: the group is not being deleted, the provider registered. Said only to those who may know that; others are refused by what they
 * asked for.
 */
async function requireWritable(
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

/** One of `known` where that is given. Errors: MissingApiVersionParameter, InvalidApiVersionParameter. */
function requireVersion({ query }: ArmRequest, known?: readonly string[]): string {
  const version = query.get('api-version');
  if (!version)
    throw new KilnError(
      'MissingApiVersionParameter',
      'The api-version query parameter (?api-version=) is required for all requests.',
    );
  if (known === undefined) return version;
  const found = known.find(one => sameText(one, version));
  if (found !== undefined) return found;
  throw new KilnError(
    'InvalidApiVersionParameter',
    `The api-version '${version}' is invalid. The supported versions are '${known.join(',')}'.`,
    { target: 'apiVersion' },
  );
}

function requireNamespace(text: string): string {
  const namespace = findNamespace(text);
  if (namespace) return namespace;
  throw new KilnError('InvalidResourceNamespace', `The resource namespace '${text}' is invalid.`);
}

function requireGet(request: ArmRequest): void {
  if (request.method !== 'GET') throw notAllowed(request);
}

function notAllowed({ method, url }: ArmRequest): KilnError {
  return new KilnError('MethodNotAllowed', `The verb ${method} is not supported for '${url.pathname}'.`);
}

function nothing({ url }: ArmRequest): KilnError {
  return new KilnError('NotFound', `There is nothing at ${url.pathname}.`);
}

function isWord(text: string | undefined, word: string): boolean {
  return text?.toLowerCase() === word;
}
