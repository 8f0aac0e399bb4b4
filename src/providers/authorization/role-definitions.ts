/** Microsoft.Authorization/roleDefinitions: the built-in roles, and those that users make (az-wire 5, contract 2.5). */
import type { Selectable } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { matches, parseFilter, unknownInFilter } from '../../arm/filter.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { json } from '../../database/json.ts';
import type { RoleDefinitionTable } from '../../database/schema.ts';
import type { ExtensionCall } from '../extension.ts';
import type { Answer } from '../provider.ts';
import { BUILT_IN_ROLES, builtInRole, type RoleDefinition } from './built-in-roles.ts';
import { covers, scopeKey } from './grants.ts';
import { namedItems } from './named-items.ts';
import { authorizationFailed } from './open-roles.ts';
import { readRole } from './role-definition-body.ts';
import { AUTHORIZATION, GUID, requireScope, roleDefinitionId } from './scope.ts';

type CustomRole = Selectable<RoleDefinitionTable>;

const TYPE = `${AUTHORIZATION}/roleDefinitions`;

export const roleDefinitions = namedItems({
  type: 'roleDefinitions',
  apiVersions: Object.freeze([
    ...[
      '2022-05-01-preview',
      '2022-04-01',
      '2018-07-01',
      '2018-01-01-preview',
      '2016-07-01',
      '2015-07-01',
      '2015-06-01',
    ],
  ]),
  list,
  async get(call, name) {
    const builtIn = builtInRole(name);
    if (builtIn) return shownBuiltIn(builtIn, call.scope);
    const custom = await find(call, name);
    if (custom) return shownCustom(custom, call.scope);
    throw doesNotExist(name);
  },
  put,
  remove,
});

async function find(call: ExtensionCall, name: string): Promise<CustomRole | undefined> {
  if (!GUID.test(name)) return undefined;
  const { database } = call.environment;
  const row = await database.selectFrom('role_definition').selectAll().where('id', '=', name).executeTakeFirst();
  return row && isNear(row, scopeKey(call.scope)) ? row : undefined;
}

/** A role is shown where it can be assigned, and above that. */
function isNear(row: CustomRole, at: string): boolean {
  return row.assignable_scopes.some(scope => covers(scopeKey(scope), at) || covers(at, scopeKey(scope)));
}

async function list(call: ExtensionCall): Promise<JsonObject[]> {
  await requireScope(call.environment.database, call.scope);
  const at = scopeKey(call.scope);
  const given = call.query.get('$filter');
  const filter = given === null ? undefined : parseFilter(given);
  const custom = await call.environment.database.selectFrom('role_definition').selectAll().orderBy('name').execute();
  const all = [
    ...BUILT_IN_ROLES.map(role => ({
      name: role.name,
      type: 'BuiltInRole',
      assignable: true,
      body: shownBuiltIn(role, call.scope),
    })),
    ...custom
      .filter(row => isNear(row, at))
      .map(row => ({
        name: row.name,
        type: 'CustomRole',
        assignable: row.assignable_scopes.some(scope => covers(scopeKey(scope), at)),
        body: shownCustom(row, call.scope),
      })),
  ];
  const known = ['roleName', 'type', 'atScope()', 'atScopeAndBelow()'];
  const wanted = all.filter(
    role =>
      filter === undefined ||
      matches(filter, {
        is(field, value) {
          if (field === 'rolename') return role.name.toLowerCase() === value.toLowerCase();
          if (field === 'type') return role.type.toLowerCase() === value.toLowerCase();
          throw unknownInFilter(field, known);
        },
        call(name) {
          if (name === 'atscopeandbelow') return true;
          if (name === 'atscope') return role.assignable;
          throw unknownInFilter(`${name}()`, known);
        },
      }),
  );
  return wanted.map(({ body }) => body);
}

