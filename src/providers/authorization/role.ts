/** A role as data. */
import type { Permission } from '../../database/schema.ts';

export interface RoleDefinition {
  /** A GUID in lower case. */
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly Permission[];
}

export function roleOf(id: string, name: string, description: string, permission: Partial<Permission>): RoleDefinition {
  const whole = { actions: [], notActions: [], dataActions: [], notDataActions: [], ...permission };
  return Object.freeze({ id, name, description, permissions: [whole] });
}
