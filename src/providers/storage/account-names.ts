/** Names of storage accounts: one name is one account's, whatever subscription and group it lies in. */
import { randomInt } from 'node:crypto';
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { type ResourceId, sameId } from '../../arm/ids.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { RESERVED_ACCOUNT_NAMES } from '../../blobs/names.ts';
import type { Store } from '../store.ts';

/** The violation of a bad name, in Azure's words. */
export function checkAccountName(name: string): Violation | undefined {
  if (!/^[a-z0-9]{3,24}$/.test(name))
    return {
      path: 'name',
      message: `${name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only.`,
      code: 'AccountNameInvalid',
    };
  if (!RESERVED_ACCOUNT_NAMES.has(name)) return undefined;
  return {
    path: 'name',
    message: `The resource name '${name}' or a part of the name is a trademarked or reserved word.`,
    hint: 'The server has paths of its own that begin so.',
    code: 'ReservedResourceName',
  };
}

/** The id of the account that has the name. */
export async function accountOfName(store: Store, name: string): Promise<string | undefined> {
  const row = await store
    .selectFrom('resource')
    .select('display_id')
    .where(sql<boolean>`lower(type) = 'microsoft.storage/storageaccounts'`)
    .where(({ fn }) => fn<string>('lower', ['name']), '=', name.toLowerCase())
    .executeTakeFirst();
  return row?.display_id;
}

export const takenMessage = (name: string): string => `The storage account named ${name} is already taken.`;

/** From here to the end of the transaction nobody else gets the name. Errors: StorageAccountAlreadyTaken. */
export async function claimName(trx: Store, id: ResourceId): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`storage account ${id.name.toLowerCase()}`}, 0))`.execute(
    trx,
  );
  const owner = await accountOfName(trx, id.name);
  if (owner === undefined || sameId(owner, id)) return;
  throw new KilnError('StorageAccountAlreadyTaken', takenMessage(id.name), { target: 'name' });
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A name that nobody has: 24 characters, as the real service gives its staging accounts (contract 3.4). */
export function randomAccountName(): string {
  return Array.from({ length: 24 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
}
