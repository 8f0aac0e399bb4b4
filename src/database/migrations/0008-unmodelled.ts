/** Resources of types that Kiln does not know, which it keeps as they were sent. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  // Marks the row, and holds the members of the body that have no column of their own: plan, zones.
  'alter table resource add column unmodelled jsonb',
  'create index resource_unmodelled on resource (lower(type), resource_group) where unmodelled is not null',
];
