/**
 * How galleries and image definitions are written: rows, changed in one transaction, and answered as Compute does it, with an operation to poll
 * (`capsOperations`, contract 2.3). It has nothing else to do, so it has ended when the answer is there.
 */
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import { recordDone } from '../../engine/done.ts';
import { patched } from '../default-life.ts';
import { beginChange, deleteResource, putValidated } from '../life.ts';
import type { Answer, ResourceCall, ResourceProvider } from '../provider.ts';
import type { StoredResource } from '../store.ts';

/** `verb` is a part of the operation's kind: `Microsoft.Compute/galleries/write`. */
async function ended(trx: Transacting, call: ResourceCall, type: string, verb: string, location: string) {
  const about = { kind: `${type}/${verb}`, resourceId: idKey(call.id), caller: call.caller.objectId };
  return capsOperation(await recordDone(trx, about), location);
}

/** Where clients poll an operation of the gallery provider. */
export const capsOperation = (id: string, location: string): NonNullable<Answer['operation']> => ({
  id,
  location,
  segment: 'capsOperations',
});

/** What a resource looked like when its change was accepted: the answer to a PUT. */
export const accepted = (resource: StoredResource, provisioningState: 'Creating' | 'Updating'): StoredResource => ({
  ...resource,
  properties: { ...resource.properties, provisioningState },
});

export function capsLife(definition: ResourceType): Pick<ResourceProvider, 'put' | 'patch' | 'remove'> {
  const { type } = definition;
  return {
    async put(call, body) {
      const { apiVersion, conditions } = call;
      return await call.environment.database.transaction().execute(async trx => {
        const request = { id: formatId(call.id), body, apiVersion, conditions };
        const { resource, created } = await putValidated(trx, definition, request);
        return {
          status: created ? 201 : 200,
          resource: accepted(resource, created ? 'Creating' : 'Updating'),
          operation: await ended(trx, call, type, 'write', resource.location!),
        };
      });
    },
    async patch(call, body: JsonObject) {
      const { apiVersion, conditions } = call;
      return await call.environment.database.transaction().execute(async trx => {
        const { existing } = await beginChange(trx, call.id);
        if (!existing) throw new KilnError('ResourceNotFound', 'The resource was deleted meanwhile.');
        const request = { id: existing.id, body: patched(existing, body), apiVersion, conditions };
        const { resource } = await putValidated(trx, definition, request);
        const operation = await ended(trx, call, type, 'write', resource.location!);
        return { status: 200, resource: accepted(resource, 'Updating'), operation };
      });
    },
    async remove(call) {
      return await call.environment.database.transaction().execute(async trx => {
        const { existing } = await beginChange(trx, call.id);
        if (!existing || !(await deleteResource(trx, formatId(call.id), call.conditions))) return { status: 204 };
        return { status: 202, operation: await ended(trx, call, type, 'delete', existing.location!) };
      });
    },
  };
}
