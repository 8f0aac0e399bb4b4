/** Lists of resources of all types, of a subscription or a group: `az resource list` (az-wire 8.9). */
import { sql } from 'kysely';
import { type FilterSubject, matches, parseFilter, unknownInFilter } from '../arm/filter.ts';
import { parseId } from '../arm/ids.ts';
import { findRegion } from '../arm/locations.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { PROVIDERS } from '../providers/registry.ts';
import type { Store } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { page } from './paging.ts';

interface ListedResource {
  readonly id: string;
  readonly key: string;
  readonly type: string;
  readonly body: JsonObject;
}

/** Those of a type that has location and tags of its own; a run output is part of its template. */
const TRACKED = PROVIDERS.filter(({ definition }) => definition.kind === 'tracked').map(({ definition }) =>
  definition.type.toLowerCase(),
);

/** What the caller may read of it. */
export async function resources({ environment, roles }: Dispatcher, request: ArmRequest): Promise<Reply> {
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

/** Ordered by id. `expand`: createdTime, changedTime, provisioningState. Errors: InvalidFilterInQueryString. */
async function listedResources(
  store: Store,
  scope: { readonly subscription: string; readonly resourceGroup?: string },
  query: URLSearchParams,
): Promise<ListedResource[]> {
  let select = store
    .selectFrom('resource')
    .select(['id', 'display_id', 'type', 'location', 'tags', 'identity', 'created_at', 'changed_at'])
    .select(sql<string | null>`properties->>'provisioningState'`.as('state'))
    .where('subscription', '=', scope.subscription.toLowerCase())
    .where(eb => eb(eb.fn<string>('lower', ['type']), 'in', TRACKED));
  if (scope.resourceGroup !== undefined)
    select = select.where('resource_group', '=', scope.resourceGroup.toLowerCase());
  const rows = await select.orderBy('id').execute();
  const expand = (query.get('$expand') ?? '')
    .toLowerCase()
    .split(',')
    .map(word => word.trim());
  const given = query.get('$filter');
  const filter = given ? parseFilter(given) : undefined;
  return rows
    .map(row => {
      const id = parseId(row.display_id);
      const name = id.names.join('/');
      const { location, tags, identity } = row;
      return {
        id: row.display_id,
        key: row.id,
        type: row.type,
        tags: tags ?? {},
        subject: { name, type: row.type, location, group: id.resourceGroup, identity },
        body: {
          id: row.display_id,
          name,
          type: row.type,
          ...(identity !== null && { identity }),
          ...(location !== null && { location }),
          ...(tags !== null && { tags }),
          ...(expand.includes('createdtime') && { createdTime: row.created_at.toISOString() }),
          ...(expand.includes('changedtime') && { changedTime: row.changed_at.toISOString() }),
          ...(expand.includes('provisioningstate') && { provisioningState: row.state ?? 'Succeeded' }),
        },
      };
    })
    .filter(
      ({ subject, tags }) =>
        filter === undefined || anyTag(tags, (key, value) => matches(filter, resourceSubject(subject, key, value))),
    )
    .map(({ id, key, type, body }) => ({ id, key, type, body }));
}

/** `tagName eq 'a' and tagValue eq 'b'` speaks of one tag: the filter has to hold for any one of them, or without. */
export function anyTag(
  tags: Readonly<Record<string, string>>,
  holds: (key: string | undefined, value: string | undefined) => boolean,
): boolean {
  return holds(undefined, undefined) || Object.entries(tags).some(([key, value]) => holds(key, value));
}

interface Subject {
  readonly name: string;
  readonly type: string;
  readonly location: string | null;
  readonly group: string | undefined;
  readonly identity: unknown;
}

const FIELDS = [
  'name',
  'resourceType',
  'resourceGroup',
  'location',
  'tagName',
  'tagValue',
  'identity/principalId',
  'substringof()',
  'startswith()',
];

function resourceSubject(subject: Subject, tagName: string | undefined, tagValue: string | undefined): FilterSubject {
  const text = (field: string): string | undefined => {
    switch (field) {
      case 'name':
        return subject.name;
      case 'resourcetype':
        return subject.type;
      case 'resourcegroup':
        return subject.group;
      case 'location':
        return subject.location ?? '';
      case 'tagname':
        return tagName;
      case 'tagvalue':
        return tagValue;
      default:
        throw unknownInFilter(field, FIELDS);
    }
  };
  return {
    is(field, value) {
      if (field === 'tagvalue') return tagValue === value;
      if (field === 'location') return subject.location === (findRegion(value)?.name ?? value);
      if (field === 'identity/principalid') return principals(subject.identity).includes(value.toLowerCase());
      return text(field)?.toLowerCase() === value.toLowerCase();
    },
    call(name, [first = '', second = '']) {
      // OData 2 and 4 differ in the order of their arguments.
      if (name === 'substringof')
        return text(second.toLowerCase())?.toLowerCase().includes(first.toLowerCase()) ?? false;
      if (name === 'startswith')
        return text(first.toLowerCase())?.toLowerCase().startsWith(second.toLowerCase()) ?? false;
      throw unknownInFilter(`${name}()`, FIELDS);
    },
  };
}

function principals(identity: unknown): string[] {
  if (!isObject(identity) || !isObject(identity.userAssignedIdentities)) return [];
  return Object.values(identity.userAssignedIdentities).flatMap(one =>
    isObject(one) && typeof one.principalId === 'string' ? [one.principalId.toLowerCase()] : [],
  );
}
