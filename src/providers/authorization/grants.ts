/** What a principal's role assignments allow, read from their rows. */
import type { Kysely } from 'kysely';
import type { Permission, Schema } from '../../database/schema.ts';
import { type CompiledPermissions, compilePermissions } from './actions.ts';
import { BUILT_IN_ROLES } from './built-in-roles.ts';

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
  const rows = GUID.test(principalId)
    ? await database
        .selectFrom('role_assignment')
        .leftJoin('role_definition', 'role_definition.id', 'role_assignment.role_definition_id')
        .select(['role_assignment.scope', 'role_assignment.role_definition_id', 'role_definition.permissions'])
        .where('role_assignment.principal_id', '=', principalId)
        .execute()
    : [];
  return grantsOf(
    rows.flatMap(({ scope, role_definition_id: role, permissions }) => {
      const compiled = BUILT_IN.get(role) ?? (permissions && compilePermissions(permissions as readonly Permission[]));
      // A role that is gone allows nothing.
      return compiled ? [{ scope, permissions: compiled }] : [];
    }),
  );
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
