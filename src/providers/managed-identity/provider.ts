/** Microsoft.ManagedIdentity/userAssignedIdentities through the API. */
import { formatId } from '../../arm/ids.ts';
import type { ResourceProvider } from '../provider.ts';
import { putIdentity } from './identity-principal.ts';
import { userAssignedIdentities } from './user-assigned-identities.ts';

export const userAssignedIdentitiesProvider: ResourceProvider = Object.freeze({
  definition: userAssignedIdentities,
  groupSegment: 'resourcegroups',
  async put(call, body) {
    const { apiVersion, conditions } = call;
    const { resource, created } = await call.environment.database
      .transaction()
      .execute(trx => putIdentity(trx, { id: formatId(call.id), body, apiVersion, conditions }));
    const location = resource.id.replace('/resourceGroups/', '/resourcegroups/');
    // Recorded: the id itself, relative. It is nothing to poll; the resource is complete.
    return { status: created ? 201 : 200, resource, headers: created ? { location } : {} };
  },
} satisfies ResourceProvider);
