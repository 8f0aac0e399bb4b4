/** Microsoft.Network/virtualNetworks (contract 2.5): an address space, and the subnets in it, which are resources of their own. */
import { Type } from '@sinclair/typebox';
import { formatId, idKey } from '../../arm/ids.ts';
import {
  type Resource,
  type ResourceType,
  type ValidationContext,
  type Violation,
  violationError,
} from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { putValidated } from '../life.ts';
import type { Answer, Call, ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, listResources, type StoredResource } from '../store.ts';
import { readTracked } from '../tracked.ts';
import { MOST_SUBNETS, readPrefixes, spaceViolations, subnetViolations, tooMany } from './address-space.ts';
import { NETWORK_API_VERSIONS } from './api-versions.ts';
import { operationOf, patchTagsOf, removeUnused, weakTag } from './changes.ts';
import { type Child, childrenOf, missing, replaceChildren } from './children.ts';
import type { Range } from './cidr.ts';
import { checkNetworkName, SUBNET_TYPE, twice, VIRTUAL_NETWORK_TYPE } from './names.ts';
import { holdReferences, requireUsable, subnetReferences } from './references.ts';
import { rangesOf, readSubnet } from './subnet-body.ts';
import { shownSubnet } from './subnet-shown.ts';
import { requireUnusedSubnets } from './use.ts';

const NetworkSchema = Type.Object({
  addressSpace: Type.Object({ addressPrefixes: Type.Array(Type.String(), { minItems: 1 }) }),
  dhcpOptions: Type.Optional(Type.Object({ dnsServers: Type.Optional(Type.Array(Type.String())) })),
  flowTimeoutInMinutes: Type.Optional(Type.Integer({ minimum: 4, maximum: 30 })),
  subnets: Type.Optional(Type.Array(Type.Object({ name: Type.String(), properties: Type.Optional(Type.Unknown()) }))),
  enableDdosProtection: Type.Optional(Type.Boolean()),
  enableVmProtection: Type.Optional(Type.Boolean()),
  ddosProtectionPlan: Type.Optional(Type.Object({ id: Type.String() })),
  bgpCommunities: Type.Optional(Type.Object({ virtualNetworkCommunity: Type.String() })),
  encryption: Type.Optional(Type.Object({ enabled: Type.Boolean(), enforcement: Type.Optional(Type.String()) })),
});

interface NetworkBody {
  readonly resource: Omit<Resource, 'id' | 'name' | 'type'>;
  readonly space: readonly Range[];
  /** Missing: those that are there stay. */
  readonly subnets: readonly Child[] | undefined;
  readonly violations: readonly Violation[];
  readonly warnings: readonly string[];
}

type Context = Pick<ValidationContext, 'id' | 'apiVersion' | 'newGuid' | 'existing'>;

function readNetwork(body: unknown, context: Context): NetworkBody {
  const { location, tags, properties, violations, warnings } = readTracked(
    body,
    NetworkSchema,
    'virtualNetwork',
    context as ValidationContext,
  );
  const { addressSpace, subnets, ...rest } = properties ?? {};
  const owner = formatId(context.id);
  const { name } = context.id;
  const space = readPrefixes(
    addressSpace?.addressPrefixes ?? [],
    index => `properties.addressSpace.addressPrefixes[${index}]`,
    owner,
  );
  const crowd = (subnets ?? []).length > MOST_SUBNETS;
  const read = (crowd ? [] : (subnets ?? [])).map((subnet, index) => {
    const at = ['properties', 'subnets', index] as const;
    const path = `properties.subnets[${index}]`;
    const id = `${owner}/subnets/${subnet?.name}`;
    const named = checkNetworkName(String(subnet?.name), `${path}.name`);
    const found = readSubnet(subnet?.properties, [...at, 'properties'], id, context.apiVersion);
    return { name: String(subnet?.name), path, ...found, violations: [...(named ? [named] : []), ...found.violations] };
  });
  const written = [
    ...violations.map((one): Violation => ({ ...one, code: 'InvalidRequestFormat' })),
    ...space.violations,
    ...(crowd ? [tooMany('properties.subnets', subnets!.length, MOST_SUBNETS)] : []),
    ...(violations.length > 0 ? [] : read.flatMap(one => one.violations)),
    ...twice(
      read.map(one => one.name),
      'properties.subnets',
    ),
  ];
  const placed = [...spaceViolations(name, space.ranges), ...subnetViolations(name, space.ranges, read)];
  const before = context.existing?.properties.resourceGuid;
  return {
    resource: {
      location,
      tags,
      properties: {
        provisioningState: 'Succeeded',
        resourceGuid: typeof before === 'string' ? before : context.newGuid(),
        addressSpace,
        ...rest,
        enableDdosProtection: rest.enableDdosProtection ?? false,
      },
    },
    space: space.ranges,
    subnets: subnets && read.map(one => ({ name: one.name, properties: one.properties })),
    // What is no range is in no place either.
    violations: written.length > 0 ? written : placed,
    warnings,
  };
}

