/** What a body links to is judged before the provider sees it, in Resource Manager's own words (contract 2.1.1). */
import { KilnError } from '../arm/errors.ts';
import { parseId, sameText } from '../arm/ids.ts';
import type { Call } from './provider.ts';
import { findSubscription } from './resources/subscriptions.ts';

/** What the caller has been allowed already: `Microsoft.Compute/images/write` on the image. */
export interface Permitted {
  readonly action: string;
  /** Id of the resource that holds the links. */
  readonly scope: string;
}

export interface LinkedAction {
  /** Where the body names it: `properties.storageProfile.source.id`. */
  readonly path: string;
  /** What the caller has to be allowed … */
  readonly action: string;
  /** … on what. */
  readonly scope: string;
}

/** Errors: LinkedAuthorizationFailed, for the first link that the caller may not use, or that leads to a subscription of nobody here. */
export async function requireLinkedAccess(
  call: Pick<Call, 'caller' | 'environment' | 'may'>,
  permitted: Permitted,
  links: readonly LinkedAction[],
): Promise<void> {
  const own = parseId(permitted.scope).subscription;
  for (const { action, scope, path } of links) {
    const { clientId, objectId, tenantId } = call.caller;
    const { subscription } = parseId(scope, path);
    if (!sameText(subscription, own) && !(await findSubscription(call.environment.database, subscription)))
      throw new KilnError(
        'LinkedAuthorizationFailed',
        `The client has permission to perform action '${action}' on scope '${permitted.scope}', however the current tenant '${tenantId}' is not authorized to access linked subscription '${subscription}'.`,
        { target: path },
      );
    if (await call.may(action, scope)) continue;
    throw new KilnError(
      'LinkedAuthorizationFailed',
      `The client '${clientId}' with object id '${objectId}' has permission to perform action '${permitted.action}' on scope '${permitted.scope}'; however, it does not have permission to perform action '${action}' on the linked scope(s) '${scope}' or the linked scope(s) are invalid.`,
      { target: path },
    );
  }
}
