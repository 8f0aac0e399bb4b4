/** How far the replicas of image versions are, as rows: those that are being made, and those that failed. */
import type { Kysely } from 'kysely';
import { idKey } from '../../arm/ids.ts';
import { text } from '../../database/json.ts';
import type { Schema } from '../../database/schema.ts';

type Store = Kysely<Schema>;

export interface ReplicaRow {
  readonly region: string;
  readonly state: 'Replicating' | 'Failed';
  readonly progress: number;
  readonly details: string;
}

export async function listReplicas(store: Store, versionId: string): Promise<ReplicaRow[]> {
  return await store
    .selectFrom('image_replica')
    .select(['region', 'state', 'progress', 'details'])
    .where('version_id', '=', idKey(versionId))
    .execute();
}

/** The version must be there. */
export async function writeReplica(store: Store, versionId: string, replica: ReplicaRow): Promise<void> {
  const content = { ...replica, details: text(replica.details) };
  await store
    .insertInto('image_replica')
    .values({ version_id: idKey(versionId), ...content })
    .onConflict(conflict => conflict.columns(['version_id', 'region']).doUpdateSet(content))
    .execute();
}

/** Of a replica that is being made; nothing where it is none. */
export async function noteProgress(store: Store, versionId: string, region: string, progress: number): Promise<void> {
  await store
    .updateTable('image_replica')
    .set({ progress })
    .where('version_id', '=', idKey(versionId))
    .where('region', '=', region)
    .where('state', '=', 'Replicating')
    .execute();
}

/** Complete, or not wanted any more. `region`: that one alone. */
export async function clearReplicas(store: Store, versionId: string, region?: string): Promise<void> {
  await store
    .deleteFrom('image_replica')
    .where('version_id', '=', idKey(versionId))
    .$if(region !== undefined, query => query.where('region', '=', region!))
    .execute();
}

/** What was being made when nobody was left to make it. */
export async function failReplicas(store: Store, versionId: string, details: string): Promise<void> {
  await store
    .updateTable('image_replica')
    .set({ state: 'Failed', details: text(details) })
    .where('version_id', '=', idKey(versionId))
    .where('state', '=', 'Replicating')
    .execute();
}
