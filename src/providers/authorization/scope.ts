/** Where a role is assigned or defined, as a request names it. */
import { KilnError } from '../../arm/errors.ts';
import { type ResourceId, tryParseId } from '../../arm/ids.ts';
import { notFoundError } from '../life.ts';
import { findSubscription } from '../resources/subscriptions.ts';
import { getResource, type Store } from '../store.ts';

export const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
export const AUTHORIZATION = 'Microsoft.Authorization';

/** `/` or an id. A resource need not be one that Kiln has: networks have roles, too. Errors: InvalidParameter, SubscriptionNotFound, ResourceGroupNotFound. */
export async function requireScope(store: Store, scope: string): Promise<void> {
  if (scope === '') return;
  const id = parseScope(scope);
  if (!(await findSubscription(store, id.subscription)))
    throw new KilnError('SubscriptionNotFound', `The subscription '${id.subscription}' could not be found.`);
  if (id.resourceGroup === undefined) return;
  const group = {
    ...id,
    type: 'Microsoft.Resources/resourceGroups',
    names: [id.resourceGroup],
    name: id.resourceGroup,
  };
  if (!(await getResource(store, group))) throw await notFoundError(store, group);
}

export function parseScope(scope: string): ResourceId {
  const id = tryParseId(scope);
  if (id) return id;
  throw new KilnError('InvalidParameter', `The scope '${scope}' is no subscription, resource group or resource.`, {
    target: 'scope',
  });
}

/** The id of a role as it is shown where it is looked at from: in that subscription. */
export function roleDefinitionId(role: string, seenFrom: string): string {
  const subscription = tryParseId(seenFrom)?.subscription;
  return `${subscription === undefined ? '' : `/subscriptions/${subscription}`}/providers/${AUTHORIZATION}/roleDefinitions/${role}`;
}
