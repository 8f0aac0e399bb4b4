/** What a network resource names: it has to be there, in the same region and subscription, and the caller's to use; it stays until the change is made. */
import { KilnError } from '../../arm/errors.ts';
import { idKey, sameText, tryParseId } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { type LinkedAction, requireLinkedAccess } from '../linked-access.ts';
import type { ResourceCall } from '../provider.ts';

export interface Reference {
  readonly path: string;
  readonly id: string;
  readonly type: string;
}

const SUBNET_REFERENCES = Object.freeze({
  networkSecurityGroup: 'Microsoft.Network/networkSecurityGroups',
  routeTable: 'Microsoft.Network/routeTables',
  natGateway: 'Microsoft.Network/natGateways',
});

/** Of a subnet's stored properties. `at`: where they stand in the body. */
export function subnetReferences(properties: JsonObject, at: string): Reference[] {
  return Object.entries(SUBNET_REFERENCES).flatMap(([name, type]) => {
    const value = properties[name];
    return isObject(value) && typeof value.id === 'string' ? [{ path: `${at}.${name}`, id: value.id, type }] : [];
  });
}

/** Errors: InvalidRequestFormat, for an id of something else; LinkedInvalidPropertyId, LinkedAuthorizationFailed. */
export async function requireUsable(
  call: ResourceCall,
  owner: string,
  action: string,
  references: readonly Reference[],
): Promise<void> {
  for (const { id, type, path } of references) {
    const named = tryParseId(id);
    if (named && sameText(named.type, type) && named.resourceGroup !== undefined) continue;
    throw new KilnError(
      'InvalidRequestFormat',
      `Cannot parse the request. Reference Id ${id} is referencing resource of a wrong type. The Id is expected to reference resources of type ${type}. Path ${path}.`,
      { target: path },
    );
  }
  const links = references.map(
    ({ id, type, path }): LinkedAction => ({ path, scope: id, action: `${type}/join/action` }),
  );
  await requireLinkedAccess(call, { action, scope: owner }, links);
}

/** They stay until the transaction ends. Errors: InvalidResourceReference. */
export async function holdReferences(
  trx: Transacting,
  owner: { readonly id: string; readonly subscription: string; readonly location: string | undefined },
  references: readonly Reference[],
): Promise<void> {
  // Always in one order, so that two changes do not wait for each other.
  const sorted = [...references].sort((a, b) => (idKey(a.id) < idKey(b.id) ? -1 : 1));
  for (const { id, path } of sorted) {
    const found = await trx
      .selectFrom('resource')
      .select(['subscription', 'location'])
      .where('id', '=', idKey(id))
      .forKeyShare()
      .executeTakeFirst();
    if (found?.subscription === owner.subscription.toLowerCase() && found.location === owner.location) continue;
    throw new KilnError(
      'InvalidResourceReference',
      `Resource ${id} referenced by resource ${owner.id} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.`,
      { target: path },
    );
  }
}
