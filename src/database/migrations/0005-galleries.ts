/** How far the replicas of image versions are: those that are not complete. One that is complete has no row, but files. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await sql
    .raw(
      `create table image_replica (
        version_id text not null references resource (id) on delete cascade,
        region text not null,
        state text not null check (state in ('Replicating', 'Failed')),
        progress integer not null default 0 check (progress between 0 and 100),
        details text not null default '',
        primary key (version_id, region)
      )`,
    )
    .execute(database);
}
