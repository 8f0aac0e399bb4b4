/** An image template as the real service writes it (recorded): the order of its members, its defaults, what each api-version knew (contract 1.5, 4.7). */
import { isSince } from '../../arm/api-versions.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Call } from '../provider.ts';
import { ORDER_SINCE, STAGING_SINCE } from './api-versions.ts';
import { type LastRun, lastRunStatus } from './last-run.ts';
import { echoProperties } from './normalise.ts';

export function shownTemplate(
  resource: Resource,
  run: LastRun | undefined,
  { apiVersion, origin }: Pick<Call, 'apiVersion' | 'origin'>,
): JsonObject {
  const stored: JsonObject = {
    ...resource.properties,
    provisioningState: knownState(resource.properties.provisioningState, apiVersion),
    ...(run && { lastRunStatus: lastRunStatus(run, apiVersion, origin) }),
    exactStagingResourceGroup: resource.properties.exactStagingResourceGroup ?? '',
  };
  const properties = echoProperties(stored, apiVersion);
  if (isObject(properties.source)) properties.source = sorted(properties.source);
  for (const list of ['customize', 'distribute'])
    if (properties[list]) properties[list] = sortedItems(properties[list]);
  if (isObject(properties.validate) && properties.validate.inVMValidations)
    properties.validate = {
      ...properties.validate,
      inVMValidations: sortedItems(properties.validate.inVMValidations),
    };
  if (!isSince(apiVersion, STAGING_SINCE)) {
    delete properties.stagingResourceGroup;
    delete properties.exactStagingResourceGroup;
  }
  const { id, name, type, location, tags = {}, identity } = resource;
  // The id's casing is the front door's affair; here only its place is kept.
  if (!isSince(apiVersion, ORDER_SINCE))
    return { id, ...(identity && { identity }), location, name, properties, tags, type };
  return { properties, ...(identity && { identity }), tags, location, id, name, type };
}

/** Members of anything with a `type` come in the order of the alphabet: the service keeps them in maps. */
const sorted = (value: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Steps of a kind that came after the api-version are left out. */
const sortedItems = (items: unknown): JsonObject[] => (items as unknown[]).filter(isObject).map(sorted);

/** `Canceled` came in 2022-07-01. */
function knownState(state: unknown, apiVersion: string): unknown {
  return state === 'Canceled' && !isSince(apiVersion, '2022-07-01') ? 'Failed' : state;
}
