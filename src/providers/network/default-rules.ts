/** The six rules that every network security group has. */
import type { JsonObject } from '../../arm/shape.ts';

type Row = readonly [
  name: string,
  description: string,
  direction: 'Inbound' | 'Outbound',
  priority: number,
  access: 'Allow' | 'Deny',
  source: string,
  destination: string,
];

const VNET = 'VirtualNetwork';
const BALANCER = 'AzureLoadBalancer';

const ROWS: readonly Row[] = Object.freeze([
  ['AllowVnetInBound', 'Allow inbound traffic from all VMs in VNET', 'Inbound', 65_000, 'Allow', VNET, VNET],
  [
    'AllowAzureLoadBalancerInBound',
    'Allow inbound traffic from azure load balancer',
    'Inbound',
    65_001,
    'Allow',
    BALANCER,
    '*',
  ],
  ['DenyAllInBound', 'Deny all inbound traffic', 'Inbound', 65_500, 'Deny', '*', '*'],
  [
    'AllowVnetOutBound',
    'Allow outbound traffic from all VMs to all VMs in VNET',
    'Outbound',
    65_000,
    'Allow',
    VNET,
    VNET,
  ],
  [
    'AllowInternetOutBound',
    'Allow outbound traffic from all VMs to Internet',
    'Outbound',
    65_001,
    'Allow',
    '*',
    'Internet',
  ],
  ['DenyAllOutBound', 'Deny all outbound traffic', 'Outbound', 65_500, 'Deny', '*', '*'],
] as const);

/** @param group id of the network security group */
export function defaultRules(group: string): JsonObject[] {
  return ROWS.map(([name, description, direction, priority, access, source, destination]) => ({
    name,
    id: `${group}/defaultSecurityRules/${name}`,
    type: 'Microsoft.Network/networkSecurityGroups/defaultSecurityRules',
    properties: {
      provisioningState: 'Succeeded',
      description,
      protocol: '*',
      sourcePortRange: '*',
      destinationPortRange: '*',
      sourceAddressPrefix: source,
      destinationAddressPrefix: destination,
      access,
      priority,
      direction,
    },
  }));
}
