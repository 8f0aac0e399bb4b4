/** What the changes of all of Microsoft.Network's types have in common: tags by PATCH, and the operation that an answer names. */
import { KilnError } from '../../arm/errors.ts';
import { idKey } from '../../arm/ids.ts';
import { violationError } from '../../arm/resource-type.ts';
import { type JsonObject, shape, stringMap } from '../../arm/shape.ts';
import { brokenTags } from '../../arm/tags.ts';
import type { Transacting } from '../../database/connection.ts';
import { recordDone } from '../../engine/done.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange, notFoundError } from '../life.ts';
import type { Answer, ResourceCall } from '../provider.ts';
import { putResource, type StoredResource } from '../store.ts';
import { unreadable } from './names.ts';

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

/** Networks and security groups take nothing but tags here. Untrusted body. */
export async function patchTags(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const other = Object.keys(body).find(name => name.toLowerCase() !== 'tags');
  if (other !== undefined)
    throw new KilnError('InvalidRequestFormat', `Cannot parse the request. PATCH changes tags, not '${other}'.`, {
      target: other,
      hint: 'PUT changes the rest.',
    });
  const given = Object.values(body)[0] ?? {};
  const { value: tags, findings } = shape(stringMap(), given, { apiVersion: '', caseSensitive: true }, ['tags']);
  const bad = unreadable(findings);
  const broken = bad.length > 0 ? [] : brokenTags(tags);
  const violations = [
    ...bad,
    ...broken.map(({ name, reason }) => ({ path: name === undefined ? 'tags' : `tags.${name}`, message: reason })),
  ];
  if (violations.length > 0) throw violationError('InvalidRequestFormat', violations);
  const resource = await call.environment.database.transaction().execute(async trx => {
    const { existing } = await beginChange(trx, call.id);
    if (!existing) throw await notFoundError(trx, call.id);
    requireConditions(call.conditions, call.id, existing);
    return await putResource(trx, { ...existing, tags, apiVersion: call.apiVersion });
  });
  return { status: 200, resource };
}

/** As Network writes it, in bodies. */
export const weakTag = ({ etag }: Pick<StoredResource, 'etag'>): string => `W/"${etag}"`;
