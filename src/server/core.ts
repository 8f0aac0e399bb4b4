/**
 * Resource Manager's own paths, which are no plain resource type: subscriptions, groups, providers, features, lists of all resources, polling. Also what has to
 * be true before any type is asked: the subscription is there, its provider registered, the group not being deleted.
 */
import { idKey, resourceGroupId } from '../arm/ids.ts';
import { authorizationFailed } from '../providers/authorization/open-roles.ts';
import { notFoundError } from '../providers/life.ts';
import { RESOURCES_API_VERSIONS } from '../providers/resources/api-versions.ts';
import { subscriptionId } from '../providers/resources/subscriptions.ts';
import { getResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { feature, featurePath } from './features.ts';
import { groupAction } from './group-actions.ts';
import { locationList } from './locations.ts';
import { operationResult, operationStatus } from './operations.ts';
import { namespaceVersions, providerDocument, providerDocuments, resourceTypesOf } from './provider-documents.ts';
import { operationsOf, providerOperations } from './provider-operations.ts';
import { registerProvider, requireWritable } from './provider-registration.ts';
import { isWord, nothing, requireGet, requireNamespace, requireVersion } from './request-checks.ts';
import { resourceGroup, resourceGroupList } from './resource-groups.ts';
import { resources } from './resource-list.ts';
import { requireSubscription, shownSubscription, subscriptions, tenant, visibleBy } from './subscriptions.ts';
import { tagNames } from './tag-names.ts';

/** `undefined`: the path is that of a resource type; dispatch.ts goes on. */
export async function core(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply | undefined> {
  const { path } = request;
  if (path.subscription === undefined) return await ofTenant(dispatcher, request);
  await requireSubscription(dispatcher.environment.database, path.subscription);
  if (path.namespace !== undefined) return await ofProvider(dispatcher, request, path.namespace);
  if (path.resourceGroup !== undefined) return await ofGroup(dispatcher, request);
  return await ofSubscription(dispatcher, request);
}

async function ofTenant(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply | undefined> {
  const { path } = request;
  if (path.namespace !== undefined) {
    const listed = providerOperations(request);
    if (listed) return listed;
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
    const { strict } = dispatcher.environment.options;
    if (name !== undefined) return { status: 200, body: providerDocument(requireNamespace(name), undefined, strict) };
    return { status: 200, body: { value: providerDocuments(undefined, strict) } };
  }
  if (name !== undefined) throw nothing(request);
  if (isWord(word, 'tenants')) return { status: 200, body: { value: [tenant(request.caller.tenantId, apiVersion)] } };
  if (isWord(word, 'subscriptions')) return await subscriptions(dispatcher, request, apiVersion);
  throw nothing(request);
}

async function ofSubscription(dispatcher: Dispatcher, request: ArmRequest): Promise<Reply> {
  const { environment, roles } = dispatcher;
  const { database } = environment;
  const { path, caller } = request;
  const [word, name, ...more] = path.rest;
  const id = subscriptionId(path.subscription!);
  if (isWord(word, 'tagnames')) {
    requireVersion(request, RESOURCES_API_VERSIONS);
    return await tagNames(dispatcher, request, path.rest.slice(1));
  }
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
    const { strict } = environment.options;
    if (name !== undefined)
      return { status: 200, body: providerDocument(requireNamespace(name), subscription, strict) };
    return { status: 200, body: { value: providerDocuments(subscription, strict) } };
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
  if (path.rest.length > 1) throw nothing(request);
  const [word] = path.rest;
  if (isWord(word, 'moveresources') || isWord(word, 'validatemoveresources') || isWord(word, 'exporttemplate')) {
    requireVersion(request, RESOURCES_API_VERSIONS);
    return await groupAction(dispatcher, request, word!);
  }
  if (!isWord(word, 'resources')) throw nothing(request);
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

async function ofProvider(dispatcher: Dispatcher, request: ArmRequest, namespace: string): Promise<Reply | undefined> {
  const { path } = request;
  const { types, names } = path;
  const depth = path.scope.split('/').length;
  if (depth === 3 && types.length === 1 && names.length === 0) {
    const verb = types[0]!.toLowerCase();
    if (request.method === 'POST' && (verb === 'register' || verb === 'unregister'))
      return await registerProvider(dispatcher, request, requireNamespace(namespace), verb === 'register');
    if (verb === 'resourcetypes' || verb === 'providerpermissions') {
      requireGet(request);
      requireVersion(request, RESOURCES_API_VERSIONS);
      await dispatcher.roles.require(request.caller, 'Microsoft.Resources/subscriptions/providers/read', path.scope);
      const known = requireNamespace(namespace);
      return {
        status: 200,
        body: { value: verb === 'resourcetypes' ? resourceTypesOf(known, dispatcher.environment.options.strict) : [] },
      };
    }
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
