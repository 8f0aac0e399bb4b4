/** Microsoft.Storage/storageAccounts through the API. */
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import { formatId, idKey } from '../../arm/ids.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { removeAccountData } from '../../blobs/account-data.ts';
import { ACTIVE } from '../image-builder/run.ts';
import { beginChange, deleteResource, putValidated } from '../life.ts';
import type { Answer, Call, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, listResources, lockResource, removeResource, type Store } from '../store.ts';
import { keyActions } from './account-key-actions.ts';
import { requireKeys } from './account-keys.ts';
import { claimName } from './account-names.ts';
import { sasActions } from './account-sas-actions.ts';
import { SHOWN_SINCE } from './account-schema.ts';
import { templateOf } from './find-account.ts';
import { PLAIN_ACCOUNT, storageAccounts } from './storage-accounts.ts';

export const storageAccountsProvider: ResourceProvider = Object.freeze({
  definition: storageAccounts,
  untagged: true,
  put: (call, body) => write(call, async () => body),
  patch: (call, body) =>
    write(call, async trx => {
      const { existing } = await beginChange(trx, call.id);
      if (!existing) throw new KilnError('ResourceNotFound', 'The resource was deleted meanwhile.');
      const { location, tags } = existing;
      return { ...body, location, tags: body.tags ?? tags };
    }),
  remove,
  actions: { ...keyActions, ...sasActions },
  show,
} satisfies ResourceProvider);

/** 200 in every case: az takes no 201 (az-wire 11), and the account is there when the answer is. */
async function write(call: ResourceCall, bodyOf: (trx: Store) => Promise<JsonObject>): Promise<Answer> {
  const { environment, apiVersion, conditions, id } = call;
  const resource = await environment.database.transaction().execute(async trx => {
    await claimName(trx, id);
    const body = await bodyOf(trx);
    const request = { id: formatId(id), body, apiVersion, conditions };
    const { resource, created } = await putValidated(trx, storageAccounts, request);
    if (!created) return resource;
    // Whoever was about to write into one of the name that was deleted meanwhile leaves nothing in this one.
    await removeAccountData(trx, id.name);
    await requireKeys(trx, environment.home, resource);
    return (await getResource(trx, resource.id)) ?? resource;
  });
  return { status: 200, resource };
}

/** What lies in it goes with the row, by the database. Errors: Conflict while a build has its logs there. */
async function remove({ environment, id, conditions }: ResourceCall): Promise<Answer> {
  const removed = await environment.database.transaction().execute(async trx => {
    await lockResource(trx, id);
    const account = await getResource(trx, id);
    if (account) await refuseWhileBuilding(trx, account);
    // What Kiln only keeps of an account (file services, policies) goes with it.
    for (const below of await listResources(trx, { parent: id }))
      if (below.unmodelled) await removeResource(trx, below.id);
    return await deleteResource(trx, formatId(id), conditions);
  });
  return { status: removed ? 200 : 204 };
}

async function refuseWhileBuilding(trx: Store, account: Resource): Promise<void> {
  const template = await templateOf(trx, account);
  if (!template) return;
  const run = await trx
    .selectFrom('run')
    .select('id')
    .where('template_id', '=', idKey(template.id))
    .where('state', 'in', ACTIVE)
    .executeTakeFirst();
  if (!run) return;
  throw new KilnError(
    'Conflict',
    `The storage account '${account.name}' cannot be deleted: the image template '${template.name}', whose staging account it is, is being built by run ${run.id}.`,
    { target: account.id, hint: 'Cancel the run, or wait until it has ended.' },
  );
}

function show(resource: Resource, { apiVersion, origin }: Call): JsonObject {
  const { id, name, type, location, tags, kind, sku } = resource;
  const known = Object.entries(resource.properties).filter(([property]) => {
    const since = SHOWN_SINCE[property];
    return since === undefined || isSince(apiVersion, since);
  });
  return {
    sku: sku ?? { ...PLAIN_ACCOUNT.sku, tier: 'Standard' },
    kind: kind ?? PLAIN_ACCOUNT.kind,
    id,
    name,
    type,
    location,
    tags: tags ?? {},
    properties: {
      ...Object.fromEntries(known),
      privateEndpointConnections: [],
      primaryEndpoints: { blob: blobEndpoint(origin, name) },
    },
  };
}

/**
 * Path-style: the account is the first segment, on the one host that the server has. By host (`ACCOUNT.blob.localhost:8443`) the server answers as well, which
 * clients make of the suffix that /metadata/endpoints names; but glibc does not resolve names below `localhost`, and names below another host need a DNS entry.
 */
export const blobEndpoint = (origin: string, account: string): string => `${origin}/${account}/`;
