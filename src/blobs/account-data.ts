/** The end of a storage account. */
import type { Kysely } from 'kysely';
import type { Schema } from '../database/schema.ts';

/** Deletes all containers and blobs of an account, in the caller's transaction if it is one. Their files go soon afterwards. May be done again. */
export async function removeAccountData(database: Kysely<Schema>, account: string): Promise<void> {
  await database.deleteFrom('blob_container').where('account', '=', account.toLowerCase()).execute();
  await database.deleteFrom('blob_service').where('account', '=', account.toLowerCase()).execute();
}
