/**
 * What a request to Resource Manager means: which resource, which verb, who may. Every type goes through here; what a type does itself stands in its provider.
 */
import { checkApiVersion } from '../arm/api-versions.ts';
import type { Caller } from '../arm/caller.ts';
import { KilnError } from '../arm/errors.ts';
import { formatId, idKey, parseId, type ResourceId, resourceGroupId, sameText } from '../arm/ids.ts';
import { requireRegion } from '../arm/locations.ts';
import type { Resource } from '../arm/resource-type.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { covers, scopeKey } from '../providers/authorization/grants.ts';
import { type Change, unlocked } from '../providers/authorization/locked-scopes.ts';
import { authorizationFailed } from '../providers/authorization/open-roles.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import { defaultPatch, defaultPut, defaultRemove } from '../providers/default-life.ts';
import type { ExtensionAnswer } from '../providers/extension.ts';
import { notFoundError } from '../providers/life.ts';
import { locationType, matchPath } from '../providers/location-read.ts';
import type { Answer, Call, ProviderEnvironment, ResourceCall, ResourceProvider } from '../providers/provider.ts';
import { EXTENSIONS, findNamespace, LOCATION_READS, PROVIDERS, SUBSCRIPTION_ACTIONS } from '../providers/registry.ts';
import { getResource, listResources, type StoredResource } from '../providers/store.ts';
import { page, pageRequest } from './paging.ts';
import { type ArmPath, parsePath } from './request-path.ts';
import { shown, taggedBy } from './shown.ts';
import { findTarget } from './target.ts';

export interface ArmRequest {
  readonly method: string;
  readonly path: ArmPath;
  /** Absolute, as the client wrote it. */
  readonly url: URL;
  readonly query: URLSearchParams;
  /** Untrusted JSON; undefined without a body. */
  readonly body: unknown;
  readonly ifMatch: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly accept?: string | undefined;
  readonly lastEventId?: string | undefined;
  readonly caller: Caller;
  readonly correlationId: string;
  readonly origin: string;
  readonly signal: AbortSignal;
}

export interface Dispatcher {
  readonly environment: ProviderEnvironment;
  readonly roles: Roles;
}

/** An answer that is ready to be sent: the body is the wire form. */
export type Reply = Answer | ExtensionAnswer;

export async function dispatch({ environment, roles }: Dispatcher, request: ArmRequest): Promise<Reply> {
  const { path, method, caller } = request;
  const namespace = findNamespace(path.namespace!);
  if (!namespace)
    throw new KilnError('InvalidResourceNamespace', `The resource namespace '${path.namespace}' is invalid.`);
  const call = (apiVersion: string): Call => ({
    environment,
    caller,
    apiVersion,
    correlationId: request.correlationId,
    query: request.query,
    origin: request.origin,
    may: (action, scope) => roles.may(caller, action, scope),
  });

  const extension = EXTENSIONS.find(
    one => sameText(one.namespace, namespace) && sameText(one.type, path.types[0] ?? ''),
  );
  if (extension) {
    const apiVersion = checkApiVersion(
      requiredVersion(request),
      extension.apiVersions,
      `${namespace}/${extension.type}`,
    );
    const segments = interleaved(path).slice(1);
    const seen = { method: verbOf(method), segments };
    await roles.require(caller, `${namespace}/${extension.type}/${extension.permission(seen)}`, path.scope || '/');
    const { scope } = path;
    const { body, signal, accept, lastEventId } = request;
    const change = changeOf(seen.method);
    const held = change !== undefined && !extension.beyondLocks;
    const id = [scope, 'providers', namespace, extension.type, ...segments].join('/');
    return await extension.handle({
      ...call(apiVersion),
      ...(held && { environment: await unlocked(environment, id, change) }),
      ...seen,
      scope,
      body,
      signal,
      accept,
      lastEventId,
      requireScope: () => requireAt(scope, call),
    });
  }

  const located = await locationRead(namespace, request, call, roles);
  if (located) return located;
  const acted = await subscriptionAction(namespace, request, call, roles);
  if (acted) return acted;

  const found = findTarget(namespace, path, method, request.query.get('api-version') ?? undefined);
  const { definition } = found.provider;
  const apiVersion = checkApiVersion(requiredVersion(request), definition.apiVersions, definition.type);
  const permission = (what: string, id: string) => roles.require(caller, `${definition.type}/${what}`, id);

  if (found.kind === 'collection') {
    if (method !== 'GET') throw notAllowed(method, definition.type);
    const readable = await readableIn(roles, caller, `${definition.type}/read`, found.scope);
    return await list(found.provider, call(apiVersion), path, request, readable);
  }
  const id = found.id;
  const { ifMatch, ifNoneMatch } = request;
  const resourceCall: ResourceCall = { ...call(apiVersion), id, conditions: { ifMatch, ifNoneMatch } };
  const key = idKey(id);
  /** For what changes something; to be asked after roles: who may not do it is not told of locks. */
  const changing = async (change: Change): Promise<ResourceCall> => ({
    ...resourceCall,
    environment: await unlocked(environment, formatId(id), change),
  });
  if (found.kind === 'action') {
    const actions = new Map(Object.entries(found.provider.actions ?? {}));
    const action = actions.get(found.action.toLowerCase());
    if (!action || method !== (action.method ?? 'POST')) throw notAllowed(method, `${definition.type}/${found.action}`);
    await permission(action.permission, key);
    return await action.run(method === 'POST' ? await changing('write') : resourceCall, request.body);
  }
  switch (method) {
    case 'GET':
    case 'HEAD': {
      await permission('read', key);
      const resource = await readResource(found.provider, resourceCall);
      if (!resource) throw await notFoundError(environment.database, id);
      if (method === 'HEAD') return { status: 204, headers: tagOf(found.provider, resource) };
      return await withBody({ status: 200, resource }, found.provider, resourceCall);
    }
    case 'PUT': {
      await permission('write', key);
      const held = await changing('write');
      const answer = await (found.provider.put ?? defaultPut(found.provider))(held, bodyOf(request));
      return await withBody(answer, found.provider, resourceCall);
    }
    case 'PATCH': {
      await permission('write', key);
      const held = await changing('write');
      await requireThere(found.provider, resourceCall);
      const answer = await (found.provider.patch ?? defaultPatch(found.provider))(held, bodyOf(request));
      return await withBody(answer, found.provider, resourceCall);
    }
    case 'DELETE': {
      await permission('delete', key);
      const held = await changing('delete');
      if (!(await readResource(found.provider, resourceCall))) return { status: 204 };
      return await (found.provider.remove ?? defaultRemove(found.provider))(held);
    }
    default:
      throw notAllowed(method, definition.type);
  }
}

