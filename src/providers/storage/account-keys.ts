/**
 * The two keys of a storage account, and a third one that nobody sees: keys for users (user delegation) are made from it. They are made when an account is made,
 * or, for those that Kiln makes itself, when somebody asks for them first.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { idKey } from '../../arm/ids.ts';
import type { Home } from '../../home.ts';
import { lockResource, patchProperties, type Store, type StoredResource } from '../store.ts';
import { openWrappingKey, type WrappingKey } from './wrapping-key.ts';

export const KEY_NAMES = Object.freeze(['key1', 'key2'] as const);
export type KeyName = (typeof KEY_NAMES)[number];

const ALL = [...KEY_NAMES, 'delegation'] as const;
export type StoredName = (typeof ALL)[number];

/** Azure's own are as long. */
const BYTES = 64;

export interface AccountKey {
  readonly name: StoredName;
  /** A secret. */
  readonly value: Buffer;
  readonly created: Date;
}

type Account = Pick<StoredResource, 'id'>;

/** Those that there are; none for an account whose keys nobody has asked for. Errors: those of openWrappingKey and of `open`. */
export async function readKeys(
  store: Store,
  home: Pick<Home, 'root'>,
  account: Account,
  names: readonly StoredName[] = KEY_NAMES,
): Promise<AccountKey[]> {
  const id = idKey(account.id);
  const rows = await store
    .selectFrom('storage_key')
    .selectAll()
    .where('account_id', '=', id)
    .where('name', 'in', names)
    .orderBy('name')
    .execute();
  if (rows.length === 0) return [];
  const wrapping = await openWrappingKey(home);
  return rows.map(row => ({
    name: row.name,
    value: wrapping.open(row.sealed, contextOf(id, row.name)),
    created: row.created_at,
  }));
}

/** The same, made where they are missing. Of two at once, both get the same ones. */
export async function requireKeys(
  store: Store,
  home: Pick<Home, 'root'>,
  account: Account,
  names: readonly StoredName[] = KEY_NAMES,
): Promise<AccountKey[]> {
  const found = await readKeys(store, home, account, names);
  if (found.length === names.length) return found;
  const wrapping = await openWrappingKey(home);
  const make = async (trx: Store) => {
    await lockResource(trx, account.id);
    await makeKeys(trx, wrapping, account);
  };
  await (store.isTransaction ? make(store) : store.transaction().execute(make));
  return await readKeys(store, home, account, names);
}

/** Leaves those that are there. In a transaction that holds the account. */
async function makeKeys(trx: Store, wrapping: WrappingKey, account: Account): Promise<void> {
  const id = idKey(account.id);
  const now = new Date();
  const values = ALL.map(name => ({
    ...{ account_id: id, name, created_at: now, wrapped_by: wrapping.id },
    sealed: wrapping.seal(randomBytes(BYTES), contextOf(id, name)),
  }));
  await trx
    .insertInto('storage_key')
    .values(values)
    .onConflict(conflict => conflict.columns(['account_id', 'name']).doNothing())
    .execute();
  await writeCreationTimes(trx, id);
}

/** Whoever has the old one is locked out from now on. `delegation`: everybody who has a user delegation key. */
export async function renewKey(
  store: Store,
  home: Pick<Home, 'root'>,
  account: Account,
  name: StoredName,
): Promise<void> {
  const wrapping = await openWrappingKey(home);
  const id = idKey(account.id);
  await store.transaction().execute(async trx => {
    await lockResource(trx, account.id);
    await makeKeys(trx, wrapping, account);
    const sealed = wrapping.seal(randomBytes(BYTES), contextOf(id, name));
    await trx
      .updateTable('storage_key')
      .set({ sealed, wrapped_by: wrapping.id, created_at: new Date() })
      .where('account_id', '=', id)
      .where('name', '=', name)
      .execute();
    await writeCreationTimes(trx, id);
  });
}

/** Shown with the account. */
async function writeCreationTimes(trx: Store, id: string): Promise<void> {
  const rows = await trx
    .selectFrom('storage_key')
    .select(['name', 'created_at'])
    .where('account_id', '=', id)
    .where('name', 'in', [...KEY_NAMES])
    .orderBy('name')
    .execute();
  const keyCreationTime = Object.fromEntries(rows.map(row => [row.name, row.created_at.toISOString()]));
  await patchProperties(trx, id, { keyCreationTime });
}

const contextOf = (id: string, name: StoredName): string => `${id} ${name}`;

/** What a user delegation key stands for; all of it is said again in each signature that is made with it. */
export interface Delegation {
  readonly objectId: string;
  readonly tenantId: string;
  readonly start: string;
  readonly expiry: string;
  readonly service: string;
  readonly version: string;
}

/** A user delegation key: nothing is stored for each, and renewing `delegation` ends them all. */
export function delegationKey(keys: readonly AccountKey[], delegation: Delegation): Buffer | undefined {
  const key = keys.find(({ name }) => name === 'delegation');
  if (!key) return undefined;
  const { objectId, tenantId, start, expiry, service, version } = delegation;
  const said = JSON.stringify([objectId.toLowerCase(), tenantId.toLowerCase(), start, expiry, service, version]);
  return createHmac('sha256', key.value).update(said).digest();
}
