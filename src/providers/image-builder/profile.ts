/** The machine that builds: size, disk, identities, network. */
import { type Static, Type } from '@sinclair/typebox';
import { isIdOf, parentId, sameId, tryParseId } from '../../arm/ids.ts';
import type { JsonPath } from '../../arm/json-path.ts';
import { int32 } from '../../arm/shape.ts';
import type { Rules } from './rules.ts';

export const IDENTITY_TYPE = 'Microsoft.ManagedIdentity/userAssignedIdentities';
const SUBNET_TYPE = 'Microsoft.Network/virtualNetworks/subnets';

export const VnetConfigSchema = Type.Object(
  {
    subnetId: Type.Optional(Type.String()),
    containerInstanceSubnetId: Type.Optional(Type.String({ since: '2024-02-01' })),
    proxyVmSize: Type.Optional(Type.String({ since: '2021-10-01' })),
  },
  { title: 'VirtualNetworkConfig', since: '2020-02-14' },
);

export const VmProfileSchema = Type.Object(
  {
    vmSize: Type.Optional(Type.String()),
    osDiskSizeGB: Type.Optional(int32({ minimum: 0, since: '2020-02-14' })),
    userAssignedIdentities: Type.Optional(Type.Array(Type.String(), { since: '2021-10-01' })),
    vnetConfig: Type.Optional(VnetConfigSchema),
  },
  { title: 'ImageTemplateVmProfile' },
);

export type VmProfile = Static<typeof VmProfileSchema>;

export function checkProfile(profile: VmProfile, at: JsonPath, rules: Rules): void {
  profile.userAssignedIdentities?.forEach((id, index) => {
    if (id !== undefined && !isIdOf(id, IDENTITY_TYPE))
      rules.bad([...at, 'userAssignedIdentities', index], id, 'It must be the id of a user-assigned identity.');
  });
  const network = profile.vnetConfig;
  if (!network) return;
  const here = [...at, 'vnetConfig'];
  for (const field of ['subnetId', 'containerInstanceSubnetId'] as const) {
    const id = network[field];
    if (id && !isIdOf(id, SUBNET_TYPE))
      rules.bad(
        [...here, field],
        id,
        'It must be the id of a subnet: /subscriptions/…/resourceGroups/…/providers/Microsoft.Network/virtualNetworks/…/subnets/….',
      );
  }
  if (!network.containerInstanceSubnetId) return;
  if (!network.subnetId)
    rules.rule(
      here,
      ['subnetId'],
      "'containerInstanceSubnetId' may be specified only if 'subnetId' is also specified.",
    );
  if (network.proxyVmSize)
    rules.rule(here, [], "'proxyVmSize' must not be specified if 'containerInstanceSubnetId' is specified.");
  const [subnet, container] = [tryParseId(network.subnetId ?? ''), tryParseId(network.containerInstanceSubnetId)];
  const [network1, network2] = [subnet && parentId(subnet), container && parentId(container)];
  if (network1 && network2 && !sameId(network1, network2))
    rules.rule(here, [], "'containerInstanceSubnetId' must be on the same Virtual Network as 'subnetId'.");
  if (subnet && container && sameId(subnet, container))
    rules.rule(here, [], "'containerInstanceSubnetId' must be another subnet than 'subnetId'.");
}
