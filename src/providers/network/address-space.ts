/** What addresses a virtual network and its subnets may have (Azure's codes: Netcfg…). Pure. */
import type { Violation } from '../../arm/resource-type.ts';
import { contains, formatCidr, overlap, parseCidr, type Range } from './cidr.ts';

/** Prefixes as they were written; `resource` is the id that a complaint names. */
export function readPrefixes(
  prefixes: readonly (string | undefined)[],
  path: (index: number) => string,
  resource: string,
): { readonly ranges: readonly Range[]; readonly violations: readonly Violation[] } {
  const ranges: Range[] = [];
  const violations: Violation[] = [];
  prefixes.forEach((text, index) => {
    if (text === undefined) return;
    const found = parseCidr(text);
    if (!found)
      violations.push({
        path: path(index),
        code: 'InvalidAddressPrefixFormat',
        message: `Address prefix ${text} of resource ${resource} is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.`,
      });
    else if (!found.exact)
      violations.push({
        path: path(index),
        code: 'InvalidCIDRNotation',
        message: `The address prefix ${text} in resource ${resource} has an invalid CIDR notation. For the given prefix length, the address prefix should be ${formatCidr(found.range)}.`,
      });
    else ranges.push(found.range);
  });
  return { ranges, violations };
}

/** Of no virtual network: multicast, broadcast, loopback, link-local, Azure's own DNS. */
const RESERVED = ['224.0.0.0/4', '255.255.255.255/32', '127.0.0.0/8', '169.254.0.0/16', '168.63.129.16/32'].map(
  text => parseCidr(text)!.range,
);

export function spaceViolations(network: string, space: readonly Range[]): Violation[] {
  const path = 'properties.addressSpace.addressPrefixes';
  const reserved = space.filter(range => RESERVED.some(one => overlap(one, range)));
  if (reserved.length > 0)
    return reserved.map(range => ({
      path,
      code: 'NetcfgInvalidIPAddressPrefix',
      message: `The address prefix ${formatCidr(range)} of virtual network '${network}' is not valid.`,
      hint: 'It has addresses of multicast, loopback, link-local, or 168.63.129.16.',
    }));
  const [a, b] = firstOverlap(space) ?? [];
  if (!a || !b) return [];
  return [
    {
      path,
      code: 'NetcfgInvalidVirtualNetworkSite',
      message: `The address prefixes ${formatCidr(a)} and ${formatCidr(b)} of virtual network '${network}' overlap.`,
    },
  ];
}

export interface Placed {
  readonly name: string;
  readonly ranges: readonly Range[];
  /** Where a complaint about it points to. */
  readonly path: string;
}

/** Whether the first of the subnets fits: into the network, and beside the others. */
export function subnetViolations(
  network: string,
  space: readonly Range[],
  subnet: Placed,
  others: readonly Placed[],
): Violation[] {
  const bad = (code: Violation['code'], message: string, hint?: string): Violation[] => [
    { path: subnet.path, message, ...(code && { code }), ...(hint !== undefined && { hint }) },
  ];
  const outside = subnet.ranges.some(range => !space.some(one => contains(one, range)));
  if (outside)
    return bad(
      'NetcfgSubnetRangeOutsideVnet',
      `Subnet '${subnet.name}' is not valid because its IP address range is outside the IP address range of virtual network '${network}'.`,
    );
  const small = subnet.ranges.some(({ family, length }) => (family === 4 ? length > 29 : length !== 64));
  if (small || firstOverlap(subnet.ranges))
    return bad(
      'NetcfgInvalidSubnet',
      `Subnet '${subnet.name}' is not valid in virtual network '${network}'.`,
      small ? 'An IPv4 range has at least 8 addresses (/29), an IPv6 range is a /64.' : 'Its own ranges overlap.',
    );
  if (others.some(other => other.ranges.some(a => subnet.ranges.some(b => overlap(a, b)))))
    return bad(
      'NetcfgSubnetRangesOverlap',
      `Subnet '${subnet.name}' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '${network}'.`,
    );
  return [];
}

function firstOverlap(ranges: readonly Range[]): readonly [Range, Range] | undefined {
  const sorted = [...ranges].sort((a, b) => a.family - b.family || (a.first < b.first ? -1 : 1));
  const at = sorted.findIndex((range, index) => index > 0 && overlap(sorted[index - 1]!, range));
  return at === -1 ? undefined : [sorted[at - 1]!, sorted[at]!];
}
