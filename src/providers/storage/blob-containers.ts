/** Microsoft.Storage/storageAccounts/blobServices/containers: the containers that the data plane has, through Resource Manager (`az storage container-rm`). */
import { Type } from '@sinclair/typebox';
import { KilnError } from '../../arm/errors.ts';
import { formatId } from '../../arm/ids.ts';
import { formatPath } from '../../arm/json-path.ts';
import type { Resource, ResourceType } from '../../arm/resource-type.ts';
import { violationError } from '../../arm/resource-type.ts';
import { type JsonObject, oneOf, shape, stringMap } from '../../arm/shape.ts';
import { BlobError } from '../../blobs/blob-error.ts';
import { createContainer, deleteContainer, listContainers, newEtag } from '../../blobs/containers.ts';
import { checkContainerName } from '../../blobs/names.ts';
import { containerRow } from '../../blobs/rows.ts';
import { json } from '../../database/json.ts';
import type { BlobContainerRow } from '../../database/schema.ts';
import { STAGED_CONTAINERS } from '../image-builder/staged-blobs.ts';
import type { Answer, ResourceCall, ResourceProvider } from '../provider.ts';
import { lockResource, type StoredResource } from '../store.ts';
import { accountAbove, blobServices } from './blob-services.ts';
import { templateOf } from './find-account.ts';
import { STORAGE_API_VERSIONS } from './storage-accounts.ts';

const optional = Type.Optional;

const ContainerProperties = Type.Object({
  publicAccess: optional(oneOf(['None', 'Blob', 'Container'])),
  metadata: optional(stringMap()),
  denyEncryptionScopeOverride: optional(Type.Boolean()),
  defaultEncryptionScope: optional(Type.String()),
  enableNfsV3RootSquash: optional(Type.Boolean()),
  enableNfsV3AllSquash: optional(Type.Boolean()),
  immutableStorageWithVersioning: optional(Type.Object({ enabled: optional(Type.Boolean()) })),
});

export const blobContainers: ResourceType = Object.freeze({
  type: `${blobServices.type}/containers`,
  apiVersions: STORAGE_API_VERSIONS,
  kind: 'proxy',
  parent: blobServices.type,
  violationCode: 'InvalidParameter',
  checkName(name) {
    try {
      checkContainerName(name);
      return undefined;
    } catch (error) {
      if (error instanceof BlobError) return { path: 'name', message: error.message };
      throw error;
    }
  },
  validate: () => ({ resource: { properties: {} }, violations: [], warnings: [] }),
} satisfies ResourceType);

export const blobContainersProvider: ResourceProvider = Object.freeze({
  definition: blobContainers,
  async read({ environment, id }) {
    const account = await accountOf({ environment, id });
    const row = account && (await containerRow(environment.database, addressOf(account, id.name)));
    return row && resourceOf(account, row);
  },
  async list({ environment, scope, window, query }) {
    const account = scope.parent && (await accountAbove(environment.database, scope.parent));
    if (!account) return [];
    const prefix = query.get('$filter') ?? '';
    const after = window.after?.split('/').at(-1) ?? '';
    const rows = await listContainers(environment.database, account.name, { prefix, after, limit: window.limit });
    return rows.map(row => resourceOf(account, row));
  },
  put: async (call, body) => await write(call, body, true),
  patch: async (call, body) => await write(call, body, false),
  async remove({ environment, id }) {
    const account = await accountOf({ environment, id });
    if (!account) return { status: 204 };
    const isStaged = STAGED_CONTAINERS.includes(id.name.toLowerCase());
    if (isStaged && (await templateOf(environment.database, account)))
      throw new KilnError(
        'Conflict',
        'The container holds what runs of an image template left, and goes with the template.',
        { target: formatId(id) },
      );
    await inArmsWords(() => deleteContainer(environment.database, addressOf(account, id.name)));
    return { status: 200 };
  },
  show: resource => ({ ...('etag' in resource && { etag: `"${resource.etag}"` }), properties: resource.properties }),
} satisfies ResourceProvider);

async function accountOf({ environment, id }: Pick<ResourceCall, 'environment' | 'id'>) {
  return id.names[1]?.toLowerCase() === 'default' ? await accountAbove(environment.database, id) : undefined;
}

