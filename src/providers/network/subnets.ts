/** Microsoft.Network/virtualNetworks/subnets (contract 2.5): where image templates build. */
import { formatId, parentId } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange, putValidated } from '../life.ts';
import type { Answer, Call, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, removeResource, type StoredResource } from '../store.ts';
import { MOST_SUBNETS, oneSubnetViolations, readPrefixes, tooMany } from './address-space.ts';
import { NETWORK_API_VERSIONS } from './api-versions.ts';
import { operationOf } from './changes.ts';
import { touch } from './children.ts';
import { checkNetworkName, SUBNET_TYPE } from './names.ts';
import { holdReferences, requireUsable, subnetReferences } from './references.ts';
import { rangesOf, readSubnet } from './subnet-body.ts';
import { shownSubnet } from './subnet-shown.ts';
import { requireUnusedSubnets } from './use.ts';

const propertiesOf = (body: unknown): unknown => (isObject(body) ? body.properties : undefined);

const definition: ResourceType = Object.freeze({
  type: SUBNET_TYPE,
  apiVersions: NETWORK_API_VERSIONS,
  kind: 'proxy',
  parent: 'Microsoft.Network/virtualNetworks',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidRequestFormat',
  checkName: checkNetworkName,
  validate(body, { id, apiVersion, parent, siblings }) {
    const read = readSubnet(propertiesOf(body), ['properties'], formatId(id), apiVersion);
    const network = parent?.name ?? '';
    const { addressSpace } = parent?.properties ?? {};
    const prefixes =
      isObject(addressSpace) && Array.isArray(addressSpace.addressPrefixes) ? addressSpace.addressPrefixes : [];
    const space = readPrefixes(prefixes.map(String), () => '', '').ranges;
    const placed = (one: { readonly name: string; readonly properties: JsonObject }) => ({
      name: one.name,
      ranges: rangesOf(one.properties),
      path: 'properties',
    });
    const subnet = { name: id.name, ranges: read.ranges, path: 'properties.addressPrefix' };
    const crowd = siblings.length >= MOST_SUBNETS;
    const placedHere = oneSubnetViolations(network, space, subnet, siblings.map(placed));
    const violations = [
      ...(crowd ? [tooMany('properties.subnets', siblings.length + 1, MOST_SUBNETS)] : []),
      ...(read.violations.length > 0 ? read.violations : placedHere),
    ];
    return { resource: { properties: read.properties }, violations, warnings: [] };
  },
} satisfies ResourceType);

/** Errors: those of putValidated, the rules of address-space.ts; InvalidResourceReference, LinkedAuthorizationFailed. */
async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const { environment, apiVersion, conditions } = call;
  const id = formatId(call.id);
  const given = readSubnet(body.properties, ['properties'], id, apiVersion);
  const references = subnetReferences(given.properties, 'properties');
  if (given.violations.length === 0) await requireUsable(call, id, `${SUBNET_TYPE}/write`, references);
  return await environment.database.transaction().execute(async trx => {
    const { resource, created } = await putValidated(trx, definition, { id, body, apiVersion, conditions });
    const network = (await getResource(trx, parentId(call.id)!))!;
    const { location } = network;
    await holdReferences(trx, { id: resource.id, subscription: call.id.subscription, location }, references);
    await touch(trx, network.id);
    const operation = await operationOf(trx, call, SUBNET_TYPE, 'write', location!);
    return { status: created ? 201 : 200, resource, operation };
  });
}

async function remove(call: ResourceCall): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    const { existing, parent } = await beginChange(trx, call.id);
    if (!existing || !parent) return { status: 204 };
    requireConditions(call.conditions, call.id, existing);
    await requireUnusedSubnets(trx, [existing]);
    await removeResource(trx, existing.id);
    await touch(trx, parent.id);
    const operation = await operationOf(trx, call, SUBNET_TYPE, 'delete', parent.location!);
    return { status: 202, operation };
  });
}

export const subnetsProvider: ResourceProvider = Object.freeze({
  definition,
  weakTags: true,
  put,
  remove,
  show: (resource, call: Call): JsonObject => shownSubnet(resource as StoredResource, call.apiVersion),
} satisfies ResourceProvider);
