/** Resources, operations, runs with their phases, log lines and outputs, and the workers. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  `create table resource (
    id text primary key check (id = lower(id)),
    display_id text not null,
    type text not null,
    name text not null,
    subscription text,
    resource_group text,
    parent_id text references resource (id) on delete cascade,
    location text,
    tags jsonb,
    identity jsonb,
    sku jsonb,
    kind text,
    properties jsonb not null,
    api_version text,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    etag text not null default gen_random_uuid()
  )`,
  'create index resource_type on resource (type, subscription, resource_group)',
  'create index resource_parent on resource (parent_id)',

  `create table operation (
    id uuid primary key,
    kind text not null,
    resource_id text,
    status text not null default 'NotStarted'
      check (status in ('NotStarted', 'Running', 'Succeeded', 'Failed', 'Canceled')),
    queue text not null,
    input jsonb not null,
    output jsonb,
    error jsonb,
    worker uuid,
    cancel_requested boolean not null default false,
    attempt integer not null default 0,
    timeout_seconds integer,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    check ((ended_at is not null) = (status in ('Succeeded', 'Failed', 'Canceled')))
  )`,
  "create index operation_open on operation (queue) where status in ('NotStarted', 'Running')",
  'create index operation_resource on operation (resource_id, created_at)',

  `create table run (
    id uuid primary key,
    operation_id uuid not null references operation (id),
    template_id text not null,
    template_name text not null,
    state text not null default 'Running'
      check (state in ('Running', 'Canceling', 'Succeeded', 'PartiallySucceeded', 'Failed', 'Canceled')),
    sub_state text,
    message text,
    error jsonb,
    machine jsonb,
    plan jsonb,
    correlation_id text,
    worker uuid,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz
  )`,
  // The second of two runs of one template is refused by this, whoever asks and however fast.
  "create unique index run_one_active on run (template_id) where state in ('Running', 'Canceling')",
  'create index run_operation on run (operation_id)',
  'create index run_created on run (created_at)',

  `create table phase (
    run_id uuid not null references run (id) on delete cascade,
    index integer not null,
    kind text not null,
    name text not null,
    state text not null default 'Pending'
      check (state in ('Pending', 'Running', 'Succeeded', 'Failed', 'Canceled', 'Skipped')),
    key text,
    cached boolean not null default false,
    bytes bigint,
    detail jsonb,
    error jsonb,
    started_at timestamptz,
    ended_at timestamptz,
    primary key (run_id, index)
  )`,

  `create table log_line (
    run_id uuid not null references run (id) on delete cascade,
    seq bigint not null,
    at timestamptz not null default now(),
    phase integer,
    stream text not null,
    text text not null,
    primary key (run_id, seq)
  )`,

  `create table run_output (
    id text primary key check (id = lower(id)),
    display_id text not null,
    template_id text not null,
    name text not null,
    run_id uuid not null references run (id) on delete cascade,
    artifact_id text,
    artifact_uri text,
    location text not null,
    path text,
    sha256 text,
    bytes bigint,
    virtual_size bigint,
    created_at timestamptz not null default now()
  )`,
  'create index run_output_run on run_output (run_id)',

  `create table worker (
    id uuid primary key,
    host text not null,
    boot_id text not null,
    pid integer not null,
    process text not null,
    started_at timestamptz not null default now(),
    ended_at timestamptz
  )`,
  'create index worker_open on worker (host) where ended_at is null',
];