const definition: ResourceType = Object.freeze({
  type: VIRTUAL_NETWORK_TYPE,
  apiVersions: NETWORK_API_VERSIONS,
  kind: 'tracked',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidRequestFormat',
  checkName: checkNetworkName,
  validate(body, context) {
    const { resource, violations, warnings } = readNetwork(body, context);
    return { resource, violations, warnings };
  },
} satisfies ResourceType);

/** A network with its subnets, read together. */
interface WithSubnets extends StoredResource {
  readonly subnets?: readonly StoredResource[];
}

/** Errors: those of putValidated, the rules of address-space.ts; InvalidResourceReference, InUseSubnetCannotBeDeleted. */
async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const { environment, apiVersion, conditions } = call;
  const id = formatId(call.id);
  const subnetsOf = (existing?: Resource) =>
    readNetwork(body, { id: call.id, apiVersion, newGuid: () => '', ...(existing && { existing }) });
  const given = subnetsOf();
  const references = (given.subnets ?? []).flatMap(({ properties }, index) =>
    subnetReferences(properties, `properties.subnets[${index}].properties`),
  );
  if (given.violations.length === 0) await requireUsable(call, id, `${VIRTUAL_NETWORK_TYPE}/write`, references);
  return await environment.database.transaction().execute(async trx => {
    const { resource, created } = await putValidated(trx, definition, { id, body, apiVersion, conditions });
    const existing = await listResources(trx, { type: SUBNET_TYPE, parent: resource.id });
    const { location } = resource;
    await holdReferences(trx, { id: resource.id, subscription: call.id.subscription, location }, references);
    if (given.subnets) {
      await requireUnusedSubnets(trx, missing(existing, given.subnets));
      await replaceChildren(trx, resource, 'subnets', existing, given.subnets, apiVersion);
    } else requireRoom(resource, given.space, existing);
    const operation = await operationOf(trx, call, VIRTUAL_NETWORK_TYPE, 'write', location!);
    const subnets = await listResources(trx, { type: SUBNET_TYPE, parent: resource.id });
    return { status: created ? 201 : 200, resource: { ...resource, subnets } as WithSubnets, operation };
  });
}

/** The subnets that stay fit into the new address space. Errors: NetcfgSubnetRangeOutsideVnet. */
function requireRoom(network: Resource, space: readonly Range[], subnets: readonly StoredResource[]): void {
  const path = 'properties.addressSpace';
  const placed = subnets.map(({ name, properties }) => ({ name, ranges: rangesOf(properties), path }));
  const violations = subnetViolations(network.name, space, placed);
  if (violations.length > 0) throw violationError('InvalidRequestFormat', violations);
}

const remove = (call: ResourceCall): Promise<Answer> =>
  removeUnused(call, VIRTUAL_NETWORK_TYPE, async (trx, { id }) =>
    requireUnusedSubnets(trx, await listResources(trx, { type: SUBNET_TYPE, parent: id })),
  );

async function read({ environment: { database }, id }: ResourceCall): Promise<WithSubnets | undefined> {
  const network = await getResource(database, id);
  if (!network) return undefined;
  return { ...network, subnets: await listResources(database, { type: SUBNET_TYPE, parent: network.id }) };
}

async function list({ environment: { database }, scope, window }: ListCall): Promise<readonly WithSubnets[]> {
  const { subscription, resourceGroup } = scope;
  const networks = await listResources(database, {
    type: VIRTUAL_NETWORK_TYPE,
    subscription,
    ...(resourceGroup !== undefined && { resourceGroup }),
    ...window,
  });
  const subnets = await childrenOf(database, networks, SUBNET_TYPE);
  return networks.map(network => ({ ...network, subnets: subnets.get(idKey(network.id)) ?? [] }));
}

export const virtualNetworksProvider: ResourceProvider = Object.freeze({
  definition,
  weakTags: true,
  read,
  list,
  put,
  patch: patchTagsOf(read),
  remove,
  show(resource: Resource | WithSubnets, call: Call): JsonObject {
    const { provisioningState, resourceGuid, addressSpace, ...rest } = resource.properties;
    const subnets = 'subnets' in resource ? (resource.subnets ?? []) : [];
    return {
      location: resource.location,
      tags: resource.tags ?? {},
      ...('etag' in resource && { etag: weakTag(resource) }),
      properties: {
        provisioningState,
        resourceGuid,
        addressSpace: isObject(addressSpace) ? addressSpace : {},
        subnets: subnets.map(subnet => ({
          name: subnet.name,
          id: subnet.id,
          type: subnet.type,
          ...shownSubnet(subnet, call.apiVersion),
        })),
        virtualNetworkPeerings: [],
        ...rest,
      },
    };
  },
} satisfies ResourceProvider);
