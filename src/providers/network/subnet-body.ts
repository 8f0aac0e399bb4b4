/** What stands in `properties` of a subnet, on its own or in the body of its network: read, checked, its defaults filled in. Pure. */
import { type Static, Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { isObject, type JsonObject, oneOf, shape } from '../../arm/shape.ts';
import { readPrefixes } from './address-space.ts';
import { ENDPOINT_POLICIES_OFF_SINCE } from './api-versions.ts';
import type { Range } from './cidr.ts';
import { checkNetworkName, twice, unreadable } from './names.ts';

const Reference = Type.Object({ id: Type.String() });
const References = Type.Array(Reference);

const SubnetSchema = Type.Object({
  addressPrefix: Type.Optional(Type.String()),
  addressPrefixes: Type.Optional(Type.Array(Type.String())),
  networkSecurityGroup: Type.Optional(Reference),
  routeTable: Type.Optional(Reference),
  natGateway: Type.Optional(Reference),
  serviceEndpoints: Type.Optional(
    Type.Array(
      Type.Object({ service: Type.Optional(Type.String()), locations: Type.Optional(Type.Array(Type.String())) }),
    ),
  ),
  serviceEndpointPolicies: Type.Optional(References),
  ipAllocations: Type.Optional(References),
  delegations: Type.Optional(
    Type.Array(
      Type.Object({ name: Type.String(), properties: Type.Optional(Type.Object({ serviceName: Type.String() })) }),
    ),
  ),
  privateEndpointNetworkPolicies: Type.Optional(
    oneOf(['Enabled', 'Disabled', 'NetworkSecurityGroupEnabled', 'RouteTableEnabled']),
  ),
  privateLinkServiceNetworkPolicies: Type.Optional(oneOf(['Enabled', 'Disabled'])),
  sharingScope: Type.Optional(oneOf(['Tenant', 'DelegatedServices'])),
  defaultOutboundAccess: Type.Optional(Type.Boolean()),
});

export interface SubnetBody {
  /** As they are stored. */
  readonly properties: JsonObject;
  readonly ranges: readonly Range[];
  readonly violations: readonly Violation[];
}

/** Untrusted `properties`. `id`: of the subnet. */
export function readSubnet(given: unknown, at: JsonPath, id: string, apiVersion: string): SubnetBody {
  const { value, findings } = shape(SubnetSchema, given ?? {}, { apiVersion, caseSensitive: false }, at);
  const bad = unreadable(findings);
  if (bad.length > 0) return { properties: {}, ranges: [], violations: bad };
  const { addressPrefix, addressPrefixes, delegations = [], ...rest } = value as Static<typeof SubnetSchema>;
  const prefixes = addressPrefixes ?? (addressPrefix === undefined ? [] : [addressPrefix]);
  const { ranges, violations } = readPrefixes(
    prefixes,
    index => formatPath([...at, ...(addressPrefixes ? ['addressPrefixes', index] : ['addressPrefix'])]),
    id,
  );
  const empty: Violation[] =
    prefixes.length > 0
      ? []
      : [
          {
            path: formatPath([...at, 'addressPrefix']),
            code: 'AddressPrefixStringCannotBeNullOrEmpty',
            message: `Address prefix string for resource ${id} cannot be null or empty.`,
          },
        ];
  const services = delegations.flatMap(({ name, properties }, index): Violation[] => {
    const path = formatPath([...at, 'delegations', index]);
    const serviceName = properties?.serviceName ?? '';
    const named = checkNetworkName(name, `${path}.name`);
    if (named) return [named];
    if (/^[\w.]+\/[\w.]+(\/[\w.]+)*$/.test(serviceName)) return [];
    const message = `Cannot parse the request. '${path}.properties.serviceName' is no service: '${serviceName}'.`;
    return [
      { path, code: 'InvalidRequestFormat', message, hint: 'Such as Microsoft.ContainerInstance/containerGroups.' },
    ];
  });
  const names = twice(
    delegations.map(({ name }) => name),
    formatPath([...at, 'delegations']),
  );
  return {
    properties: {
      provisioningState: 'Succeeded',
      ...(addressPrefixes ? { addressPrefixes } : { addressPrefix }),
      ...rest,
      delegations: delegations.map(({ name, properties }) => ({ name, serviceName: properties?.serviceName })),
      privateEndpointNetworkPolicies:
        rest.privateEndpointNetworkPolicies ??
        (isSince(apiVersion, ENDPOINT_POLICIES_OFF_SINCE) ? 'Disabled' : 'Enabled'),
      privateLinkServiceNetworkPolicies: rest.privateLinkServiceNetworkPolicies ?? 'Enabled',
    },
    ranges,
    violations: [...empty, ...violations, ...services, ...names],
  };
}

/** Of a stored subnet. */
export function rangesOf(properties: JsonObject): readonly Range[] {
  const { addressPrefix, addressPrefixes } = properties;
  const prefixes = (Array.isArray(addressPrefixes) ? addressPrefixes : [addressPrefix]).map(String);
  return readPrefixes(prefixes, () => '', '').ranges;
}

/** The services that a stored subnet is delegated to. */
export function delegatedTo(properties: JsonObject): string[] {
  const { delegations } = properties;
  return (Array.isArray(delegations) ? delegations : []).flatMap(one =>
    isObject(one) && typeof one.serviceName === 'string' ? [one.serviceName] : [],
  );
}