/** What an extension hangs on has to be there. Subscriptions are: core.ts has looked. */
async function requireAt(scope: string, call: (apiVersion: string) => Call): Promise<void> {
  const path = parsePath(scope);
  if (path === undefined) return;
  const { subscription, resourceGroup } = path;
  if (path.namespace === undefined) {
    if (resourceGroup === undefined) return;
    const id = parseId(resourceGroupId(subscription!, resourceGroup));
    const { database } = call('').environment;
    if (!(await getResource(database, id))) throw await notFoundError(database, id);
    return;
  }
  const { kind, provider, ...target } = findTarget(findNamespace(path.namespace) ?? path.namespace, path, 'GET');
  if (kind !== 'resource' || !('id' in target))
    throw new KilnError('InvalidParameter', `The scope '${scope}' is no subscription, resource group or resource.`);
  await requireThere(provider, { ...call(provider.definition.apiVersions[0]!), id: target.id });
}

/** `undefined`: the path is none of the registry's. */
async function locationRead(
  namespace: string,
  request: ArmRequest,
  call: (apiVersion: string) => Call,
  roles: Roles,
): Promise<Reply | undefined> {
  const { path, method, caller } = request;
  if (path.subscription === undefined || path.scope.split('/').length !== 3) return undefined;
  const [locations = '', location, ...segments] = interleaved(path);
  if (!sameText(locations, 'locations') || location === undefined) return undefined;
  for (const one of LOCATION_READS) {
    const names = sameText(one.namespace, namespace) ? matchPath(one.path, segments) : undefined;
    if (!names) continue;
    const type = `${one.namespace}/${locationType(one)}`;
    const apiVersion = checkApiVersion(requiredVersion(request), one.apiVersions, type, location);
    if (method !== 'GET') throw notAllowed(method, type);
    await roles.require(caller, one.permission, path.scope);
    const region = requireRegion(location, type);
    const { subscription } = path;
    return {
      status: 200,
      body: await one.read({ ...call(apiVersion), subscription, location: region.name, names }),
    };
  }
  return undefined;
}

/** `undefined`: the path is none of the registry's. */
async function subscriptionAction(
  namespace: string,
  request: ArmRequest,
  call: (apiVersion: string) => Call,
  roles: Roles,
): Promise<Reply | undefined> {
  const { path, method, caller, body } = request;
  const { subscription, types, names, scope } = path;
  if (subscription === undefined || scope.split('/').length !== 3 || types.length !== 1 || names.length > 0)
    return undefined;
  const found = SUBSCRIPTION_ACTIONS.find(one => sameText(one.namespace, namespace) && sameText(one.name, types[0]!));
  if (!found) return undefined;
  const type = `${found.namespace}/${found.name}`;
  const apiVersion = checkApiVersion(requiredVersion(request), found.apiVersions, type);
  if (method !== 'POST') throw notAllowed(method, type);
  await roles.require(caller, found.permission, scope);
  return await found.run({ ...call(apiVersion), subscription }, body);
}

/**
 * What of a list the caller may read, by key: all of it, or, for somebody who has a role somewhere below, what is there. Errors: AuthorizationFailed, for those
 * who may read nothing in the scope.
 */
