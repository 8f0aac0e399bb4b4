/** Who callers are: principals with their secrets, and tokens for them. */
import type { Caller } from '../providers/provider.ts';

export interface Directory {
  readonly tenantId: string;
  /**
   * Who an Authorization header speaks for. Errors: AuthenticationFailed (missing), InvalidAuthenticationToken, ExpiredAuthenticationToken,
   * InvalidAuthenticationTokenTenant.
   */
  authenticate(authorization: string | undefined): Promise<Caller>;
  /** The `WWW-Authenticate` of a 401: clients find the tenant in it. */
  challenge(error: { readonly code: string; readonly message: string }): string;
}
