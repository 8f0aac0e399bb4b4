/**
 * What runs leave in the storage account of their template's staging group, as blobs (contract 3.4): logs in the container `packerlogs`, a folder for each
 * run, and VHDs in the container `vhds`.
 */
import type { Kysely } from 'kysely';
import { sql } from 'kysely';
import { idKey, parseId, resourceGroupId, sameId } from '../../arm/ids.ts';
import type { Schema } from '../../database/schema.ts';
import { storageAccounts } from '../storage/storage-accounts.ts';
import { getResource, type StoredResource } from '../store.ts';
import { stagingOf } from './staging.ts';
import { TEMPLATE_TYPE } from './validate.ts';

export const LOG_CONTAINER = 'packerlogs';
export const LOG_NAMES = Object.freeze(['customization.log', 'validation.log'] as const);

/** Path-style, without the host: a run may end in a process that does not know what clients call the server. */
export function logLocation(
  template: StoredResource | undefined,
  runId: string,
  name: (typeof LOG_NAMES)[number] = 'customization.log',
): string | undefined {
  const staging = template && stagingOf(template);
  return staging && `/${staging.account}/${LOG_CONTAINER}/${runId}/${name}`;
}

const LOCATION = new RegExp(`(Image Build log location: )(/[a-z0-9]{3,24}/${LOG_CONTAINER}/)`);

/** The message of a failed run with the whole URL in it. What follows the sentence may come from a guest and is left alone. */
export function withLogUrl(message: string, origin: string): string {
  return message.replace(LOCATION, (_text, before: string, path: string) => `${before}${origin}${path}`);
}

export const VHD_CONTAINER = 'vhds';

/** Where clients fetch a VHD, path-style; undefined when the template has no staging account, as with `kiln build`. */
export function vhdLocation(
  template: StoredResource | undefined,
  output: { readonly name: string; readonly run_id: string },
): string | undefined {
  const staging = template && stagingOf(template);
  return staging && `/${staging.account}/${VHD_CONTAINER}/${output.run_id}/${output.name}.vhd`;
}

/** The file of a VHD, as its run left it; undefined when it is none of this account's. Both names are untrusted. */
export async function stagedVhd(
  database: Kysely<Schema>,
  { template }: LogAccount,
  runId: string,
  file: string,
): Promise<{ readonly path: string; readonly created_at: Date } | undefined> {
  if (!file.endsWith('.vhd')) return undefined;
  const row = await database
    .selectFrom('run_output')
    .select(['path', 'created_at'])
    .where('template_id', '=', idKey(template.id))
    .where('run_id', '=', runId)
    .where('name', '=', file.slice(0, -'.vhd'.length))
    .where('artifact_uri', 'is not', null)
    .executeTakeFirst();
  return row?.path ? { path: row.path, created_at: row.created_at } : undefined;
}

export interface LogAccount {
  /** Of the storage account. */
  readonly id: string;
  readonly template: StoredResource;
}

/** The account with this name (untrusted), if it is one of a template's. */
export async function findLogAccount(database: Kysely<Schema>, name: string): Promise<LogAccount | undefined> {
  const rows = await database
    .selectFrom('resource')
    .select('display_id')
    .where(({ fn }) => fn<string>('lower', ['type']), '=', storageAccounts.type.toLowerCase())
    .where('name', '=', name.toLowerCase())
    .execute();
  for (const { display_id: id } of rows) {
    const { subscription, resourceGroup } = parseId(id);
    const group = resourceGroupId(subscription, resourceGroup!);
    // A staging group is in its template's subscription, and one template's.
    const owners = await database
      .selectFrom('resource')
      .select('id')
      .where(({ fn }) => fn<string>('lower', ['type']), '=', TEMPLATE_TYPE.toLowerCase())
      .where('subscription', '=', subscription.toLowerCase())
      .where(sql<boolean>`properties -> 'staging' ->> 'account' = ${name.toLowerCase()}`)
      .execute();
    for (const owner of owners) {
      const template = await getResource(database, owner.id);
      const staging = template && stagingOf(template);
      if (staging && sameId(staging.group, group)) return { id, template };
    }
  }
  return undefined;
}

export interface LoggedRun {
  readonly id: string;
  readonly created_at: Date;
}

/** In the order of their ids. Runs of a deleted template with the same name are not this one's. */
export async function loggedRuns(
  database: Kysely<Schema>,
  { template }: LogAccount,
  options: { readonly id?: string; readonly from?: string } = {},
): Promise<LoggedRun[]> {
  const { id, from } = options;
  return await database
    .selectFrom('run')
    .select(['id', 'created_at'])
    .where('template_id', '=', idKey(template.id))
    .where('created_at', '>=', template.createdAt)
    .$if(id !== undefined, query => query.where('id', '=', id!))
    .$if(from !== undefined, query => query.where(sql<boolean>`id::text >= ${from!}`))
    .orderBy(sql`id::text`)
    .execute();
}
