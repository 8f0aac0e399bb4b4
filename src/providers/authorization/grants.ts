/** What a principal's role assignments allow, read from their rows. */
import type { Kysely } from 'kysely';
import type { Permission, Schema } from '../../database/schema.ts';
import { type CompiledPermissions, compilePermissions } from './actions.ts';
import { BUILT_IN_ROLES, builtInRole } from './built-in-roles.ts';

export interface Grants {
  /** By assignments on the scope or above it. */
  may(action: string, scope: string): boolean;
  /** The same for the data plane: the content of blobs. */
  mayData(action: string, scope: string): boolean;
  /** Scopes, in lower case, of the assignments by which something can be read; `/` for everything. */
  readonly scopes: readonly string[];
}

interface Grant {
  readonly scope: string;
  readonly permissions: CompiledPermissions;
}

const BUILT_IN = new Map(BUILT_IN_ROLES.map(({ id, permissions }) => [id, compilePermissions(permissions)]));
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export async function readGrants(database: Kysely<Schema>, principalId: string): Promise<Grants> {
  const rows = await assignedTo(database, principalId);
  return grantsOf(
    rows.flatMap(({ scope, role, permissions }) => {
      const compiled = BUILT_IN.get(role) ?? (permissions && compilePermissions(permissions));
      // A role that is gone allows nothing.
      return compiled ? [{ scope, permissions: compiled }] : [];
    }),
  );
}

/** What a principal's roles on a scope and above it say, each as it was written. */
export async function readPermissions(
  database: Kysely<Schema>,
  principalId: string,
  scope: string,
): Promise<readonly Permission[]> {
  const at = scopeKey(scope);
  const rows = (await assignedTo(database, principalId)).filter(row => covers(row.scope, at));
  const roles = new Map(rows.map(({ role, permissions }) => [role, permissions]));
  return [...roles].flatMap(([role, permissions]) => builtInRole(role)?.permissions ?? permissions ?? []);
}

interface AssignedRole {
  readonly scope: string;
  readonly role: string;
  /** Of a custom role that is there. */
  readonly permissions: readonly Permission[] | null;
}

async function assignedTo(database: Kysely<Schema>, principalId: string): Promise<readonly AssignedRole[]> {
  if (!GUID.test(principalId)) return [];
  const rows = await database
    .selectFrom('role_assignment')
    .leftJoin('role_definition', 'role_definition.id', 'role_assignment.role_definition_id')
    .select(['role_assignment.scope', 'role_assignment.role_definition_id as role', 'role_definition.permissions'])
    .where('role_assignment.principal_id', '=', principalId)
    .execute();
  return rows as AssignedRole[];
}

function grantsOf(grants: readonly Grant[]): Grants {
  const allowed = (kind: 'control' | 'data', action: string, scope: string): boolean => {
    const lower = action.toLowerCase();
    const at = scopeKey(scope);
    return grants.some(grant => covers(grant.scope, at) && grant.permissions[kind](lower));
  };
  return {
    may: (action, scope) => allowed('control', action, scope),
    mayData: (action, scope) => allowed('data', action, scope),
    scopes: [...new Set(grants.filter(({ permissions }) => permissions.reads).map(({ scope }) => scope))],
  };
}

/** How rows hold a scope: in lower case, without a slash at its end; the tenant is `/`. */
export function scopeKey(scope: string): string {
  return scope.toLowerCase().replace(/\/+$/, '') || '/';
}

/** Whether `scope` is `outer` or lies in it, by whole segments. Both as scopeKey writes them. */
export function covers(outer: string, scope: string): boolean {
  return outer === '/' || scope === outer || scope.startsWith(`${outer}/`);
}
