/** Machines of failed runs that live on, and who holds them. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await sql
    .raw(
      `alter table run
        add column kept_by uuid,
        add column kept_until timestamptz,
        add column kept_command text`,
    )
    .execute(database);
  await sql.raw('create index run_kept on run (kept_by) where kept_by is not null').execute(database);
}
