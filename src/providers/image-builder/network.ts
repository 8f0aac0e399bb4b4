/**
 * The subnets that a template names (contract 1.3, 2.5, 3.2): there, in the template's region and subscription, and fit for what the service would put into
 * them. Asked when a template is provisioned or changed, and before each run. Kiln puts nothing into them: a build's machine has a network namespace of its own.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey, parentId, parseId, sameText } from '../../arm/ids.ts';
import { notFoundError } from '../life.ts';
import { delegatedTo } from '../network/subnet-body.ts';
import { getResource, type Store, type StoredResource } from '../store.ts';
import type { VmProfile } from './profile.ts';

export const CONTAINER_GROUPS = 'Microsoft.ContainerInstance/containerGroups';
const AT = 'properties.vmProfile.vnetConfig';

/**
 * In a transaction the subnets stay until it ends. Errors: ResourceNotFound; ValidationFailed, PrivateLinkServiceCannotBeCreatedIn…, SubnetMissingRequiredDelegation.
 */
export async function requireNetwork(
  store: Store,
  template: Pick<StoredResource, 'id' | 'name' | 'location'>,
  profile: VmProfile | undefined,
): Promise<void> {
  const { subnetId, containerInstanceSubnetId } = profile?.vnetConfig ?? {};
  if (!subnetId) return;
  const subnet = await requireSubnet(store, template, subnetId, `${AT}.subnetId`);
  const [delegation] = delegatedTo(subnet.properties);
  if (delegation !== undefined)
    throw new KilnError(
      'ValidationFailed',
      `The subnet '${subnet.id}' is delegated to '${delegation}': no virtual machine can be in it.`,
      { target: `${AT}.subnetId`, hint: 'Name a subnet without delegations.' },
    );
  if (containerInstanceSubnetId) {
    const containers = await requireSubnet(
      store,
      template,
      containerInstanceSubnetId,
      `${AT}.containerInstanceSubnetId`,
    );
    if (delegatedTo(containers.properties).some(service => sameText(service, CONTAINER_GROUPS))) return;
    throw new KilnError(
      'SubnetMissingRequiredDelegation',
      `Subnet missing required delegation 'Microsoft.ContainerInstance' for the container groups of image template '${template.name}': '${containers.id}' has to be delegated to '${CONTAINER_GROUPS}'.`,
      {
        target: `${AT}.containerInstanceSubnetId`,
        hint: `az network vnet subnet update --ids ${containers.id} --delegations ${CONTAINER_GROUPS}`,
      },
    );
  }
  // Builds that are not isolated reach their machine through a private link service in the subnet.
  if (subnet.properties.privateLinkServiceNetworkPolicies !== 'Disabled')
    throw new KilnError(
      'PrivateLinkServiceCannotBeCreatedInSubnetThatHasNetworkPoliciesEnabled',
      `Private link service cannot be created in a subnet ${subnet.id} since it has private link service network policies enabled.`,
      {
        target: `${AT}.subnetId`,
        hint: `az network vnet subnet update --ids ${subnet.id} --disable-private-link-service-network-policies true`,
      },
    );
}

async function requireSubnet(
  store: Store,
  template: Pick<StoredResource, 'id' | 'location'>,
  text: string,
  target: string,
): Promise<StoredResource> {
  const id = parseId(text, target);
  if (!sameText(id.subscription, parseId(template.id).subscription))
    throw new KilnError(
      'ValidationFailed',
      `The subnet '${text}' is in another subscription than the image template.`,
      { target },
    );
  if (store.isTransaction)
    await store.selectFrom('resource').select('id').where('id', '=', idKey(id)).forKeyShare().execute();
  const subnet = await getResource(store, id);
  const network = await getResource(store, parentId(id)!);
  if (!subnet || !network) {
    const { message, code } = await notFoundError(store, network ? id : parentId(id)!);
    throw new KilnError(code, message, { target, hint: `The image template names the subnet ${formatId(id)}.` });
  }
  if (network.location !== template.location)
    throw new KilnError(
      'ValidationFailed',
      `The virtual network '${network.id}' is in location '${network.location}', but the image template is in '${template.location}'.`,
      { target, hint: 'An image template builds in a virtual network of its own region.' },
    );
  return subnet;
}
