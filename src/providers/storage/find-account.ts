/** The storage account that a name means: names are one tenant's, whatever subscription and group an account lies in. */
import { type Kysely, sql } from 'kysely';
import { parseId, resourceGroupId, sameId } from '../../arm/ids.ts';
import type { Schema } from '../../database/schema.ts';
import { stagingOf } from '../image-builder/staging.ts';
import { TEMPLATE_TYPE } from '../image-builder/validate.ts';
import { fromRow, type StoredResource } from '../store.ts';
import { storageAccounts } from './storage-accounts.ts';

export interface StorageAccount {
  /** As it is shown. */
  readonly id: string;
  /** In lower case. */
  readonly name: string;
  readonly resource: StoredResource;
  /** The image template whose staging account it is. */
  readonly template?: StoredResource;
}

const NAME = /^[a-z0-9]{3,24}$/;

/** `name` is untrusted. */
export async function findAccount(database: Kysely<Schema>, name: string): Promise<StorageAccount | undefined> {
  const wanted = name.toLowerCase();
  if (!NAME.test(wanted)) return undefined;
  const row = await database
    .selectFrom('resource')
    .selectAll()
    .where(({ fn }) => fn<string>('lower', ['type']), '=', storageAccounts.type.toLowerCase())
    .where(({ fn }) => fn<string>('lower', ['name']), '=', wanted)
    .executeTakeFirst();
  if (!row) return undefined;
  const resource = fromRow(row);
  const template = await templateOf(database, resource);
  return { id: resource.id, name: wanted, resource, ...(template && { template }) };
}

/** Whether keys and what is signed with them are taken. Azure's default: yes. */
export const allowsKeys = (account: Pick<StorageAccount, 'resource'>): boolean =>
  account.resource.properties.allowSharedKeyAccess !== false;

/** Whether containers may be readable by everybody. Azure's default: no. */
export const allowsPublicAccess = (account: Pick<StorageAccount, 'resource'>): boolean =>
  account.resource.properties.allowBlobPublicAccess === true;

/** A staging group is in its template's subscription, and one template's. */
export async function templateOf(
  database: Kysely<Schema>,
  account: Pick<StoredResource, 'id' | 'name'>,
): Promise<StoredResource | undefined> {
  const { subscription, resourceGroup } = parseId(account.id);
  const group = resourceGroupId(subscription, resourceGroup!);
  const owners = await database
    .selectFrom('resource')
    .selectAll()
    .where(({ fn }) => fn<string>('lower', ['type']), '=', TEMPLATE_TYPE.toLowerCase())
    .where('subscription', '=', subscription.toLowerCase())
    .where(sql<boolean>`properties -> 'staging' ->> 'account' = ${account.name.toLowerCase()}`)
    .execute();
  return owners.map(fromRow).find(template => {
    const staging = stagingOf(template);
    return staging && sameId(staging.group, group);
  });
}
