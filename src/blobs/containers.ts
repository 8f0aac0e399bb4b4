/** Containers of an account. */
import { randomBytes } from 'node:crypto';
import type { Kysely } from 'kysely';
import type { Transacting } from '../database/connection.ts';
import { json } from '../database/json.ts';
import type { AccessPolicy, BlobContainerRow, Lease, Schema } from '../database/schema.ts';
import { blobRefusal } from './blob-error.ts';
import { type BlobConditions, checkWrite } from './conditions.ts';
import { checkLease } from './leases.ts';
import { checkContainerName } from './names.ts';
import { type BlobAddress, containerRow } from './rows.ts';

export type ContainerAddress = Pick<BlobAddress, 'account' | 'container'>;
/** What everybody may read without signing in. */
export type PublicAccess = BlobContainerRow['public_access'];
export type Metadata = Readonly<Record<string, string>>;

/** Without quotes. */
export const newEtag = (): string => `0x8D${randomBytes(7).toString('hex').toUpperCase().slice(1)}`;

/** Errors: ContainerAlreadyExists, InvalidResourceName. */
export async function createContainer(
  database: Kysely<Schema>,
  address: ContainerAddress,
  options: { readonly metadata?: Metadata; readonly publicAccess?: PublicAccess } = {},
): Promise<BlobContainerRow> {
  checkContainerName(address.container);
  const made = await database
    .insertInto('blob_container')
    .values({ ...newContainer(address, options.metadata ?? {}), public_access: options.publicAccess ?? null })
    .onConflict(conflict => conflict.columns(['account', 'name']).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!made) throw blobRefusal('ContainerAlreadyExists');
  return made;
}

/** Makes those that are missing. */
export async function ensureContainers(
  database: Kysely<Schema>,
  account: string,
  names: readonly string[],
): Promise<void> {
  await database
    .insertInto('blob_container')
    .values(names.map(container => newContainer({ account, container }, {})))
    .onConflict(conflict => conflict.columns(['account', 'name']).doNothing())
    .execute();
}

const newContainer = ({ account, container }: ContainerAddress, metadata: Metadata) => ({
  account,
  name: container,
  etag: newEtag(),
  metadata: json(metadata),
  policies: json<readonly AccessPolicy[]>([]),
});

/** Errors: ContainerNotFound. */
export async function requireContainer(database: Kysely<Schema>, address: ContainerAddress): Promise<BlobContainerRow> {
  const found = await containerRow(database, address);
  if (!found) throw blobRefusal('ContainerNotFound');
  return found;
}

export interface ContainerList {
  readonly prefix?: string;
  /** Names after it. */
  readonly after?: string;
  readonly limit: number;
}

/** By name. */
export async function listContainers(
  database: Kysely<Schema>,
  account: string,
  { prefix = '', after = '', limit }: ContainerList,
): Promise<BlobContainerRow[]> {
  return await database
    .selectFrom('blob_container')
    .selectAll()
    .where('account', '=', account)
    .where('name', '>', after)
    .$if(prefix !== '', query => query.where(({ fn, val }) => fn<boolean>('starts_with', ['name', val(prefix)])))
    .orderBy('name')
    .limit(limit)
    .execute();
}

/** The row is locked until the end: nobody else changes the container or deletes it meanwhile. Errors: ContainerNotFound. */
export async function changeContainer<T>(
  database: Kysely<Schema>,
  address: ContainerAddress,
  change: (trx: Transacting, container: BlobContainerRow) => Promise<T>,
): Promise<T> {
  return await database.transaction().execute(async trx => {
    const found = await trx
      .selectFrom('blob_container')
      .selectAll()
      .where('account', '=', address.account)
      .where('name', '=', address.container)
      .forUpdate()
      .executeTakeFirst();
    if (!found) throw blobRefusal('ContainerNotFound');
    return await change(trx, found);
  });
}

/** Deletes all that is in it, too. Errors: ContainerNotFound, ConditionNotMet, LeaseIdMissing. */
export async function deleteContainer(
  database: Kysely<Schema>,
  address: ContainerAddress,
  conditions: BlobConditions = {},
): Promise<void> {
  await changeContainer(database, address, async (trx, container) => {
    checkLease(container.lease, conditions.leaseId, { of: 'Container', write: true, now: new Date() });
    checkWrite(conditions, container);
    await trx.deleteFrom('blob_container').where('id', '=', container.id).execute();
  });
}

export interface ContainerChange {
  readonly metadata?: Metadata;
  readonly policies?: readonly AccessPolicy[];
  readonly publicAccess?: PublicAccess;
}

/** Errors: ContainerNotFound, ConditionNotMet, LeaseIdMismatch…. */
export async function setContainer(
  database: Kysely<Schema>,
  address: ContainerAddress,
  set: ContainerChange,
  conditions: BlobConditions = {},
): Promise<BlobContainerRow> {
  return await changeContainer(database, address, async (trx, container) => {
    checkLease(container.lease, conditions.leaseId, { of: 'Container', write: false, now: new Date() });
    checkWrite(conditions, container);
    return await trx
      .updateTable('blob_container')
      .set({
        ...(set.metadata && { metadata: json(set.metadata) }),
        ...(set.policies && { policies: json(set.policies) }),
        ...(set.publicAccess !== undefined && { public_access: set.publicAccess }),
        etag: newEtag(),
        modified_at: new Date(),
      })
      .where('id', '=', container.id)
      .returningAll()
      .executeTakeFirstOrThrow();
  });
}

/** `decide` says what the lease becomes, or throws. */
export async function leaseContainer<T extends { readonly lease: Lease | null }>(
  database: Kysely<Schema>,
  address: ContainerAddress,
  conditions: BlobConditions,
  decide: (lease: Lease | null) => T,
): Promise<{ readonly container: BlobContainerRow; readonly decided: T }> {
  return await changeContainer(database, address, async (trx, container) => {
    checkWrite(conditions, container);
    const decided = decide(container.lease);
    const lease = decided.lease && json(decided.lease);
    await trx.updateTable('blob_container').set({ lease }).where('id', '=', container.id).execute();
    return { container, decided };
  });
}
