/**
 * Microsoft.Resources/tags/default: the tags of a subscription, a resource group or a resource, apart from the rest of it (`az tag … --resource-id`). Who may
 * write tags need not be allowed to change what is tagged.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatId, parseId, RESOURCE_GROUP_TYPE, SUBSCRIPTION_TYPE, sameText } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireTags, requireWholeTags } from '../../arm/tags.ts';
import type { ExtensionCall, ExtensionProvider } from '../extension.ts';
import { groupBeingDeleted, notFoundError, requireGroup } from '../life.ts';
import type { Answer } from '../provider.ts';
import { getResource, lockResource, type Store, type StoredResource, writeTags } from '../store.ts';
import { RESOURCES_API_VERSIONS } from './api-versions.ts';

const TYPE = 'Microsoft.Resources/tags';
const SINCE = '2019-10-01';

type Tags = Readonly<Record<string, string>>;

export const tags: ExtensionProvider = Object.freeze({
  namespace: 'Microsoft.Resources',
  type: 'tags',
  apiVersions: Object.freeze(RESOURCES_API_VERSIONS.filter(version => version >= SINCE)),
  permission: ({ method }: Pick<ExtensionCall, 'method'>) =>
    method === 'GET' || method === 'HEAD' ? 'read' : method === 'DELETE' ? 'delete' : 'write',
  handle,
} satisfies ExtensionProvider);

async function handle(call: ExtensionCall): Promise<Answer> {
  const { segments, method, scope } = call;
  if (segments.length !== 1 || !sameText(segments[0]!, 'default'))
    throw new KilnError('NotFound', `The tags of '${scope}' are at …/providers/${TYPE}/default.`);
  const { database } = call.environment;
  if (scope === '') throw untaggable('the tenant');
  await call.requireScope();
  switch (method) {
    case 'GET':
      return { status: 200, body: shown(await requireTaggable(database, scope)) };
    case 'PUT': {
      const wanted = readTags(call.body);
      return await change(call, () => wanted);
    }
    case 'PATCH': {
      const operation = OPERATIONS.get(String(isObject(call.body) ? call.body.operation : '').toLowerCase());
      if (!operation)
        throw new KilnError('InvalidRequestContent', "The operation of tags is 'Replace', 'Merge' or 'Delete'.", {
          target: 'operation',
        });
      const given = readTags(call.body);
      return await change(call, before => operation(before, given));
    }
    case 'DELETE':
      await change(call, () => ({}));
      return { status: 200 };
    default:
      throw new KilnError('MethodNotAllowed', `The verb ${method} is not supported for '${TYPE}'.`);
  }
}

/** Names of tags compare without case and keep the one they were first written in. */
const OPERATIONS: ReadonlyMap<string, (before: Tags, given: Tags) => Tags> = new Map([
  ['replace', (_before: Tags, given: Tags) => given],
  [
    'merge',
    (before: Tags, given: Tags) => {
      const merged: Record<string, string> = { ...before };
      for (const [name, value] of Object.entries(given)) merged[nameIn(before, name) ?? name] = value;
      return merged;
    },
  ],
  [
    'delete',
    (before: Tags, given: Tags) => {
      const left: Record<string, string> = { ...before };
      for (const [name, value] of Object.entries(given)) {
        const known = nameIn(before, name);
        // Without a value the name is enough.
        if (known !== undefined && (value === '' || before[known] === value)) delete left[known];
      }
      return left;
    },
  ],
]);

const nameIn = (tags: Tags, name: string) => Object.keys(tags).find(one => sameText(one, name));

function readTags(body: unknown): Tags {
  const properties = isObject(body) ? body.properties : undefined;
  if (!isObject(properties))
    throw new KilnError(
      'InvalidRequestContent',
      "The request content was invalid and could not be deserialized: 'Required property 'properties' not found in JSON.'.",
      { target: 'properties' },
    );
  return requireTags(properties.tags ?? {});
}

async function change(call: ExtensionCall, next: (before: Tags) => Tags): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    await requireGroup(trx, parseId(call.scope));
    await lockResource(trx, call.scope);
    const resource = await requireTaggable(trx, call.scope);
    const state = String(resource.properties.provisioningState ?? '');
    if (state === 'Deleting' && sameText(resource.type, RESOURCE_GROUP_TYPE)) throw groupBeingDeleted(resource.name);
    // What goes on may write the tags that it began with.
    if (/^(Creating|Updating|Deleting)$/.test(state))
      throw new KilnError(
        'Conflict',
        `'${resource.id}' is in the state ${state}; its tags cannot be changed until that has ended.`,
        {
          target: resource.id,
        },
      );
    const wanted = next(resource.tags ?? {});
    requireWholeTags(wanted);
    return { status: 200, body: shown(await writeTags(trx, resource.id, wanted)) };
  });
}

/** Run outputs and the like are parts of what has tags, and have none. */
async function requireTaggable(store: Store, scope: string): Promise<StoredResource> {
  const id = parseId(scope);
  const resource = await getResource(store, id);
  if (!resource) {
    if (sameText(id.type, RESOURCE_GROUP_TYPE)) throw await notFoundError(store, id);
    throw untaggable(id.type);
  }
  const { type, location } = resource;
  if (location === undefined && !sameText(type, SUBSCRIPTION_TYPE)) throw untaggable(type);
  return resource;
}

const untaggable = (what: string) =>
  new KilnError('InvalidParameter', `Tags are not supported on ${what}.`, { target: 'scope' });

function shown({ id, tags = {} }: StoredResource): JsonObject {
  return {
    id: `${formatId(parseId(id))}/providers/${TYPE}/default`,
    name: 'default',
    type: TYPE,
    properties: { tags },
  };
}