async function readableIn(
  roles: Roles,
  caller: Caller,
  action: string,
  scope: string,
): Promise<(key: string) => boolean> {
  if (await roles.may(caller, action, scope)) return () => true;
  const at = scopeKey(scope);
  if (!(await roles.scopes(caller)).some(one => covers(at, one))) throw authorizationFailed(caller, action, scope);
  const may = await roles.view(caller);
  return key => may(action, key);
}

async function list(
  provider: ResourceProvider,
  call: Call,
  path: ArmPath,
  request: ArmRequest,
  readable: (key: string) => boolean,
): Promise<Reply> {
  const { definition } = provider;
  const { subscription, resourceGroup, names } = path;
  const { database } = call.environment;
  if (resourceGroup !== undefined && !(await getResource(database, resourceGroupId(subscription!, resourceGroup))))
    throw new KilnError('ResourceGroupNotFound', `Resource group '${resourceGroup}' could not be found.`);
  const type = definition.type.slice(0, definition.type.lastIndexOf('/'));
  const parent: ResourceId | undefined =
    names.length > 0
      ? {
          subscription: subscription!,
          ...(resourceGroup !== undefined && { resourceGroup }),
          type,
          names,
          name: names.at(-1)!,
        }
      : undefined;
  if (parent) await requireParent(parent, call);
  const scope = {
    subscription: subscription!,
    ...(resourceGroup !== undefined && { resourceGroup }),
    ...(parent && { parent }),
  };
  const { after, size } = pageRequest(call.query);
  // One more than is shown tells whether there is another page.
  const limit = size + 1;
  const visible: Resource[] = [];
  for (let last = after; ; ) {
    const window = { ...(last !== undefined && { after: last }), limit };
    const found = provider.list
      ? await provider.list({ ...call, scope, window })
      : await listResources(database, { type: definition.type, ...scope, ...window });
    const more = found.filter(one => last === undefined || idKey(one.id) > last);
    visible.push(...more.filter(one => readable(idKey(one.id))));
    if (more.length < limit || visible.length >= limit) break;
    last = idKey(more.at(-1)!.id);
  }
  const { value, nextLink } = page(
    visible,
    one => idKey(one.id),
    call.query,
    `${call.origin}${request.url.pathname}${request.url.search}`,
  );
  const bodies = await Promise.all(value.map(one => shown(provider, one, call)));
  const body = { value: bodies, ...(nextLink !== undefined && { nextLink }) };
  return { status: 200, body, ...(provider.headers && { headers: provider.headers }) };
}

/** A parent need not be a row: an account's blob service is there because the account is. */
async function requireParent(parent: ResourceId, call: Call): Promise<void> {
  const provider = PROVIDERS.find(({ definition }) => sameText(definition.type, parent.type));
  if (provider) return await requireThere(provider, { ...call, id: parent });
  const { database } = call.environment;
  if (!(await getResource(database, parent))) throw await notFoundError(database, parent);
}

async function withBody(answer: Answer, provider: ResourceProvider, call: ResourceCall): Promise<Answer> {
  if (answer.body !== undefined || !answer.resource) return answer;
  const headers = { ...answer.headers, ...provider.headers, ...tagOf(provider, answer.resource) };
  return { ...answer, headers, body: await shown(provider, answer.resource, call) };
}

const tagOf = (provider: ResourceProvider, resource: Resource | StoredResource): Record<string, string> =>
  provider.untagged || !('etag' in resource) ? {} : taggedBy(resource, provider.weakTags);

async function readResource(provider: ResourceProvider, call: ResourceCall) {
  if (provider.read) return await provider.read(call);
  return await getResource(call.environment.database, call.id);
}

async function requireThere(provider: ResourceProvider, call: ResourceCall): Promise<void> {
  if (!(await readResource(provider, call))) throw await notFoundError(call.environment.database, call.id);
}

function bodyOf({ body }: ArmRequest): JsonObject {
  if (isObject(body)) return body;
  throw new KilnError(
    'InvalidRequestContent',
    `The request content was invalid and could not be deserialized: '${body === undefined ? 'The body is empty.' : 'It is not an object.'}'.`,
  );
}

function requiredVersion({ query }: ArmRequest): string {
  const version = query.get('api-version');
  if (version) return version;
  throw new KilnError(
    'MissingApiVersionParameter',
    'The api-version query parameter (?api-version=) is required for all requests.',
  );
}

const VERBS = ['GET', 'HEAD', 'PUT', 'PATCH', 'POST', 'DELETE'] as const;
type Verb = (typeof VERBS)[number];

const changeOf = (verb: Verb): Change | undefined =>
  verb === 'GET' || verb === 'HEAD' ? undefined : verb === 'DELETE' ? 'delete' : 'write';

function verbOf(method: string): Verb {
  const verb = VERBS.find(one => one === method);
  if (verb) return verb;
  throw notAllowed(method, 'anything');
}

function notAllowed(method: string, type: string): KilnError {
  return new KilnError('MethodNotAllowed', `The verb ${method} is not supported for '${type}'.`);
}

/** `types` and `names` in the order of the path. */
function interleaved({ types, names }: ArmPath): string[] {
  return types.flatMap((type, index) => (index < names.length ? [type, names[index]!] : [type]));
}
