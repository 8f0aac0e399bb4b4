/**
 * Layers of templates that are gone: what their steps left on disks and in memories is nobody's any more. Warm starts stay, which hold nothing of a template, and
 * what other layers stand on. Each host sees to its own store: when it deletes a template, and before it builds one.
 */
import type { Kysely } from 'kysely';
import { type LayerStore, openLayerStore } from '../../builds/layers/store.ts';
import { warmStartOf } from '../../builds/layers/warm-start.ts';
import type { Schema } from '../../database/schema.ts';

export async function dropOrphans(store: LayerStore, database: Kysely<Schema>): Promise<void> {
  const left = new Set(await store.list());
  const runs = [...new Set([...left].map(({ runId }) => runId))].filter(id => /^[0-9a-f-]{36}$/.test(id));
  if (runs.length === 0) return;
  // Of runs that another state directory knows there is no row: several may share the store.
  const rows = await database
    .selectFrom('run')
    .leftJoin('resource', 'resource.id', 'run.template_id')
    .select('run.id')
    .where('run.id', 'in', runs)
    .where('resource.id', 'is', null)
    .execute();
  const ownerless = new Set(rows.map(({ id }) => id));
  for (;;) {
    const parents = new Set([...left].map(({ parent }) => parent));
    const gone = [...left].filter(one => ownerless.has(one.runId) && !warmStartOf(one) && !parents.has(one.id));
    if (gone.length === 0) return;
    for (const layer of gone) {
      await store.remove(layer.key);
      left.delete(layer);
    }
  }
}

/** After a deletion, which is done whatever becomes of this: the next build tries again. */
export async function dropOrphansIn(cache: string, database: Kysely<Schema>): Promise<void> {
  const store = await openLayerStore(cache).catch(() => undefined);
  if (store?.writable) await dropOrphans(store, database).catch(() => {});
}
