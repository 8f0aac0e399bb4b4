/** Two at once that make, change or delete one template come one after the other. */
import { idKey } from '../../arm/ids.ts';
import type { Transacting } from '../../database/connection.ts';
import { lockResource } from '../store.ts';

export async function lockTemplate(trx: Transacting, id: string): Promise<void> {
  await lockResource(trx, idKey(id));
}
