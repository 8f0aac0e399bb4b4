/**
 * What there is, as `az provider show` prints it. `az resource` takes the api-version from here: the first of a type that is no preview, so the lists are those
 * of the definitions, newest first.
 */
import { sameText } from '../arm/ids.ts';
import { REGIONS } from '../arm/locations.ts';
import type { JsonObject } from '../arm/shape.ts';
import { locationType } from '../providers/location-read.ts';
import { EXTENSIONS, LOCATION_READS, NAMESPACES, PROVIDERS, SUBSCRIPTION_ACTIONS } from '../providers/registry.ts';
import {
  FEATURES_API_VERSIONS,
  PROVIDER_OPERATIONS_API_VERSIONS,
  RESOURCES_API_VERSIONS,
} from '../providers/resources/api-versions.ts';
import { registrationOf } from '../providers/resources/subscriptions.ts';
import { KNOWN_TYPES } from '../providers/unmodelled/known-types.ts';

interface Type {
  readonly resourceType: string;
  readonly apiVersions: readonly string[];
  readonly located: boolean;
  readonly tracked: boolean;
  /** It hangs on other resources. */
  readonly extension: boolean;
  /** Kept without knowing it. */
  readonly unmodelled?: true;
}

/** What core.ts answers for, beside the types of the registry. */
const CORE: Readonly<Record<string, { readonly types: readonly string[]; readonly apiVersions: readonly string[] }>> =
  Object.freeze({
    'Microsoft.Resources': {
      types: [
        ...['subscriptions', 'subscriptions/locations', 'subscriptions/providers', 'subscriptions/resourceGroups'],
        ...['subscriptions/resources', 'subscriptions/tagNames', 'subscriptions/tagNames/tagValues'],
        ...['subscriptions/operationresults', 'resourceGroups', 'resources', 'tenants', 'providers'],
      ],
      apiVersions: RESOURCES_API_VERSIONS,
    },
    'Microsoft.Features': { types: ['features', 'providers'], apiVersions: FEATURES_API_VERSIONS },
    'Microsoft.Authorization': { types: ['providerOperations'], apiVersions: PROVIDER_OPERATIONS_API_VERSIONS },
  });

/** Nobody registers these. */
const FREE = ['Microsoft.Resources', 'Microsoft.Features', 'Microsoft.Authorization', 'Kiln.Builds'];

export const isRegistrationFree = (namespace: string): boolean => FREE.some(one => sameText(one, namespace));

/** `strict`: without types that are not modelled; they are refused. */
function typesOf(namespace: string, strict = false): Type[] {
  const types: Type[] = [];
  for (const { definition } of PROVIDERS) {
    const [space, ...rest] = definition.type.split('/');
    if (!sameText(space!, namespace)) continue;
    const { apiVersions, kind } = definition;
    types.push({
      resourceType: rest.join('/'),
      apiVersions,
      located: true,
      tracked: kind === 'tracked',
      extension: false,
    });
  }
  if (!strict) types.push(...unmodelledTypes(namespace, types));
  // Polling and the list of operations: in all versions that any of the types has.
  const versions = [...new Set(types.flatMap(({ apiVersions }) => apiVersions))].sort().reverse();
  if (types.length > 0)
    for (const resourceType of ['locations', 'locations/operations', 'operations'])
      types.push({
        resourceType,
        apiVersions: versions,
        located: resourceType !== 'operations',
        tracked: false,
        extension: false,
      });
  for (const one of LOCATION_READS) {
    const resourceType = locationType(one);
    // A list and what is in it are one type.
    if (sameText(one.namespace, namespace) && !types.some(type => type.resourceType === resourceType))
      types.push({ resourceType, apiVersions: one.apiVersions, located: true, tracked: false, extension: false });
  }
  for (const { namespace: space, name, apiVersions } of SUBSCRIPTION_ACTIONS)
    if (sameText(space, namespace))
      types.push({ resourceType: name, apiVersions, located: false, tracked: false, extension: false });
  for (const { namespace: space, type, apiVersions } of EXTENSIONS)
    if (sameText(space, namespace))
      types.push({ resourceType: type, apiVersions, located: false, tracked: false, extension: true });
  const core = Object.entries(CORE).find(([space]) => sameText(space, namespace))?.[1];
  for (const resourceType of core?.types ?? [])
    types.push({ resourceType, apiVersions: core!.apiVersions, located: false, tracked: false, extension: false });
  return types;
}

function unmodelledTypes(namespace: string, modelled: readonly Type[]): Type[] {
  const known = Object.entries(KNOWN_TYPES).find(([name]) => sameText(name, namespace))?.[1];
  return (known?.types ?? [])
    .filter(type => !modelled.some(({ resourceType }) => sameText(resourceType, type)))
    .map(resourceType => ({
      resourceType,
      apiVersions: known!.apiVersions,
      located: true,
      tracked: !resourceType.includes('/'),
      extension: false,
      unmodelled: true,
    }));
}

/** All api-versions of a namespace, newest first. */
export function namespaceVersions(namespace: string): string[] {
  return [...new Set(typesOf(namespace).flatMap(({ apiVersions }) => apiVersions))].sort().reverse();
}

const DISPLAY_NAMES = REGIONS.map(({ displayName }) => displayName);

/** Of a provider, with all that clients go by: the first api-version that is no preview is the one that `az resource` takes. */
export function resourceTypesOf(namespace: string, strict = false): JsonObject[] {
  return typesOf(namespace, strict).map(({ resourceType, apiVersions, located, tracked, extension, unmodelled }) => ({
    resourceType,
    locations: located ? DISPLAY_NAMES : [],
    apiVersions,
    defaultApiVersion: apiVersions.find(one => !/-[a-z]+$/.test(one)) ?? apiVersions[0],
    capabilities: tracked ? 'SupportsTags, SupportsLocation' : extension ? 'SupportsExtension' : 'None',
    ...(unmodelled && { properties: { kiln: 'Not modelled: kept and shown as it is sent, nothing else happens.' } }),
  }));
}

/** `subscription`: where it is looked at from, with that subscription's properties; left out for the tenant. */
export function providerDocument(
  namespace: string,
  subscription?: { readonly id: string; readonly properties: JsonObject },
  strict = false,
): JsonObject {
  const free = isRegistrationFree(namespace);
  return {
    id: `${subscription?.id ?? ''}/providers/${namespace}`,
    namespace,
    resourceTypes: resourceTypesOf(namespace, strict),
    registrationPolicy: free ? 'RegistrationFree' : 'RegistrationRequired',
    ...(subscription && {
      registrationState: free ? 'Registered' : registrationOf(subscription.properties, namespace),
    }),
  };
}

export function providerDocuments(subscription?: Parameters<typeof providerDocument>[1], strict = false): JsonObject[] {
  return NAMESPACES.map(namespace => providerDocument(namespace, subscription, strict));
}
