/** Microsoft.Authorization/roleAssignments: who has which role where (az-wire 5, contract 2.5). */
import type { Selectable } from 'kysely';
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import { matches, parseFilter, unknownInFilter } from '../../arm/filter.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import type { RoleAssignmentTable } from '../../database/schema.ts';
import type { ExtensionCall } from '../extension.ts';
import type { Answer } from '../provider.ts';
import { builtInRole } from './built-in-roles.ts';
import { covers, scopeKey } from './grants.ts';
import { namedItems } from './named-items.ts';
import { readAssignment, type WantedAssignment } from './role-assignment-body.ts';
import { AUTHORIZATION, GUID, requireScope, roleDefinitionId } from './scope.ts';

type Assignment = Selectable<RoleAssignmentTable>;

const TYPE = `${AUTHORIZATION}/roleAssignments`;

export const roleAssignments = namedItems({
  type: 'roleAssignments',
  apiVersions: Object.freeze([
    ...['2022-04-01', '2020-10-01-preview', '2020-08-01-preview', '2020-04-01-preview', '2020-03-01-preview'],
    ...['2019-04-01-preview', '2018-12-01-preview', '2018-09-01-preview', '2018-07-01', '2018-01-01-preview'],
    ...['2017-10-01-preview', '2016-07-01', '2015-07-01', '2015-06-01'],
  ]),
  list,
  async get(call, name) {
    const found = await find(call, name);
    if (found) return shown(found, call.scope);
    throw new KilnError('RoleAssignmentNotFound', `The role assignment '${name}' is not found.`);
  },
  put,
  remove,
});

/** The one of that name at this scope and no other: rights on a scope are none on another's assignments. */
async function find(call: ExtensionCall, name: string): Promise<Assignment | undefined> {
  if (!GUID.test(name)) return undefined;
  return await call.environment.database
    .selectFrom('role_assignment')
    .selectAll()
    .where('id', '=', name)
    .where('scope', '=', scopeKey(call.scope))
    .executeTakeFirst();
}

/** At the scope, above and below it; `atScope()` leaves out those below. */
async function list(call: ExtensionCall): Promise<JsonObject[]> {
  await requireScope(call.environment.database, call.scope);
  const at = scopeKey(call.scope);
  const given = call.query.get('$filter');
  const filter = given === null ? undefined : parseFilter(given);
  const known = ['atScope()', 'principalId', 'assignedTo()', 'roleDefinitionId'];
  const rows = await call.environment.database.selectFrom('role_assignment').selectAll().orderBy('id').execute();
  return rows
    .filter(row => covers(row.scope, at) || covers(at, row.scope))
    .filter(
      row =>
        filter === undefined ||
        matches(filter, {
          is(field, value) {
            if (field === 'principalid') return row.principal_id === value.toLowerCase();
            if (field === 'roledefinitionid') return row.role_definition_id === value.toLowerCase().split('/').at(-1);
            throw unknownInFilter(field, known);
          },
          call(name, args) {
            if (name === 'atscope') return covers(row.scope, at);
            // There are no groups whose members would have their roles.
            if (name === 'assignedto') return row.principal_id === args[0]?.toLowerCase();
            throw unknownInFilter(`${name}()`, known);
          },
        }),
    )
    .map(row => shown(row, call.scope));
}

