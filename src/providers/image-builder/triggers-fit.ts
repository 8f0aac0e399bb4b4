/** Templates that have a trigger cannot be changed into ones that may not have it. */
import { violationError } from '../../arm/resource-type.ts';
import type { Transacting } from '../../database/connection.ts';
import { listResources, type StoredResource } from '../store.ts';
import { sourceViolations, TRIGGER_TYPE } from './triggers-type.ts';

/** Errors: ValidationFailed. */
export async function requireTriggersFit(
  trx: Transacting,
  template: Pick<StoredResource, 'id' | 'properties'>,
): Promise<void> {
  const [trigger] = await listResources(trx, { type: TRIGGER_TYPE, parent: template.id });
  if (!trigger) return;
  const violations = sourceViolations(template);
  if (violations.length > 0)
    throw violationError(
      'ValidationFailed',
      violations.map(one => ({ ...one, hint: `${one.hint} Or delete the trigger '${trigger.name}' first.` })),
    );
}
