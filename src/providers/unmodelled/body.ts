/** The body of a PUT of a type that Kiln does not know: its envelope is Resource Manager's, and judged; the rest is kept as it is, without secrets. Pure. */
import { KilnError } from '../../arm/errors.ts';
import { findRegion, requireRegion } from '../../arm/locations.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireTags } from '../../arm/tags.ts';
import type { NewResource } from '../store.ts';
import { withoutSecrets } from './secrets.ts';

export interface UnmodelledBody {
  readonly resource: Pick<NewResource, 'location' | 'tags' | 'identity' | 'sku' | 'kind' | 'properties' | 'unmodelled'>;
  /** Paths of what was not kept. */
  readonly dropped: readonly string[];
}

/** What is kept of one resource, in bytes of JSON: more than a workbook or a workflow has. */
export const MOST_BYTES = 1024 * 1024;

/** Members that the server says, not the client. */
const OWN = new Set(['id', 'name', 'type', 'apiversion', 'etag', 'systemdata', 'resourcegroup', 'subscriptionid']);
/** Those that have a column; az sends them in this case, templates in any. */
const COLUMNS = ['location', 'tags', 'identity', 'sku', 'kind', 'properties'] as const;
/** Of an identity: given by the directory, which knows nothing of this one. */
const GIVEN = /^(principalId|tenantId|clientId)$/i;

/** Untrusted. Errors: InvalidRequestContent, LocationNotAvailableForResourceType, those of requireTags, ResourceQuotaExceeded. */
export function readUnmodelled(given: JsonObject, type: string, name: string): UnmodelledBody {
  const { value, dropped } = withoutSecrets(given, type, name);
  const body = value as JsonObject;
  const columns = new Map<string, unknown>();
  const rest: [string, unknown][] = [];
  for (const [key, member] of Object.entries(body)) {
    const column = COLUMNS.find(one => one.toLowerCase() === key.toLowerCase());
    if (column !== undefined) columns.set(column, member ?? undefined);
    else if (!OWN.has(key.toLowerCase())) rest.push([key, member]);
  }
  const { location, tags, identity, sku, kind, properties } = Object.fromEntries(columns);
  if (location !== undefined && typeof location !== 'string') throw unreadable('location', 'a text');
  for (const [path, member] of Object.entries({ identity, sku, properties }))
    if (member !== undefined && !isObject(member)) throw unreadable(path, 'an object');
  if (kind !== undefined && typeof kind !== 'string') throw unreadable('kind', 'a text');
  const resource = {
    ...(location !== undefined && location.trim() !== '' && { location: regionOf(location, type) }),
    ...(tags !== undefined && { tags: requireTags(tags) }),
    ...(identity !== undefined && { identity: ownIdentity(identity as JsonObject) }),
    ...(sku !== undefined && { sku: sku as JsonObject }),
    ...(kind !== undefined && { kind }),
    properties: { ...((properties ?? {}) as JsonObject), provisioningState: 'Succeeded' },
    unmodelled: Object.fromEntries(rest),
  };
  const bytes = Buffer.byteLength(JSON.stringify(resource));
  if (bytes > MOST_BYTES)
    throw new KilnError(
      'ResourceQuotaExceeded',
      `The resource '${name}' of type '${type}' has ${bytes} bytes; Kiln keeps ${MOST_BYTES} of a type that it does not know.`,
    );
  return { resource, dropped };
}

/** Some resources are everywhere. */
function regionOf(location: string, type: string): string {
  return /^\s*global\s*$/i.test(location) ? 'global' : (findRegion(location) ?? requireRegion(location, type)).name;
}

function ownIdentity(identity: JsonObject): JsonObject {
  const { userAssignedIdentities } = identity;
  const own = Object.fromEntries(Object.entries(identity).filter(([key]) => !GIVEN.test(key)));
  if (!isObject(userAssignedIdentities)) return own;
  const ids = Object.keys(userAssignedIdentities).filter(id => userAssignedIdentities[id] !== null);
  return { ...own, userAssignedIdentities: Object.fromEntries(ids.map(id => [id, {}])) };
}

const unreadable = (path: string, what: string): KilnError =>
  new KilnError(
    'InvalidRequestContent',
    `The request content was invalid and could not be deserialized: '${path} has to be ${what}.'.`,
    { target: path },
  );
