/** What addresses a virtual network and its subnets may have (Azure's codes: Netcfg…). Pure. */
import type { Violation } from '../../arm/resource-type.ts';
import { contains, formatCidr, overlap, parseCidr, type Range } from './cidr.ts';

/** As in Azure. */
export const MOST_SUBNETS = 3000;
const MOST_PREFIXES = 1000;

/** Prefixes as they were written; `resource` is the id that a complaint names. */
export function readPrefixes(
  prefixes: readonly (string | undefined)[],
  path: (index: number) => string,
  resource: string,
): { readonly ranges: readonly Range[]; readonly violations: readonly Violation[] } {
  const ranges: Range[] = [];
  const violations: Violation[] = [];
  if (prefixes.length > MOST_PREFIXES)
    return { ranges, violations: [tooMany(path(0), prefixes.length, MOST_PREFIXES)] };
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

export const tooMany = (path: string, count: number, most: number): Violation => ({
  path,
  code: 'InvalidRequestFormat',
  message: `Cannot parse the request. '${path.replace(/\[0\]$/, '')}' has ${count} items; there can be ${most}.`,
});

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

/** All subnets of a network: each has its place in it, and none that of another. In the order of the list. */
export function subnetViolations(network: string, space: readonly Range[], subnets: readonly Placed[]): Violation[] {
  const meeting = meetingSubnets(subnets);
  return subnets.flatMap((subnet, index) => {
    const [found] = placeViolations(network, space, subnet);
    return found ? [found] : meeting.has(index) ? [overlapping(network, subnet)] : [];
  });
}

/** One subnet, beside those that are there. */
export function oneSubnetViolations(
  network: string,
  space: readonly Range[],
  subnet: Placed,
  others: readonly Placed[],
): Violation[] {
  const found = placeViolations(network, space, subnet);
  if (found.length > 0) return found;
  const meets = others.some(other => other.ranges.some(a => subnet.ranges.some(b => overlap(a, b))));
  return meets ? [overlapping(network, subnet)] : [];
}

/** Outside of the network, too small, or at odds with itself. */
function placeViolations(network: string, space: readonly Range[], { name, ranges, path }: Placed): Violation[] {
  if (ranges.some(range => !space.some(one => contains(one, range))))
    return [
      {
        path,
        code: 'NetcfgSubnetRangeOutsideVnet',
        message: `Subnet '${name}' is not valid because its IP address range is outside the IP address range of virtual network '${network}'.`,
      },
    ];
  const small = ranges.some(({ family, length }) => (family === 4 ? length > 29 : length !== 64));
  if (!small && !firstOverlap(ranges)) return [];
  return [
    {
      path,
      code: 'NetcfgInvalidSubnet',
      message: `Subnet '${name}' is not valid in virtual network '${network}'.`,
      hint: small ? 'An IPv4 range has at least 8 addresses (/29), an IPv6 range is a /64.' : 'Its own ranges overlap.',
    },
  ];
}

const overlapping = (network: string, { name, path }: Placed): Violation => ({
  path,
  code: 'NetcfgSubnetRangesOverlap',
  message: `Subnet '${name}' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '${network}'.`,
});

/** Of two that overlap, the one that comes later in the list. Ranges are gone through once, in the order of their addresses: the list is a caller's. */
function meetingSubnets(subnets: readonly Placed[]): Set<number> {
  const ranges = subnets.flatMap((subnet, owner) => subnet.ranges.map(range => ({ range, owner })));
  ranges.sort((a, b) => a.range.family - b.range.family || (a.range.first < b.range.first ? -1 : 1));
  const meeting = new Set<number>();
  let widest: (typeof ranges)[number] | undefined;
  for (const one of ranges) {
    if (widest && widest.owner !== one.owner && overlap(widest.range, one.range))
      meeting.add(Math.max(widest.owner, one.owner));
    if (!widest || widest.range.family !== one.range.family || one.range.last > widest.range.last) widest = one;
  }
  return meeting;
}

function firstOverlap(ranges: readonly Range[]): readonly [Range, Range] | undefined {
  const sorted = [...ranges].sort((a, b) => a.family - b.family || (a.first < b.first ? -1 : 1));
  const at = sorted.findIndex((range, index) => index > 0 && overlap(sorted[index - 1]!, range));
  return at === -1 ? undefined : [sorted[at - 1]!, sorted[at]!];
}
