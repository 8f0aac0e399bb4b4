/** Keys of storage accounts, and one name for one account. */
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
];
