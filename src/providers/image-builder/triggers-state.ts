/**
 * Whether a trigger is on, as far as builds decide it: after some failed ones in a row it is off, so that a template which cannot be built any more does not
 * fill the log for ever; after the next good one it is on again (contract 4.3; the number is not documented).
 */
import type { JsonObject } from '../../arm/shape.ts';
import type { Transacting } from '../../database/connection.ts';
import type { RunState } from '../../database/schema.ts';
import { listResources, patchProperties } from '../store.ts';
import { TRIGGER_TYPE } from './triggers-type.ts';

/** Failed builds in a row, manual or triggered, that a trigger outlives. */
export const MOST_FAILURES = 3;

/** What clients read under `properties.status`. */
export interface TriggerStatus extends JsonObject {
  readonly code: string;
  readonly message: string;
  readonly time: string;
}

/** Code and message are Azure's (recorded). */
export function healthy(now = new Date()): TriggerStatus {
  return { code: 'Healthy', message: 'Trigger is active', time: now.toISOString() };
}

function deactivated(failures: number, now: Date): TriggerStatus {
  return {
    code: 'Deactivated',
    message: `Trigger is not active since ${now.toISOString()}: the last ${failures} builds of the template failed. Run the template; when that build succeeds, the trigger is active again.`,
    time: now.toISOString(),
  };
}

/**
 * Called in the transaction that ends a run. A canceled one says nothing about the template; but a version that came while it went on is looked for soon
 * after any, and after the good one that turns the trigger on again.
 */
export async function noteRunEnd(trx: Transacting, templateId: string, state: RunState): Promise<void> {
  // Locked in the order in which a deletion takes them: the resource, then its state.
  await trx.selectFrom('resource').select('id').where('parent_id', '=', templateId).orderBy('id').forUpdate().execute();
  const now = new Date();
  for (const { id } of await listResources(trx, { type: TRIGGER_TYPE, parent: templateId })) {
    const key = id.toLowerCase();
    const before = await trx
      .selectFrom('trigger_state')
      .select(['active', 'failures'])
      .where('id', '=', key)
      .forUpdate()
      .executeTakeFirst();
    if (!before) continue;
    const { failures, active } = after(before, state);
    await trx.updateTable('trigger_state').set({ failures, active, checked_at: null }).where('id', '=', key).execute();
    if (active !== before.active)
      await patchProperties(trx, id, { status: active ? healthy(now) : deactivated(failures, now) });
  }
}

interface Standing {
  readonly active: boolean;
  readonly failures: number;
}

function after({ active, failures }: Standing, state: RunState): Standing {
  if (state === 'Canceled') return { active, failures };
  if (state === 'Succeeded') return { active: true, failures: 0 };
  return { active: active && failures + 1 < MOST_FAILURES, failures: failures + 1 };
}
