/** Containers and blobs of storage accounts: their rows; the bytes are files below the state directory's `blobs`. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  // Lists go by the bytes of names.
  `create table blob_container (
    id bigint generated always as identity primary key,
    account text not null check (account = lower(account)),
    name text collate "C" not null,
    etag text not null,
    metadata jsonb not null,
    policies jsonb not null,
    lease jsonb,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    unique (account, name)
  )`,
  `create table blob (
    id bigint generated always as identity primary key,
    container_id bigint not null references blob_container (id) on delete cascade,
    name text collate "C" not null,
    type text not null check (type in ('BlockBlob', 'PageBlob', 'AppendBlob')),
    size bigint not null check (size >= 0),
    etag text not null,
    headers jsonb not null,
    metadata jsonb not null,
    tags jsonb not null,
    sequence_number bigint not null default 0,
    tier text,
    lease jsonb,
    copy jsonb,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now(),
    unique (container_id, name)
  )`,
  `create table blob_extent (
    blob_id bigint not null references blob (id) on delete cascade,
    start bigint not null check (start >= 0),
    length bigint not null check (length > 0),
    file text not null,
    file_offset bigint not null,
    block_id text,
    primary key (blob_id, start)
  )`,
  'create index blob_extent_file on blob_extent (file)',
  `create table blob_block (
    container_id bigint not null references blob_container (id) on delete cascade,
    name text collate "C" not null,
    block_id text not null,
    file text not null,
    size bigint not null,
    staged_at timestamptz not null default now(),
    primary key (container_id, name, block_id)
  )`,
  'create index blob_block_file on blob_block (file)',
  'create index blob_block_age on blob_block (staged_at)',

  // A file that a row named is written down here in the transaction that takes the row away, however that is done; who removes files looks whether another row
  // still names it. The update takes the row's lock, so that nobody strikes a file off while its last row goes.
  `create table blob_garbage (
    file text primary key,
    since timestamptz not null default now()
  )`,
  `create function blob_file_left() returns trigger language plpgsql as $$
    begin
      insert into blob_garbage (file) values (old.file) on conflict (file) do update set since = now();
      return null;
    end $$`,
  'create trigger blob_file_left after delete on blob_extent for each row execute function blob_file_left()',
  'create trigger blob_file_left after delete on blob_block for each row execute function blob_file_left()',
  `create trigger blob_file_changed after update of file on blob_block
    for each row when (old.file is distinct from new.file) execute function blob_file_left()`,

  `create table blob_service (
    account text primary key check (account = lower(account)),
    properties jsonb not null
  )`,
];
