/** POST on a subscription, `…/providers/NS/NAME`: what is about no resource, such as whether a name is free. */
import type { Answer, Call } from './provider.ts';

export interface SubscriptionCall extends Call {
  readonly subscription: string;
}

export interface SubscriptionAction {
  readonly namespace: string;
  /** In Azure's casing: `checkNameAvailability`. */
  readonly name: string;
  /** Newest first. */
  readonly apiVersions: readonly string[];
  /** What roles have to allow, on the subscription; whole. */
  readonly permission: string;
  /** Untrusted body. */
  run(call: SubscriptionCall, body: unknown): Promise<Answer>;
}
