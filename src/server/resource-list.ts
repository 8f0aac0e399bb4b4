/** Lists of resources of all types, of a subscription or a group: `az resource list` (az-wire 8.9). */
import { sql } from 'kysely';
import { matches, parseFilter } from '../arm/filter.ts';
import { parseId, RESOURCE_GROUP_TYPE, SUBSCRIPTION_TYPE } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import { PROVIDERS } from '../providers/registry.ts';
import type { Store } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { page } from './paging.ts';
import { anyTag, resourceSubject } from './resource-filter.ts';

interface ListedResource {
  readonly id: string;
  readonly key: string;
  readonly type: string;
  readonly body: JsonObject;
}

const typesOf = (kind: 'tracked' | 'proxy') =>
  PROVIDERS.filter(({ definition }) => definition.kind === kind).map(({ definition }) => definition.type.toLowerCase());

/** Types that have location and tags of their own; a run output is part of its template. */
const TRACKED = typesOf('tracked');
/** Rows that are no resources in this sense. What else there is and has a location is listed, whatever its type: Kiln need not know it. */
const OTHERS = [...typesOf('proxy'), SUBSCRIPTION_TYPE.toLowerCase(), RESOURCE_GROUP_TYPE.toLowerCase()];

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
    .select(['id', 'display_id', 'type', 'location', 'tags', 'identity', 'sku', 'kind', 'created_at', 'changed_at'])
    .select(sql<unknown>`coalesce(unmodelled->'plan', properties->'plan')`.as('plan'))
    .select(sql<string | null>`properties->>'provisioningState'`.as('state'))
    .where('subscription', '=', scope.subscription.toLowerCase())
    .where(eb => {
      const type = eb.fn<string>('lower', ['type']);
      return eb.or([eb(type, 'in', TRACKED), eb.and([eb(type, 'not in', OTHERS), eb('location', 'is not', null)])]);
    });
  if (scope.resourceGroup !== undefined)
    select = select.where('resource_group', '=', scope.resourceGroup.toLowerCase());
  const rows = await select.orderBy(sql`id collate "C"`).execute();
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
      const { location, tags, identity, sku, kind, plan } = row;
      return {
        id: row.display_id,
        key: row.id,
        type: row.type,
        tags: tags ?? {},
        subject: { name, type: row.type, location, group: id.resourceGroup, identity, plan },
        body: {
          id: row.display_id,
          name,
          type: row.type,
          ...(kind !== null && { kind }),
          ...(sku !== null && { sku }),
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
