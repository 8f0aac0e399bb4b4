/** What Kiln publishes is known by its fs-verity digest; rows of an older one have SHA-256. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await sql.raw('alter table run_output add column fsverity text').execute(database);
}
