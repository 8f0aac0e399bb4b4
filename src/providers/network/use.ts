/** Who uses what of a network: image templates their subnets, subnets their security groups. What is used stays. */
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey, sameText } from '../../arm/ids.ts';
import type { Store } from '../store.ts';
import { NETWORK_SECURITY_GROUP_TYPE, SUBNET_TYPE } from './names.ts';

const TEMPLATES = 'microsoft.virtualmachineimages/imagetemplates';

/**
 * Templates that build, or have containers, in a subnet: their ids. One whose creation failed can only be deleted, and uses nothing.
 * `subnets`: keys.
 */
async function templatesIn(store: Store, subnets: readonly string[]): Promise<Map<string, string[]>> {
  const users = new Map<string, string[]>();
  if (subnets.length === 0) return users;
  for (const field of ['subnetId', 'containerInstanceSubnetId']) {
    const key = sql<string>`rtrim(lower(properties #>> ${sql.lit(`{vmProfile,vnetConfig,${field}}`)}), '/')`;
    const rows = await store
      .selectFrom('resource')
      .select(['display_id', key.as('subnet')])
      .where(eb => eb.fn<string>('lower', ['type']), '=', TEMPLATES)
      .where(key, 'in', subnets)
      .where(sql<boolean>`properties ->> 'provisioningState' not in ('Failed', 'Canceled')`)
      .orderBy('id')
      .execute();
    for (const { subnet, display_id } of rows) users.set(subnet, [...(users.get(subnet) ?? []), display_id]);
  }
  return users;
}

/** Errors: InUseSubnetCannotBeDeleted, for the first of them that a template uses. */
export async function requireUnusedSubnets(
  store: Store,
  subnets: readonly { readonly id: string; readonly name: string }[],
): Promise<void> {
  const users = await templatesIn(
    store,
    subnets.map(({ id }) => idKey(id)),
  );
  for (const { id, name } of subnets) {
    const found = users.get(idKey(id));
    if (!found) continue;
    throw new KilnError(
      'InUseSubnetCannotBeDeleted',
      `Subnet ${name} is in use by ${found.slice(0, 5).join(', ')} and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.`,
      { target: id },
    );
  }
}

/** Ids of the subnets that have one of these security groups, by the group's key. */
export async function subnetsWith(store: Store, groups: readonly string[]): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  if (groups.length === 0) return found;
  const key = sql<string>`rtrim(lower(properties #>> '{networkSecurityGroup,id}'), '/')`;
  const rows = await store
    .selectFrom('resource')
    .select(['display_id', key.as('group')])
    .where(eb => eb.fn<string>('lower', ['type']), '=', SUBNET_TYPE.toLowerCase())
    .where(key, 'in', groups)
    .orderBy('id')
    .execute();
  for (const { group, display_id } of rows) found.set(group, [...(found.get(group) ?? []), display_id]);
  return found;
}

/** Errors: InUseNetworkSecurityGroupCannotBeDeleted. */
export async function requireUnusedGroup(store: Store, group: string): Promise<void> {
  const subnets = (await subnetsWith(store, [idKey(group)])).get(idKey(group)) ?? [];
  if (subnets.length === 0) return;
  throw new KilnError(
    'InUseNetworkSecurityGroupCannotBeDeleted',
    `Network security group ${group} cannot be deleted because it is in use by the following resources: ${subnets.slice(0, 5).join(', ')}. In order to delete the Network security group, remove the association with the resource(s). To learn how to do this, see aka.ms/deletensg.`,
    { target: group },
  );
}

/**
 * For the deletion of a resource group: what is outside of it and uses a subnet or a security group in it. Errors: Conflict.
 * `group`: the key of the resource group.
 */
export async function requireUnusedOutside(store: Store, group: string, name: string): Promise<void> {
  const inside = await store
    .selectFrom('resource')
    .select(['id', 'type'])
    .where(sql<boolean>`starts_with(id, ${`${group}/`})`)
    .where(eb => eb.fn<string>('lower', ['type']), 'in', [
      SUBNET_TYPE.toLowerCase(),
      NETWORK_SECURITY_GROUP_TYPE.toLowerCase(),
    ])
    .execute();
  const keys = (type: string) => inside.filter(one => sameText(one.type, type)).map(({ id }) => id);
  const users = [
    ...(await templatesIn(store, keys(SUBNET_TYPE))),
    ...(await subnetsWith(store, keys(NETWORK_SECURITY_GROUP_TYPE))),
  ];
  for (const [used, ids] of users) {
    const outside = ids.find(id => !idKey(id).startsWith(`${group}/`));
    if (outside === undefined) continue;
    throw new KilnError('Conflict', `The resource group '${name}' cannot be deleted: ${outside} uses ${used}.`, {
      target: used,
      hint: 'Delete that first, or let it use something else.',
    });
  }
}
