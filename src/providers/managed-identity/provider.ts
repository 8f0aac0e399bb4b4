/** Microsoft.ManagedIdentity/userAssignedIdentities through the API. */
import { formatId } from '../../arm/ids.ts';
import { deleteResource } from '../life.ts';
import type { ResourceProvider } from '../provider.ts';
import { listResources, lockResource } from '../store.ts';
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
    // Recorded: the id itself, relative. It is nothing to poll, the resource is complete; but clients that do get it, and need the api-version.
    const headers = created ? { location: `${location}?api-version=${apiVersion}` } : {};
    return { status: created ? 201 : 200, resource, headers };
  },
  /** With the credentials below it, as in Azure. Its principal and roles go with the row, and its tokens with the principal. */
  async remove({ environment, id, conditions }) {
    const removed = await environment.database.transaction().execute(async trx => {
      await lockResource(trx, id);
      for (const below of await listResources(trx, { parent: id })) await deleteResource(trx, below.id);
      return await deleteResource(trx, formatId(id), conditions);
    });
    return { status: removed ? 200 : 204 };
  },
} satisfies ResourceProvider);