async function put(call: ExtensionCall, name: string): Promise<Answer> {
  if (!GUID.test(name))
    throw new KilnError(
      'InvalidRoleAssignmentId',
      `The role assignment ID '${name}' is not valid. The role assignment ID must be a GUID.`,
      { target: 'roleAssignmentName' },
    );
  const wanted = readAssignment(call.body);
  const scope = scopeKey(call.scope);
  try {
    return await call.environment.database.transaction().execute(async trx => {
      await requireScope(trx, call.scope);
      await requireRole(trx, wanted.role, scope);
      const principalType = await principalTypeOf(trx, wanted, call.caller.tenantId);
      const existing = await trx
        .selectFrom('role_assignment')
        .selectAll()
        .where('id', '=', name)
        .forUpdate()
        .executeTakeFirst();
      if (existing) {
        if (
          existing.scope !== scope ||
          existing.principal_id !== wanted.principal ||
          existing.role_definition_id !== wanted.role
        )
          throw new KilnError(
            'RoleAssignmentUpdateNotPermitted',
            'Tenant ID, application ID, principal ID, and scope are not allowed to be updated.',
          );
        const { description } = wanted;
        await trx.updateTable('role_assignment').set({ description }).where('id', '=', name).execute();
        // Older clients take nothing but 201, for a change as well.
        const status = isSince(call.apiVersion, '2022-04-01') ? 200 : 201;
        return { status, body: shown({ ...existing, description }, call.scope) };
      }
      const row = await trx
        .insertInto('role_assignment')
        .values({
          id: name.toLowerCase(),
          scope,
          display_scope: call.scope || '/',
          principal_id: wanted.principal,
          principal_type: principalType,
          role_definition_id: wanted.role,
          description: wanted.description,
          created_by: call.caller.objectId,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      return { status: 201, body: shown(row, call.scope) };
    });
  } catch (error) {
    if ((error as { code?: unknown }).code !== '23505') throw error;
    throw new KilnError('RoleAssignmentExists', 'The role assignment already exists.');
  }
}

/** The role must be there, and assignable on the scope. It stays until the transaction ends. */
async function requireRole(trx: Transacting, role: string, scope: string): Promise<void> {
  if (builtInRole(role)) return;
  const row = await trx.selectFrom('role_definition').selectAll().where('id', '=', role).forShare().executeTakeFirst();
  if (!row)
    throw new KilnError(
      'RoleDefinitionDoesNotExist',
      `The specified role definition with ID '${role.replaceAll('-', '')}' does not exist.`,
    );
  const assignable = row.assignable_scopes as readonly string[];
  if (assignable.some(one => covers(scopeKey(one), scope))) return;
  throw new KilnError(
    'RoleDefinitionDoesNotExist',
    `The specified role definition with ID '${role.replaceAll('-', '')}' does not exist on the scope '${scope}'.`,
    { hint: `Its assignable scopes are ${assignable.join(', ')}.` },
  );
}

/** A principal that is not there is taken when its type is given: so does Azure, for identities that were made a moment ago. */
async function principalTypeOf(
  trx: Transacting,
  { principal, principalType }: WantedAssignment,
  tenant: string,
): Promise<string> {
  const row = await trx.selectFrom('principal').select('type').where('object_id', '=', principal).executeTakeFirst();
  if (row && principalType !== undefined && principalType !== row.type)
    throw new KilnError(
      'UnmatchedPrincipalType',
      `The PrincipalId '${principal.replaceAll('-', '')}' has type '${row.type}', which is different from specified PrincipalType '${principalType}'.`,
      { target: 'properties.principalType' },
    );
  if (row) return row.type;
  if (principalType !== undefined) return principalType;
  throw new KilnError(
    'PrincipalNotFound',
    `Principal ${principal.replaceAll('-', '')} does not exist in the directory ${tenant}.`,
    { target: 'properties.principalId' },
  );
}

async function remove(call: ExtensionCall, name: string): Promise<Answer> {
  const found = await find(call, name);
  if (!found) return { status: 204 };
  const { numDeletedRows } = await call.environment.database
    .deleteFrom('role_assignment')
    .where('id', '=', found.id)
    .executeTakeFirst();
  return numDeletedRows > 0n ? { status: 200, body: shown(found, call.scope) } : { status: 204 };
}

/** In the order of the recordings. `seenFrom`: the scope of the request, in whose subscription the role is named. */
function shown(row: Assignment, seenFrom: string): JsonObject {
  const scope = row.display_scope === '/' ? '' : row.display_scope;
  const at = row.created_at.toISOString();
  return {
    properties: {
      roleDefinitionId: roleDefinitionId(row.role_definition_id, seenFrom || scope),
      principalId: row.principal_id,
      principalType: row.principal_type,
      scope: row.display_scope,
      condition: null,
      conditionVersion: null,
      createdOn: at,
      updatedOn: at,
      createdBy: row.created_by,
      updatedBy: row.created_by,
      delegatedManagedIdentityResourceId: null,
      description: row.description,
    },
    id: `${scope}/providers/${TYPE}/${row.id}`,
    type: TYPE,
    name: row.id,
  };
}
