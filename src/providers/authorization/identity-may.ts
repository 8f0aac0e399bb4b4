/** What a template's identity may do. Asked now and then, so it is never kept in memory. */
import type { Kysely } from 'kysely';
import type { Schema } from '../../database/schema.ts';
import { readGrants } from './grants.ts';

/** Whether an identity's roles, as they are now, allow an action on a scope: for what a template does with its identity. */
export async function identityMay(
  database: Kysely<Schema>,
  principalId: string,
  action: string,
  scope: string,
): Promise<boolean> {
  return (await readGrants(database, principalId)).may(action, scope);
}
