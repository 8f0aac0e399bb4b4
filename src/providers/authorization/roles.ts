/** What roles allow. */
import type { Caller } from '../../arm/caller.ts';

export interface Roles {
  /** Whether the caller's roles, assigned on the scope or above it, allow an action (`Microsoft.Compute/galleries/read`). */
  may(caller: Pick<Caller, 'objectId'>, action: string, scope: string): Promise<boolean>;
  /** The same for an action of the data plane (`Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read`). */
  mayData(caller: Pick<Caller, 'objectId'>, action: string, scope: string): Promise<boolean>;
  /** Errors: AuthorizationFailed in Azure's words. */
  require(caller: Caller, action: string, scope: string): Promise<void>;
  /** For lists: what the caller may do, asked once for many scopes. */
  view(caller: Pick<Caller, 'objectId'>): Promise<(action: string, scope: string) => boolean>;
  /** Where the caller may read at all: subscriptions and groups that lists show. In lower case; `/` for everything. */
  scopes(caller: Pick<Caller, 'objectId'>): Promise<readonly string[]>;
}
