/**
 * Microsoft.Storage/storageAccounts/blobServices: the one of each account, `default`. It is no row: it is there because its account is. What it could have beside
 * containers (versions, deleted blobs that come back, change feeds) Kiln does not have, and refuses to say it had.
 */
import { KilnError } from '../../arm/errors.ts';
import type { ResourceId } from '../../arm/ids.ts';
import type { Resource, ResourceType } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';
import type { ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, type Store, type StoredResource } from '../store.ts';
import { STORAGE_API_VERSIONS, storageAccounts } from './storage-accounts.ts';

export const blobServices: ResourceType = Object.freeze({
  type: `${storageAccounts.type}/blobServices`,
  apiVersions: STORAGE_API_VERSIONS,
  kind: 'proxy',
  parent: storageAccounts.type,
  violationCode: 'InvalidParameter',
  checkName: name =>
    name.toLowerCase() === 'default'
      ? undefined
      : { path: 'name', message: `The blob service of a storage account is called 'default', not '${name}'.` },
  validate: () => ({ resource: { properties: {} }, violations: [], warnings: [] }),
} satisfies ResourceType);

export const blobServicesProvider: ResourceProvider = Object.freeze({
  definition: blobServices,
  untagged: true,
  read: async call => await readService(call),
  async list({ environment, scope }) {
    const account = scope.parent && (await getResource(environment.database, scope.parent));
    return account ? [serviceOf(account)] : [];
  },
  async put(call, body) {
    const service = await readService(call);
    if (!service)
      throw new KilnError('ParentResourceNotFound', `The storage account '${call.id.names[0]}' was not found.`);
    requireNothingElse(body.properties, 'properties');
    return { status: 200, resource: service };
  },
  show: ({ sku, properties }) => ({ ...(sku && { sku }), properties }),
} satisfies ResourceProvider);

async function readService({ environment, id }: ResourceCall): Promise<Resource | undefined> {
  if (id.name.toLowerCase() !== 'default') return undefined;
  const account = await accountAbove(environment.database, id);
  return account && serviceOf(account);
}

/** The account of a blob service or of one of its containers. */
export async function accountAbove(store: Store, id: ResourceId): Promise<StoredResource | undefined> {
  const name = id.names[0]!;
  return await getResource(store, { ...id, type: storageAccounts.type, names: [name], name });
}

function serviceOf(account: StoredResource): Resource {
  return {
    id: `${account.id}/blobServices/default`,
    name: 'default',
    type: blobServices.type,
    ...(account.sku && { sku: account.sku }),
    properties: {
      cors: { corsRules: [] },
      deleteRetentionPolicy: { allowPermanentDelete: false, enabled: false },
    },
  };
}

/** Errors: NotSupported for anything that is switched on. */
function requireNothingElse(value: unknown, path: string): void {
  const isOn = value === true || (Array.isArray(value) && value.length > 0);
  if (isOn) throw new KilnError('NotSupported', `Storage accounts of Kiln have nothing for ${path}.`, { target: path });
  if (isObject(value)) for (const [name, part] of Object.entries(value)) requireNothingElse(part, `${path}.${name}`);
}
