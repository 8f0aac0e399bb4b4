/** Bearer tokens: what the caller's roles allow on an account's containers and blobs. */
import type { Caller } from '../arm/caller.ts';
import { isLocked } from '../providers/authorization/locked-scopes.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import { LOG_CONTAINER } from '../providers/image-builder/staged-blobs.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import { allowsKeys, type StorageAccount } from '../providers/storage/find-account.ts';
import type { BlobAction, BlobGrant, BlobTarget } from './storage-auth.ts';

const ACCOUNT = 'Microsoft.Storage/storageAccounts';
const SERVICE = `${ACCOUNT}/blobServices`;
const CONTAINERS = `${SERVICE}/containers`;
const BLOBS = `${CONTAINERS}/blobs`;

export function bearerGrant(
  caller: Pick<Caller, 'objectId'>,
  account: StorageAccount,
  {
    roles,
    environment,
  }: { readonly roles: Pick<Roles, 'may' | 'mayData'>; readonly environment: Pick<ProviderEnvironment, 'database'> },
): BlobGrant {
  const id = account.id.toLowerCase();
  return {
    principal: caller.objectId,
    overrides: {},
    async allows(action, on) {
      const scope = on.level === 'service' ? id : `${id}/blobservices/default/containers/${on.container.toLowerCase()}`;
      for (const { name, data } of actionsFor(action, on))
        if (await (data ? roles.mayData(caller, name, scope) : roles.may(caller, name, scope))) return true;
      // Whoever may list an account's keys, which a lock forbids, can do with them whatever a key can.
      if (
        allowsKeys(account) &&
        (await roles.may(caller, `${ACCOUNT}/listKeys/action`, id)) &&
        !(await isLocked(environment.database, id, 'write'))
      )
        return true;
      // Logs are shown to those who may read the account.
      return isLogRead(account, action, on) && (await roles.may(caller, `${ACCOUNT}/read`, id));
    },
  };
}

/** Any one of them is enough (learn.microsoft.com, "Permissions for calling data operations"). */
function actionsFor(action: BlobAction, on: BlobTarget): readonly { readonly name: string; readonly data: boolean }[] {
  const control = (name: string) => [{ name, data: false }];
  const data = (...names: string[]) => names.map(name => ({ name: `${BLOBS}/${name}`, data: true }));
  if (on.level === 'service') return control(action === 'list' ? `${CONTAINERS}/read` : `${SERVICE}/${verb(action)}`);
  if (action === 'getAcl' || action === 'setAcl') return control(`${CONTAINERS}/${action}/action`);
  if (on.level === 'container' && action !== 'list') return control(`${CONTAINERS}/${verb(action)}`);
  if (action === 'list' || action === 'read') return data('read');
  if (action === 'create' || action === 'add') return data('write', 'add/action');
  if (action === 'tags') return data('tags/write');
  return data(action);
}

const verb = (action: BlobAction): string => (action === 'read' || action === 'delete' ? action : 'write');

/** As an image template's account shows them. */
function isLogRead(account: StorageAccount, action: BlobAction, on: BlobTarget): boolean {
  if (!account.template || on.level === 'service' || on.container.toLowerCase() !== LOG_CONTAINER) return false;
  return action === 'read' || action === 'list';
}
