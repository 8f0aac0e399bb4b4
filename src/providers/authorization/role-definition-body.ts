/** What a PUT of a custom role asks for. */
import { KilnError } from '../../arm/errors.ts';
import { RESOURCE_GROUP_TYPE, SUBSCRIPTION_TYPE, sameText, tryParseId } from '../../arm/ids.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { text } from '../../database/json.ts';
import type { Permission } from '../../database/schema.ts';

/** Azure's own limits. */
const MOST_ACTIONS = 2048;
const LONGEST_NAME = 512;

export interface WantedRole {
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly Permission[];
  readonly assignableScopes: readonly string[];
}

/** Untrusted. Errors: InvalidParameter, InvalidActionOrNotAction. */
export function readRole(body: unknown): WantedRole {
  const given = isObject(body) ? (isObject(body.properties) ? body.properties : body) : {};
  const name = given.roleName;
  if (typeof name !== 'string' || name.trim() === '' || name.length > LONGEST_NAME)
    throw invalid(`The role needs a name of at most ${LONGEST_NAME} characters.`, 'properties.roleName');
  const description = given.description ?? '';
  if (typeof description !== 'string' || description.length > 1024)
    throw invalid('The description is a text of at most 1024 characters.', 'properties.description');
  if (!Array.isArray(given.permissions) || given.permissions.length === 0)
    throw invalid('The role needs permissions.', 'properties.permissions');
  const permissions = given.permissions.map((one: unknown, index): Permission => {
    const path = `properties.permissions[${index}]`;
    if (!isObject(one)) throw invalid('A permission is an object.', path);
    return {
      actions: patterns(one, 'actions', path),
      notActions: patterns(one, 'notActions', path),
      dataActions: patterns(one, 'dataActions', path),
      notDataActions: patterns(one, 'notDataActions', path),
    };
  });
  if (permissions.flatMap(one => [...one.actions, ...one.dataActions]).length === 0)
    throw invalid('The role allows nothing: it has neither actions nor dataActions.', 'properties.permissions');
  if (permissions.flatMap(one => Object.values(one).flat()).length > MOST_ACTIONS)
    throw invalid(`The role has more than ${MOST_ACTIONS} actions.`, 'properties.permissions');
  const scopes = given.assignableScopes;
  if (!Array.isArray(scopes) || scopes.length === 0 || scopes.length > MOST_ACTIONS)
    throw invalid('The role needs assignableScopes.', 'properties.assignableScopes');
  return {
    name: text(name),
    description: text(description),
    permissions,
    assignableScopes: scopes
      .map((scope: unknown, index) => assignableScope(scope, `properties.assignableScopes[${index}]`))
      .filter((scope, index, all) => all.findIndex(one => sameText(one, scope)) === index),
  };
}

/** Azure's rule: built-in roles alone are assignable at the root. */
function assignableScope(scope: unknown, path: string): string {
  if (typeof scope !== 'string') throw invalid('An assignable scope is a text.', path);
  const trimmed = scope.replace(/\/+$/, '');
  const type = tryParseId(trimmed)?.type;
  if (type === SUBSCRIPTION_TYPE || type === RESOURCE_GROUP_TYPE) return trimmed;
  throw invalid(
    `The assignable scope '${scope.slice(0, 200)}' is no subscription and no resource group.`,
    path,
    /[<>]/.test(scope) ? 'Its placeholders were not replaced.' : undefined,
  );
}

function patterns(permission: JsonObject, name: keyof Permission, path: string): string[] {
  const list = permission[name] ?? [];
  if (!Array.isArray(list)) throw invalid(`${name} is a list.`, `${path}.${name}`);
  return list.map((pattern: unknown, index) => {
    if (typeof pattern === 'string' && pattern.length <= 512 && /^(\*|[\w.*-]+(\/[\w.*-]+)+)$/.test(pattern))
      return pattern;
    throw new KilnError(
      'InvalidActionOrNotAction',
      `'${String(pattern).slice(0, 200)}' does not match any of the actions supported by the providers.`,
      {
        target: `${path}.${name}[${index}]`,
        hint: 'Write it like Microsoft.Compute/images/read, Microsoft.Compute/* or */read.',
      },
    );
  });
}

function invalid(message: string, target: string, hint?: string): KilnError {
  return new KilnError('InvalidParameter', message, { target, ...(hint !== undefined && { hint }) });
}
