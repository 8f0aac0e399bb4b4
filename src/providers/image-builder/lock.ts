/** Two at once that make, change or delete one template come one after the other; also where it is not there yet, and so has no row to lock. */
import { sql } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import type { Transacting } from '../../database/connection.ts';

export async function lockTemplate(trx: Transacting, id: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${idKey(id)}, 0))`.execute(trx);
  await trx.selectFrom('resource').select('id').where('id', '=', idKey(id)).forUpdate().execute();
}
