/** Requests that prove nothing: they read what an account's owner has made readable by everybody. */
import { allowsPublicAccess, type StorageAccount } from '../providers/storage/find-account.ts';
import type { BlobGrant, StorageAuthOptions } from './storage-auth.ts';
import { noAuthentication, publicAccessNotPermitted } from './storage-auth-errors.ts';

/** Errors: NoAuthenticationInformation; PublicAccessNotPermitted where the container would be public, and its account forbids that. */
export async function anonymousGrant(
  account: StorageAccount | undefined,
  container: string | undefined,
  { environment }: Pick<StorageAuthOptions, 'environment'>,
): Promise<BlobGrant> {
  const row =
    account && container !== undefined
      ? await environment.database
          .selectFrom('blob_container')
          .select('public_access')
          .where('account', '=', account.name)
          .where('name', '=', container)
          .executeTakeFirst()
      : undefined;
  const access = row?.public_access;
  if (!account || !access) throw noAuthentication();
  if (!allowsPublicAccess(account)) throw publicAccessNotPermitted();
  return {
    principal: 'anonymous',
    overrides: {},
    async allows(action, on) {
      if (on.level === 'service' || on.container !== container) throw noAuthentication();
      if (on.level === 'blob' && action === 'read') return true;
      if (access === 'container' && (action === 'read' || action === 'list')) return true;
      // Whoever signs in may be allowed more.
      throw noAuthentication();
    },
  };
}