/** Ids have no case; the names of containers are in lower case. */
const addressOf = (account: StoredResource, container: string) => ({
  account: account.name.toLowerCase(),
  container: container.toLowerCase(),
});

/** 201 for a new one; one that is there is changed. */
async function write(call: ResourceCall, body: JsonObject, makes: boolean): Promise<Answer> {
  const { environment, id, apiVersion } = call;
  const { value, findings } = shape(ContainerProperties, body.properties ?? {}, { apiVersion, caseSensitive: false }, [
    'properties',
  ]);
  const violations = findings
    .filter(({ kind }) => kind !== 'unknown')
    .map(({ path, reason }) => ({
      path: formatPath(path),
      message: `The value of parameter ${formatPath(path)} is invalid.`,
      ...(reason !== undefined && { hint: reason }),
    }));
  const named = makes ? blobContainers.checkName(id.name) : undefined;
  if (named) violations.push({ path: named.path, message: named.message });
  if (violations.length > 0) throw violationError('InvalidParameter', violations);
  if (value.immutableStorageWithVersioning?.enabled)
    throw new KilnError('NotSupported', 'Storage accounts of Kiln have no immutable storage.', {
      target: 'properties.immutableStorageWithVersioning',
    });
  return await environment.database.transaction().execute(async trx => {
    const account = await accountOf({ id, environment: { ...environment, database: trx } });
    if (!account)
      throw new KilnError(
        'ParentResourceNotFound',
        `Can not perform requested operation on nested resource. Parent resource '${id.names.slice(0, 2).join('/')}' not found.`,
      );
    await lockResource(trx, account.id);
    const access = value.publicAccess;
    if (access !== undefined && access !== 'None' && account.properties.allowBlobPublicAccess !== true)
      throw new KilnError('PublicAccessNotPermitted', 'Public access is not permitted on this storage account.', {
        target: 'properties.publicAccess',
      });
    const address = addressOf(account, id.name);
    const existing = await containerRow(trx, address);
    if (!existing) await inArmsWords(() => createContainer(trx, address, {}));
    const row = await trx
      .updateTable('blob_container')
      .set({
        ...(value.metadata && { metadata: json(value.metadata) }),
        ...(access !== undefined && { public_access: ACCESS[access] }),
        ...(existing && { etag: newEtag(), modified_at: new Date() }),
        // An update needs something to set.
        account: address.account,
      })
      .where('account', '=', address.account)
      .where('name', '=', address.container)
      .returningAll()
      .executeTakeFirst();
    if (!row) throw new KilnError('ResourceNotFound', 'The container was deleted meanwhile.');
    return { status: existing ? 200 : 201, resource: resourceOf(account, row) };
  });
}

const ACCESS = { None: null, Blob: 'blob', Container: 'container' } as const;

function resourceOf(account: StoredResource, row: BlobContainerRow): Resource & { readonly etag: string } {
  const { name, metadata, lease, modified_at, public_access, etag } = row;
  const leased =
    lease !== null && lease.breaksAt === null && (lease.expiresAt === null || new Date(lease.expiresAt) > new Date());
  return {
    id: `${account.id}/blobServices/default/containers/${name}`,
    name,
    type: blobContainers.type,
    etag,
    properties: {
      publicAccess: public_access === null ? 'None' : public_access === 'blob' ? 'Blob' : 'Container',
      leaseStatus: leased ? 'Locked' : 'Unlocked',
      leaseState: leased ? 'Leased' : 'Available',
      ...(leased && { leaseDuration: lease.seconds === -1 ? 'Infinite' : 'Fixed' }),
      lastModifiedTime: modified_at.toISOString(),
      ...(Object.keys(metadata as object).length > 0 && { metadata }),
      defaultEncryptionScope: '$account-encryption-key',
      denyEncryptionScopeOverride: false,
      hasImmutabilityPolicy: false,
      hasLegalHold: false,
      immutableStorageWithVersioning: { enabled: false },
      deleted: false,
      remainingRetentionDays: 0,
    },
  };
}

/** What the store refuses, as Resource Manager says it. */
async function inArmsWords<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof BlobError)) throw error;
    throw new KilnError(error.status === 404 ? 'ResourceNotFound' : 'Conflict', error.message, { cause: error });
  }
}
