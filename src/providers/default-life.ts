/** What PUT, PATCH and DELETE do where a type has nothing of its own: at once, in one transaction. */
import { KilnError } from '../arm/errors.ts';
import { formatId } from '../arm/ids.ts';
import type { Resource } from '../arm/resource-type.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import { beginChange, deleteResource, putValidated } from './life.ts';
import type { Answer, ResourceCall, ResourceProvider } from './provider.ts';

export function defaultPut({ definition }: ResourceProvider) {
  return async (call: ResourceCall, body: JsonObject): Promise<Answer> => {
    if (definition.create !== 'at once') throw readOnly('PUT', definition.type);
    const { apiVersion, conditions } = call;
    const { resource, created } = await call.environment.database
      .transaction()
      .execute(trx => putValidated(trx, definition, { id: formatId(call.id), body, apiVersion, conditions }));
    return { status: created ? 201 : 200, resource };
  };
}

/** Tags that are given replace all; properties are merged (RFC 7396); then it is a PUT of the whole. */
export function defaultPatch(provider: ResourceProvider) {
  return async (call: ResourceCall, body: JsonObject): Promise<Answer> => {
    const { definition } = provider;
    if (definition.create !== 'at once') throw readOnly('PATCH', definition.type);
    const { resource } = await call.environment.database.transaction().execute(async trx => {
      const { existing } = await beginChange(trx, call.id);
      if (!existing) throw new KilnError('ResourceNotFound', 'The resource was deleted meanwhile.');
      const { apiVersion, conditions } = call;
      const whole = patched(existing, body);
      return await putValidated(trx, definition, { id: existing.id, body: whole, apiVersion, conditions });
    });
    return { status: 200, resource };
  };
}

export function defaultRemove({ definition }: ResourceProvider) {
  return async (call: ResourceCall): Promise<Answer> => {
    if (definition.delete !== 'at once') throw readOnly('DELETE', definition.type);
    const removed = await call.environment.database
      .transaction()
      .execute(trx => deleteResource(trx, formatId(call.id), call.conditions));
    return { status: removed ? 200 : 204 };
  };
}

/** The whole that a PATCH makes of a resource: what a PUT would have to send. */
export function patched(existing: Resource, body: JsonObject): JsonObject {
  return {
    location: existing.location,
    tags: body.tags ?? existing.tags,
    ...(existing.identity && { identity: existing.identity }),
    properties: merged(existing.properties, body.properties ?? {}),
  };
}

/** JSON merge patch: null removes, objects merge, everything else replaces. */
export function merged(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [key, value] of Object.entries(patch))
    if (value === null) result.delete(key);
    else result.set(key, merged(result.get(key), value));
  return Object.fromEntries(result);
}

function readOnly(verb: string, type: string): KilnError {
  return new KilnError('MethodNotAllowed', `The verb ${verb} is not supported for '${type}'.`);
}
