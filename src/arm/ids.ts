/**
 * Azure Resource Manager ids: `/subscriptions/S/resourceGroups/G/providers/NS/type/name[/type/name]`. They are compared without regard to case and
 * shown as they were written; both `resourceGroups` and `resourcegroups` occur in requests and in answers (contract 2.1).
 */
import { KilnError } from './errors.ts';

export interface ResourceId {
  readonly subscription: string;
  /** Missing in the id of a subscription and of subscription-wide things. */
  readonly resourceGroup?: string;
  /** The whole type with its namespace: `Microsoft.Compute/galleries/images`. */
  readonly type: string;
  /** One name for each segment of the type, outermost first. */
  readonly names: readonly string[];
  /** The last of the names. */
  readonly name: string;
}

export const SUBSCRIPTION_TYPE = 'Microsoft.Resources/subscriptions';
export const RESOURCE_GROUP_TYPE = 'Microsoft.Resources/resourceGroups';

/** The subscription of everything that is made without naming one: `kiln build` of a template that names none. */
export const LOCAL_SUBSCRIPTION = '00000000-0000-4000-8000-00006b696c6e';
/** The tenant that local identities belong to. */
export const LOCAL_TENANT = '00000000-0000-4000-8000-74656e616e74';

const SEGMENT = /^[^/\\?#%\s<>&][^/\\?#%<>&\u0000-\u001f]*$/;

/** Reads an id; undefined when it is none. Takes untrusted text. */
export function tryParseId(text: string): ResourceId | undefined {
  if (!text.startsWith('/')) return undefined;
  const parts = withoutSlash(text).slice(1).split('/');
  if (parts.length < 2 || parts.length > 64 || parts.some(part => !SEGMENT.test(part))) return undefined;
  if (parts[0]!.toLowerCase() !== 'subscriptions') return undefined;
  const subscription = parts[1]!;
  if (parts.length === 2) return { subscription, type: SUBSCRIPTION_TYPE, names: [subscription], name: subscription };
  let rest = parts.slice(2);
  let resourceGroup: string | undefined;
  if (rest[0]!.toLowerCase() === 'resourcegroups') {
    if (rest.length < 2) return undefined;
    resourceGroup = rest[1]!;
    if (rest.length === 2)
      return { subscription, resourceGroup, type: RESOURCE_GROUP_TYPE, names: [resourceGroup], name: resourceGroup };
    rest = rest.slice(2);
  }
  if (rest[0]!.toLowerCase() !== 'providers' || rest.length < 4 || rest.length % 2 !== 0) return undefined;
  const types = rest.slice(2).filter((_, index) => index % 2 === 0);
  const names = rest.slice(2).filter((_, index) => index % 2 === 1);
  return {
    subscription,
    ...(resourceGroup !== undefined && { resourceGroup }),
    type: [rest[1], ...types].join('/'),
    names,
    name: names.at(-1)!,
  };
}

/** Reads an id, or says in Azure's words that it is none. `path` is the JSON path where it stands. */
export function parseId(text: string, path = 'id'): ResourceId {
  const id = tryParseId(text);
  if (id) return id;
  throw new KilnError(
    'LinkedInvalidPropertyId',
    `Property id '${text}' at path '${path}' is invalid. Expect fully qualified resource Id that start with '/subscriptions/{subscriptionId}' or '/providers/{resourceProviderNamespace}/'.`,
    { target: path },
  );
}

/** The text of an id, in Azure's usual casing of its fixed words. */
export function formatId(id: Pick<ResourceId, 'subscription' | 'resourceGroup' | 'type' | 'names'>): string {
  const subscription = `/subscriptions/${id.subscription}`;
  if (sameText(id.type, SUBSCRIPTION_TYPE)) return subscription;
  const group = id.resourceGroup === undefined ? subscription : `${subscription}/resourceGroups/${id.resourceGroup}`;
  if (sameText(id.type, RESOURCE_GROUP_TYPE)) return group;
  const [namespace, ...types] = id.type.split('/');
  return `${group}/providers/${namespace}/${types.map((type, index) => `${type}/${id.names[index]}`).join('/')}`;
}

/** Puts an id together: `resourceId(sub, 'g', 'Microsoft.Compute/galleries/images', 'gallery', 'definition')`. */
export function resourceId(subscription: string, resourceGroup: string, type: string, ...names: string[]): string {
  return formatId({ subscription, resourceGroup, type, names });
}

export function resourceGroupId(subscription: string, resourceGroup: string): string {
  return formatId({ subscription, resourceGroup, type: RESOURCE_GROUP_TYPE, names: [resourceGroup] });
}

/** The resource that this one is a child of (a gallery of its definitions); undefined for a top-level resource. */
export function parentId(id: ResourceId): ResourceId | undefined {
  if (id.names.length < 2) return undefined;
  const names = id.names.slice(0, -1);
  return { ...id, type: id.type.slice(0, id.type.lastIndexOf('/')), names, name: names.at(-1)! };
}

/** An id is the same with a slash at its end. */
export function withoutSlash(id: string): string {
  return id.replace(/\/$/, '');
}

/** What ids are compared, and rows found, by. */
export function idKey(id: string | ResourceId): string {
  return (typeof id === 'string' ? withoutSlash(id) : formatId(id)).toLowerCase();
}

export function sameId(a: string | ResourceId, b: string | ResourceId): boolean {
  return idKey(a) === idKey(b);
}

/** Equality of types, names and other words that Azure compares without regard to case. */
export function sameText(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** Whether `text` is an id of this type, in a resource group. */
export function isIdOf(text: string, type: string): boolean {
  const id = tryParseId(text);
  return id !== undefined && id.resourceGroup !== undefined && sameText(id.type, type);
}
