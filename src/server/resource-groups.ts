/** Resource groups over HTTP (contract 2.2): groups have no `/providers/` in their ids, so they are no plain resource type. */
import { KilnError } from '../arm/errors.ts';
import { matches, parseFilter, unknownInFilter } from '../arm/filter.ts';
import { idKey, parseId, resourceGroupId } from '../arm/ids.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { unlocked } from '../providers/authorization/locked-scopes.ts';
import { notFoundError } from '../providers/life.ts';
import { deleteGroup } from '../providers/resources/delete-group.ts';
import { listGroups, patchGroup, putGroup } from '../providers/resources/groups.ts';
import { getResource, type StoredResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { resultHeaders } from './operations.ts';
import { page } from './paging.ts';
import { anyTag } from './resource-filter.ts';
import { taggedBy } from './shown.ts';

/** What roles have to allow; the real one's name is longer than the type's. */
const PERMISSION = 'Microsoft.Resources/subscriptions/resourceGroups';

export async function resourceGroup(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  apiVersion: string,
): Promise<Reply> {
  const { database } = environment;
  const { path, method, caller, ifMatch, ifNoneMatch } = request;
  const conditions = { ifMatch, ifNoneMatch };
  const id = resourceGroupId(path.subscription!, path.resourceGroup!);
  const allowed = (verb: string) => roles.require(caller, `${PERMISSION}/${verb}`, id);
  switch (method) {
    case 'GET':
    case 'HEAD': {
      await allowed('read');
      const group = await getResource(database, id);
      if (!group) throw await notFoundError(database, parseId(id));
      return method === 'HEAD'
        ? { status: 204, headers: taggedBy(group) }
        : { status: 200, body: shownGroup(group), headers: taggedBy(group) };
    }
    case 'PUT': {
      await allowed('write');
      const body = objectOf(request.body);
      const held = await unlocked(environment, id, 'write');
      const { resource, created } = await putGroup(held.database, { id, body, apiVersion, conditions });
      return { status: created ? 201 : 200, body: shownGroup(resource), headers: taggedBy(resource) };
    }
    case 'PATCH': {
      await allowed('write');
      const held = await unlocked(environment, id, 'write');
      const group = await patchGroup(held.database, id, objectOf(request.body), conditions);
      return { status: 200, body: shownGroup(group), headers: taggedBy(group) };
    }
    case 'DELETE': {
      await allowed('delete');
      const operation = await deleteGroup(environment, id, caller.objectId, conditions);
      return { status: 202, headers: resultHeaders(request, operation) };
    }
    default:
      throw new KilnError('MethodNotAllowed', `The verb ${method} is not supported for resource groups.`);
  }
}

/** `visible`: whether the caller may see anything in the group. */
export async function resourceGroupList(
  { environment }: Dispatcher,
  request: ArmRequest,
  visible: (key: string) => boolean,
): Promise<Reply> {
  const given = request.query.get('$filter');
  const filter = given ? parseFilter(given) : undefined;
  const known = ['tagName', 'tagValue', 'name', 'location'];
  const groups = (await listGroups(environment.database, request.path.subscription!)).filter(
    group =>
      visible(idKey(group.id)) &&
      (filter === undefined ||
        anyTag(group.tags ?? {}, (tagName, tagValue) =>
          matches(filter, {
            is(field, value) {
              if (field === 'tagvalue') return tagValue === value;
              if (field === 'tagname') return tagName?.toLowerCase() === value.toLowerCase();
              if (field === 'name') return group.name.toLowerCase() === value.toLowerCase();
              if (field === 'location') return group.location === value.toLowerCase().replaceAll(' ', '');
              throw unknownInFilter(field, known);
            },
            call(name) {
              throw unknownInFilter(`${name}()`, known);
            },
          }),
        )),
  );
  const { value, nextLink } = page(groups, one => idKey(one.id), request.query, request.url.href);
  return { status: 200, body: { value: value.map(shownGroup), ...(nextLink !== undefined && { nextLink }) } };
}

function shownGroup({ id, name, type, location, tags, properties }: StoredResource): JsonObject {
  return {
    id,
    name,
    type,
    location,
    ...(typeof properties.managedBy === 'string' && { managedBy: properties.managedBy }),
    ...(tags && Object.keys(tags).length > 0 && { tags }),
    properties: { provisioningState: properties.provisioningState },
  };
}

function objectOf(body: unknown): JsonObject {
  if (isObject(body)) return body;
  throw new KilnError(
    'InvalidRequestContent',
    `The request content was invalid and could not be deserialized: '${body === undefined ? 'The body is empty.' : 'It is not an object.'}'.`,
  );
}
