/** Certificates by which applications sign in instead of a secret. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  await sql
    .raw(
      `create table principal_certificate (
        object_id uuid not null references principal (object_id) on delete cascade,
        thumbprint text not null,
        sha256 text not null,
        subject text not null,
        certificate text not null,
        not_before timestamptz not null,
        not_after timestamptz not null,
        created_at timestamptz not null default now(),
        primary key (object_id, thumbprint)
      )`,
    )
    .execute(database);
}
