/** What the front door needs: principals and their secrets, roles, who began an operation, triggers' schedules. */
import { type Kysely, sql } from 'kysely';

export async function up(database: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(database);
}

const STATEMENTS = [
  // A managed identity is a principal as well: its row is made with its resource, and goes with it, however that is removed.
  `create table principal (
    object_id uuid primary key,
    client_id uuid not null unique,
    type text not null check (type in ('ServicePrincipal', 'User')),
    kind text not null check (kind in ('Application', 'ManagedIdentity', 'User')),
    display_name text not null,
    user_name text unique,
    resource_id text unique references resource (id) on delete cascade,
    created_at timestamptz not null default now()
  )`,
  `create table principal_secret (
    id uuid primary key,
    object_id uuid not null references principal (object_id) on delete cascade,
    hash text not null,
    hint text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz
  )`,
  'create index principal_secret_owner on principal_secret (object_id)',

  `create table role_definition (
    id uuid primary key,
    name text not null,
    description text not null default '',
    permissions jsonb not null,
    assignable_scopes jsonb not null,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    created_by text,
    changed_by text
  )`,
  'create unique index role_definition_name on role_definition (lower(name))',

  `create table role_assignment (
    id uuid primary key,
    scope text not null check (scope = lower(scope)),
    display_scope text not null,
    principal_id uuid not null,
    principal_type text not null,
    role_definition_id uuid not null,
    description text,
    created_at timestamptz not null default now(),
    created_by text,
    unique (scope, principal_id, role_definition_id)
  )`,
  'create index role_assignment_principal on role_assignment (principal_id)',
  // Whoever holds roles in memory hears of a change, whoever makes it. The payload is the principal; empty: all.
  `create function roles_changed() returns trigger language plpgsql as $$
    begin
      if tg_table_name = 'role_assignment' then
        perform pg_notify('kiln_roles', coalesce(new.principal_id, old.principal_id)::text);
      else
        perform pg_notify('kiln_roles', '');
      end if;
      return null;
    end $$`,
  `create trigger role_assignment_changed after insert or update or delete on role_assignment
    for each row execute function roles_changed()`,
  `create trigger role_definition_changed after insert or update or delete on role_definition
    for each row execute function roles_changed()`,

  // What is assigned on a resource or below it goes with it: one that is made later under its name starts without.
  `create function resource_removed() returns trigger language plpgsql as $$
    begin
      delete from role_assignment where scope = old.id or starts_with(scope, old.id || '/');
      return null;
    end $$`,
  'create trigger resource_removed after delete on resource for each row execute function resource_removed()',

  // What is assigned to a principal goes with it, and its tokens are refused by every process from then on.
  `create function principal_removed() returns trigger language plpgsql as $$
    begin
      delete from role_assignment where principal_id = old.object_id;
      perform pg_notify('kiln_principal', old.object_id::text);
      return null;
    end $$`,
  'create trigger principal_removed after delete on principal for each row execute function principal_removed()',
  // Identities that were made before there were principals.
  `insert into principal (object_id, client_id, type, kind, display_name, resource_id)
    select (properties->>'principalId')::uuid, (properties->>'clientId')::uuid, 'ServicePrincipal', 'ManagedIdentity', name, id
    from resource where lower(type) = 'microsoft.managedidentity/userassignedidentities'`,

  // Lists compare types without case, and are read page by page in the order of keys.
  'drop index resource_type',
  `create index resource_list on resource (lower(type), subscription, resource_group, id collate "C")`,

  // Who may poll an operation though its resource is gone or not theirs to read; and what a Location URL answers at the end.
  'alter table operation add column caller text',
  'create index operation_ended on operation (ended_at)',

  // What the scheduler knows of a trigger; the trigger itself is a resource.
  `create table trigger_state (
    id text primary key check (id = lower(id)) references resource (id) on delete cascade,
    seen_version text,
    failures integer not null default 0,
    active boolean not null default true,
    checked_at timestamptz,
    fired_at timestamptz,
    last_run_id uuid
  )`,

  // A template shows its newest run, and its outputs.
  'create index run_template on run (template_id, created_at)',
  'create index run_output_template on run_output (template_id)',
];
