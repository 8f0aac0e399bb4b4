/** A user-assigned identity is a resource and a principal: both are made at once. That the principal goes with the resource, the database sees to. */
import { createPrincipal, principalOfResource } from '../../directory/principals.ts';
import { type PutRequest, type PutResult, putValidated } from '../life.ts';
import type { Store } from '../store.ts';
import { userAssignedIdentities } from './user-assigned-identities.ts';

/** putValidated for identities. Call it in a transaction: half of it is nothing. */
export async function putIdentity(trx: Store, request: PutRequest): Promise<PutResult> {
  if (!trx.isTransaction) throw new TypeError('putIdentity needs a transaction');
  const result = await putValidated(trx, userAssignedIdentities, request);
  const { id, name, properties } = result.resource;
  if (!(await principalOfResource(trx, id)))
    await createPrincipal(trx, {
      displayName: name,
      kind: 'ManagedIdentity',
      objectId: properties.principalId as string,
      clientId: properties.clientId as string,
      resourceId: id,
    });
  return result;
}
