/** What the changes of all of Microsoft.Network's types have in common: tags by PATCH, and the operation that an answer names. */
import { KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { requireTags } from '../../arm/tags.ts';
import type { Transacting } from '../../database/connection.ts';
import { recordDone } from '../../engine/done.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange, notFoundError } from '../life.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { putResource, removeResource, type StoredResource } from '../store.ts';

/** The change is made in the transaction; clients of networks expect an operation all the same (contract 2.5). */
export async function operationOf(
  trx: Transacting,
  call: ResourceCall,
  type: string,
  verb: 'write' | 'delete',
  location: string,
): Promise<{ readonly id: string; readonly location: string }> {
  const kind = `${type}/${verb}`;
  const id = await recordDone(trx, { kind, resourceId: idKey(call.id), caller: call.caller.objectId });
  return { id, location };
}

/** Networks and security groups take nothing but tags here. Untrusted body. Errors: InvalidRequestFormat, those of requireTags. */
export async function patchTags(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const other = Object.keys(body).find(name => name.toLowerCase() !== 'tags');
  if (other !== undefined)
    throw new KilnError('InvalidRequestFormat', `Cannot parse the request. PATCH changes tags, not '${other}'.`, {
      target: other,
      hint: 'PUT changes the rest.',
    });
  const tags = requireTags(Object.values(body)[0] ?? {});
  const resource = await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) throw await notFoundError(trx, call.id);
    requireConditions(call.conditions, call.id, existing);
    return await putResource(trx, { ...existing, tags, apiVersion: call.apiVersion });
  });
  return { status: 200, resource };
}

/** The same where what is shown is read together with what belongs to it. */
export function patchTagsOf(read: (call: ResourceCall) => Promise<StoredResource | undefined>) {
  return async (call: ResourceCall, body: JsonObject): Promise<Answer> => {
    const answer = await patchTags(call, body);
    return { ...answer, resource: (await read(call)) ?? answer.resource! };
  };
}

/** DELETE of a resource with all that belongs to it, where `requireUnused` lets it. */
export async function removeUnused(
  call: ResourceCall,
  type: string,
  requireUnused: (trx: Transacting, existing: StoredResource) => Promise<void>,
): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) return { status: 204 };
    requireConditions(call.conditions, call.id, existing);
    await requireUnused(trx, existing);
    await removeResource(trx, existing.id);
    return { status: 202, operation: await operationOf(trx, call, type, 'delete', existing.location!) };
  });
}

/** As Network writes it, in bodies. */
export const weakTag = ({ etag }: Pick<StoredResource, 'etag'>): string => `W/"${etag}"`;
