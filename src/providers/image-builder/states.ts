/** Which states of a template forbid which operation, in the sentences of the real service (contract 3.2). */
import { KilnError } from '../../arm/errors.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { RunState } from '../../database/schema.ts';
import { TEMPLATE_TYPE } from './validate.ts';

/** States in which a template is being built: at most one run of a template is in one of them (a unique index says so). */
export const ACTIVE: readonly RunState[] = ['Running', 'Canceling'];

/** What the service calls its own states in those sentences: `provisioned` where resources say `Succeeded`. */
const PROVISIONING_WORDS: Readonly<Record<string, string>> = Object.freeze({ Succeeded: 'provisioned' });

export const provisioningState = (template: Pick<Resource, 'properties'>): string =>
  String(template.properties.provisioningState);

/**
 * @param operation `delete`, `run/action`, `cancel/action`, `write`
 * @param runState of the newest run; missing when there was none
 */
export function notAllowed(
  operation: string,
  template: Pick<Resource, 'id' | 'properties'>,
  runState: string | undefined,
  hint?: string,
): KilnError {
  const state = provisioningState(template);
  return new KilnError(
    'OperationNotAllowed',
    `Operation ${TEMPLATE_TYPE}/${operation} is not allowed in provisioning state: ${PROVISIONING_WORDS[state] ?? state.toLowerCase()} or run state: ${(runState ?? 'none').toLowerCase()}.`,
    { target: template.id, ...(hint !== undefined && { hint }) },
  );
}

/** A deletion while the template is still made or changed has a sentence of its own. */
export function deletionNotAllowed(template: Pick<Resource, 'id' | 'properties'>): KilnError {
  return new KilnError(
    'OperationNotAllowed',
    `Operation 'DELETE' is not allowed in provisioningState: '${provisioningState(template).toLowerCase()}'.`,
    { target: template.id, hint: 'Wait until it has ended; it takes seconds, unless scripts are large.' },
  );
}
