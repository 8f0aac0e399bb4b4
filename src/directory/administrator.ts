/** The first principal: without it nobody could sign in to make others. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sql } from 'kysely';
import { LOCAL_TENANT } from '../arm/ids.ts';
import { OWNER } from '../arm/role-ids.ts';
import type { Database } from '../database/connection.ts';
import { writePrivate } from '../disks/private-file.ts';
import type { Home } from '../home.ts';
import { addSecret, createPrincipal } from './principals.ts';

/** What a client signs in with; the form of `az ad sp create-for-rbac`, which other tools read. */
export interface Credentials {
  readonly displayName: string;
  /** Client id. */
  readonly appId: string;
  readonly password: string;
  readonly tenant: string;
}

export const administratorFile = (home: Home): string => join(home.root, 'admin.json');

/**
 * Makes an owner of everything, where nobody is one, and writes its credentials to {@link administratorFile}. Whether it did. Once they are kept elsewhere the
 * file may be removed: no other is written as long as somebody is owner.
 */
export async function ensureAdministrator(home: Home, database: Database): Promise<boolean> {
  return await database.kysely.transaction().execute(async trx => {
    // Two servers at once: one makes it.
    await sql`lock table principal in share row exclusive mode`.execute(trx);
    const owner = await trx
      .selectFrom('role_assignment')
      .innerJoin('principal', 'principal.object_id', 'role_assignment.principal_id')
      .select('principal.object_id')
      .where('role_assignment.scope', '=', '/')
      .where('role_assignment.role_definition_id', '=', OWNER)
      .executeTakeFirst();
    if (owner) return false;
    const displayName = 'administrator';
    const principal = await createPrincipal(trx, { displayName, kind: 'Application' });
    const { secret } = await addSecret(trx, principal.object_id);
    await trx
      .insertInto('role_assignment')
      .values({
        id: randomUUID(),
        scope: '/',
        display_scope: '/',
        principal_id: principal.object_id,
        principal_type: principal.type,
        role_definition_id: OWNER,
      })
      .execute();
    const credentials: Credentials = {
      displayName,
      appId: principal.client_id,
      password: secret,
      tenant: LOCAL_TENANT,
    };
    // Before the commit: a file without its principal is replaced at the next start, a principal without its secret would be of no use.
    await writePrivate(administratorFile(home), `${JSON.stringify(credentials, null, 2)}\n`);
    return true;
  });
}
