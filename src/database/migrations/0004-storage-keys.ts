/** Keys of storage accounts, one name for one account, and the end of what lies in an account that is deleted. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  // Encrypted: what the wrapping key is, and where it lies, says providers/storage/wrapping-key.ts. `delegation` is what keys for users are made from.
  `create table storage_key (
    account_id text not null check (account_id = lower(account_id)) references resource (id) on delete cascade,
    name text not null check (name in ('key1', 'key2', 'delegation')),
    sealed bytea not null,
    wrapped_by text not null,
    created_at timestamptz not null default now(),
    primary key (account_id, name)
  )`,
  // Accounts are found by their names alone, in all subscriptions.
  `create unique index resource_storage_account on resource (lower(name)) where lower(type) = 'microsoft.storage/storageaccounts'`,

  // Whose staging account it is, every request for a blob asks.
  `create index resource_staging_account on resource ((properties -> 'staging' ->> 'account'))
    where properties -> 'staging' ->> 'account' is not null`,

  // Who may read without a key: nobody, when it is null.
  `alter table blob_container add column public_access text check (public_access in ('blob', 'container'))`,

  // What lies in an account goes with it, however that is removed: alone, with its group, with its template.
  `create function storage_account_removed() returns trigger language plpgsql as $$
    begin
      delete from blob_container where account = lower(old.name);
      delete from blob_service where account = lower(old.name);
      return null;
    end $$`,
  `create trigger storage_account_removed after delete on resource
    for each row when (lower(old.type) = 'microsoft.storage/storageaccounts') execute function storage_account_removed()`,
];