/** 201 for a change as well: az takes nothing else. */
async function put(call: ExtensionCall, name: string): Promise<Answer> {
  if (!GUID.test(name)) throw invalid(`The role definition ID '${name}' is not valid. It must be a GUID.`, 'name');
  if (builtInRole(name)) throw new KilnError('Conflict', 'A built-in role cannot be changed.', { target: name });
  const wanted = readRole(call.body);
  if (BUILT_IN_ROLES.some(one => one.name.toLowerCase() === wanted.name.toLowerCase())) throw sameName();
  const { database } = call.environment;
  const known = await database.selectFrom('role_definition').selectAll().where('id', '=', name).executeTakeFirst();
  await requireRights(call, [...wanted.assignableScopes, ...(known?.assignable_scopes ?? [])]);
  for (const scope of wanted.assignableScopes) await requireScope(database, scope);
  const now = new Date();
  const content = {
    name: wanted.name,
    description: wanted.description,
    permissions: json(wanted.permissions),
    assignable_scopes: json(wanted.assignableScopes),
    changed_at: now,
    changed_by: call.caller.objectId,
  };
  try {
    const row = await database
      .insertInto('role_definition')
      .values({ id: name.toLowerCase(), created_at: now, created_by: call.caller.objectId, ...content })
      // Only what was looked at: rights on its scopes were checked.
      .onConflict(conflict =>
        conflict
          .column('id')
          .doUpdateSet(content)
          .where('role_definition.changed_at', '=', known?.changed_at ?? now),
      )
      .returningAll()
      .executeTakeFirst();
    if (row) return { status: 201, body: shownCustom(row, call.scope) };
  } catch (error) {
    if ((error as { code?: unknown }).code !== '23505') throw error;
    throw sameName();
  }
  throw new KilnError('Conflict', 'Somebody else has just changed the role.', { target: name, hint: 'Try again.' });
}

function sameName(): KilnError {
  return new KilnError(
    'RoleDefinitionWithSameNameExists',
    'A custom role with the same name already exists in this directory. Use a different name.',
    { target: 'properties.roleName' },
  );
}

/** Who may define roles in one group must not define them for another: each scope counts. Errors: AuthorizationFailed. */
async function requireRights(call: ExtensionCall, scopes: readonly string[], verb = 'write'): Promise<void> {
  const action = `${TYPE}/${verb}`;
  for (const scope of new Set(scopes))
    if (!(await call.may(action, scope))) throw authorizationFailed(call.caller, action, scope);
}

async function remove(call: ExtensionCall, name: string): Promise<Answer> {
  if (builtInRole(name)) throw new KilnError('Conflict', 'A built-in role cannot be deleted.', { target: name });
  const found = await find(call, name);
  if (!found) return { status: 204 };
  await requireRights(call, found.assignable_scopes, 'delete');
  await call.environment.database.transaction().execute(async trx => {
    await trx.selectFrom('role_definition').select('id').where('id', '=', found.id).forUpdate().execute();
    const { assigned } = await trx
      .selectFrom('role_assignment')
      .select(eb => eb.fn.countAll<number>().as('assigned'))
      .where('role_definition_id', '=', found.id)
      .executeTakeFirstOrThrow();
    if (Number(assigned) > 0)
      throw new KilnError(
        'RoleDefinitionHasAssignments',
        `There are existing role assignments referencing role (code: RoleDefinitionHasAssignments).`,
        {
          target: found.name,
          hint: `Delete its role assignments first: ${assigned} in all.`,
        },
      );
    await trx.deleteFrom('role_definition').where('id', '=', found.id).execute();
  });
  return { status: 200, body: shownCustom(found, call.scope) };
}

function shownBuiltIn({ id, name, description, permissions }: RoleDefinition, seenFrom: string): JsonObject {
  return {
    properties: {
      roleName: name,
      type: 'BuiltInRole',
      description,
      assignableScopes: ['/'],
      permissions,
      createdOn: BUILT_IN_SINCE,
      updatedOn: BUILT_IN_SINCE,
      createdBy: null,
      updatedBy: null,
    },
    id: roleDefinitionId(id, seenFrom),
    type: TYPE,
    name: id,
  };
}

/** The day on which Azure's own began. */
const BUILT_IN_SINCE = '2015-02-02T21:55:09.8806423Z';

function shownCustom(row: CustomRole, seenFrom: string): JsonObject {
  return {
    properties: {
      roleName: row.name,
      type: 'CustomRole',
      description: row.description,
      assignableScopes: row.assignable_scopes,
      permissions: row.permissions,
      createdOn: row.created_at.toISOString(),
      updatedOn: row.changed_at.toISOString(),
      createdBy: row.created_by,
      updatedBy: row.changed_by,
    },
    id: roleDefinitionId(row.id, seenFrom || row.assignable_scopes[0]!),
    type: TYPE,
    name: row.id,
  };
}

function invalid(message: string, target: string, hint?: string): KilnError {
  return new KilnError('InvalidParameter', message, { target, ...(hint !== undefined && { hint }) });
}

function doesNotExist(name: string): KilnError {
  return new KilnError(
    'RoleDefinitionDoesNotExist',
    `The specified role definition with ID '${name.replaceAll('-', '')}' does not exist.`,
  );
}
