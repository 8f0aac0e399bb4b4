/** Management locks: what must not be deleted, or not be changed, until somebody takes the lock away. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  `create table management_lock (
    id text primary key check (id = lower(id)),
    scope text not null check (scope = lower(scope)),
    display_scope text not null,
    name text not null,
    level text not null check (level in ('CanNotDelete', 'ReadOnly')),
    notes text,
    owners jsonb,
    created_at timestamptz not null default now(),
    created_by text,
    changed_at timestamptz not null default now(),
    changed_by text
  )`,
  'create index management_lock_scope on management_lock (scope)',
  // Of a resource that is gone after all, as when its parent was removed: one that is made later under its name starts without.
  `create function management_locks_removed() returns trigger language plpgsql as $$
    begin
      delete from management_lock where scope = old.id or starts_with(scope, old.id || '/');
      return null;
    end $$`,
  'create trigger management_locks_removed after delete on resource for each row execute function management_locks_removed()',
];
