/**
 * The blob service of storage accounts, path-style (`/ACCOUNT/CONTAINER/BLOB/with/slashes`): whose account, who calls, which operation is meant. What runs of image
 * templates leave is there too: logs in the container `packerlogs` of a template's staging account, VHDs in `vhds`.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ensureContainers } from '../blobs/containers.ts';
import { RESERVED_ACCOUNT_NAMES } from '../blobs/names.ts';
import type { BlobStore } from '../blobs/store.ts';
import { STAGED_CONTAINERS } from '../providers/image-builder/staged-blobs.ts';
import { findAccount, type StorageAccount } from '../providers/storage/find-account.ts';
import * as containers from './blob-containers.ts';
import { copy, putFromUrl } from './blob-copying.ts';
import { BlobError, blobError, errorXml } from './blob-errors.ts';
import { lease } from './blob-leasing.ts';
import * as reading from './blob-reading.ts';
import { type BlobAnswer, type BlobPath, type BlobRequest, blobPath, header, levelOf } from './blob-request.ts';
import * as service from './blob-service.ts';
import * as writing from './blob-writing.ts';
import { authorizeBlobRequest, type BlobGrant, type StorageAuthOptions } from './storage-auth.ts';
import { userDelegationKey } from './user-delegation-key.ts';

export interface BlobOptions extends StorageAuthOptions {
  readonly store: BlobStore;
  /** How long the server waits for a body that does not come along (ms). */
  readonly patience: number;
}

/** Of the answers, where the client names none. */
const VERSION = '2021-12-02';

type Operation = (request: BlobRequest) => Promise<BlobAnswer>;

/** By method, level, and what the query says of it: `restype` (but the level's own) and `comp`. */
const OPERATIONS: Readonly<Record<string, Operation>> = Object.freeze({
  'GET service list': service.listAll,
  'GET service service properties': service.serviceProperties,
  'PUT service service properties': service.setServiceProperties,
  'POST service service userdelegationkey': userDelegationKey,
  'GET service account properties': service.accountInformation,
  'HEAD service account properties': service.accountInformation,

  'PUT container': containers.create,
  'DELETE container': containers.remove,
  'GET container': containers.properties,
  'HEAD container': containers.properties,
  'GET container metadata': containers.metadata,
  'HEAD container metadata': containers.metadata,
  'PUT container metadata': containers.setMetadata,
  'GET container list': containers.list,
  'GET container acl': containers.accessPolicies,
  'HEAD container acl': containers.accessPolicies,
  'PUT container acl': containers.setAccessPolicies,
  'PUT container lease': lease,
  'GET container account properties': service.accountInformation,

  'GET blob': reading.get,
  'HEAD blob': reading.properties,
  'GET blob metadata': reading.metadata,
  'HEAD blob metadata': reading.metadata,
  'GET blob tags': reading.tags,
  'GET blob blocklist': reading.blockList,
  'GET blob pagelist': reading.pageRanges,
  'GET blob account properties': service.accountInformation,
  'PUT blob': writing.put,
  'PUT blob copy source': copy,
  'PUT blob from source': putFromUrl,
  'PUT blob block': writing.block,
  'PUT blob blocklist': writing.putBlockList,
  'PUT blob page': writing.pages,
  'PUT blob appendblock': writing.appendBlock,
  'PUT blob properties': writing.setProperties,
  'PUT blob metadata': writing.setMetadata,
  'PUT blob tags': writing.setTags,
  'PUT blob tier': writing.setTier,
  'PUT blob lease': lease,
  'DELETE blob': writing.remove,
});

/** Operations that a client may know, and why they are not here. */
const REFUSED: Readonly<Record<string, string>> = Object.freeze({
  'PUT blob snapshot': 'Snapshots are not supported; copy the blob instead.',
  'PUT blob copy': 'There is no copy under way: copies are over when they are answered.',
  'PUT blob undelete': 'What is deleted is gone.',
  'PUT container undelete': 'What is deleted is gone.',
  'PUT blob incrementalcopy': 'Snapshots are not supported.',
  'POST blob query': 'Contents of blobs cannot be queried.',
  'PUT blob immutabilityPolicies': 'Policies of immutability are not supported.',
  'PUT blob legalhold': 'Legal holds are not supported.',
  'PUT blob seal': 'Append blobs cannot be sealed.',
  'POST service batch': 'Batches are not supported; send the requests one by one.',
  'POST container batch': 'Batches are not supported; send the requests one by one.',
  'GET service blobs': 'Blobs cannot be found by their tags.',
  'GET service service stats': 'There is one copy of the account, so none that is behind.',
});

function operationOf(method: string, path: BlobPath, isCopy: boolean, hasType: boolean): Operation {
  const level = levelOf(path);
  const restype = path.query.get('restype')?.toLowerCase();
  const comp = path.query.get('comp')?.toLowerCase();
  const words = [method, level, ...(restype && restype !== level ? [restype] : []), ...(comp ? [comp] : [])];
  if (level === 'service' && restype === 'service') words.splice(2, 0, 'service');
  if (level === 'blob' && method === 'PUT' && !comp && isCopy)
    words.push(...(hasType ? ['from', 'source'] : ['copy', 'source']));
  const key = words.join(' ');
  const operation = OPERATIONS[key];
  if (operation) return operation;
  const refused = REFUSED[key];
  if (refused !== undefined) throw new BlobError(400, 'FeatureNotSupported', refused);
  if (comp === undefined && restype === undefined)
    throw new BlobError(405, 'UnsupportedHttpVerb', 'The resource doesn’t support the specified HTTP verb.');
  throw new BlobError(
    400,
    'InvalidQueryParameterValue',
    'Value for one of the query parameters specified in the request URI is invalid: comp or restype.',
  );
}

interface Named {
  readonly path: BlobPath;
  readonly owner: StorageAccount;
  readonly grant: BlobGrant;
}

export async function blobRoutes(app: FastifyInstance, options: BlobOptions): Promise<void> {
  const { directory, environment, store } = options;
  const named = new WeakMap<FastifyRequest, Named>();

  /** Accounts of templates whose containers are there. Nobody can delete those but with their account: one that is made anew is another one. */
  const staged = new Set<string>();
  async function ensureStaged({ name, resource }: StorageAccount): Promise<void> {
    const account = `${name} ${resource.createdAt.getTime()}`;
    if (staged.has(account)) return;
    await ensureContainers(store.database, name, STAGED_CONTAINERS);
    if (staged.size >= MOST_STAGED) staged.clear();
    staged.add(account);
  }

  // Bodies are read by those who want them, as they arrive.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _body, done) => done(null));

  app.addHook('onRequest', async (request, reply) => {
    const path = blobPath(request.raw.url ?? '/');
    if (!path || RESERVED_ACCOUNT_NAMES.has(path.account) || !ACCOUNT.test(path.account)) return reply.callNotFound();
    if (`${path.container}${path.blob}`.includes('\0'))
      throw new BlobError(400, 'InvalidUri', 'The requested URI does not represent any resource on the server.');
    const owner = await findAccount(environment.database, path.account);
    if (!owner && !isStorageClient(request, path)) return reply.callNotFound();
    const version = request.headers['x-ms-version'];
    reply.header('x-ms-version', typeof version === 'string' && /^\d{4}-\d\d-\d\d$/.test(version) ? version : VERSION);
    const grant = await authorizeBlobRequest(request, owner, options);
    if (!owner) throw new BlobError(404, 'ResourceNotFound', 'The specified resource does not exist.');
    named.set(request, { path, owner, grant });
  });

  app.setErrorHandler((thrown, request, reply) => {
    const error = blobError(thrown);
    if (error.status >= 500 && error.code !== 'ServerBusy')
      environment.log('error', 'A request for a blob failed.', {
        correlationId: request.correlationId,
        error: String((thrown as Error)?.stack ?? thrown),
      });
    if (error.status === 401)
      reply.header(
        'www-authenticate',
        `Bearer authorization_uri=${options.origin()}/${directory.tenantId}/oauth2/authorize resource_id=https://storage.azure.com`,
      );
    reply.status(error.status).headers(error.headers).header('x-ms-error-code', error.code);
    if (error.status === 304 || request.method === 'HEAD') return reply.send();
    return reply.header('content-type', 'application/xml').send(errorXml(error, request.id, new Date()));
  });

  for (const url of ['/:account', '/:account/*'])
    app.route({
      method: ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'],
      url,
      config: { rateLimit: {} },
      async handler(request, reply) {
        const { path, owner, grant } = named.get(request)!;
        const { method } = request;
        const asked = { raw: request };
        const isCopy = header(asked, 'x-ms-copy-source') !== undefined;
        const operation = operationOf(method, path, isCopy, header(asked, 'x-ms-blob-type') !== undefined);
        if (owner.template) await ensureStaged(owner);
        const level = levelOf(path);
        const { patience } = options;
        const about = { method, level, raw: request, owner, grant, store, environment, options, patience };
        return await send(await operation({ ...path, ...about }), reply);
      },
    });
}

const ACCOUNT = /^[a-z0-9]{3,24}$/;
const MOST_STAGED = 10_000;

/** Whoever asks for what there is not is answered in the service's own words only if it speaks that service's language. */
const isStorageClient = (request: FastifyRequest, { query }: BlobPath): boolean =>
  request.headers['x-ms-version'] !== undefined || query.has('sig') || query.has('restype') || query.has('comp');

async function send(
  { status, headers = {}, xml, stream, bytes }: BlobAnswer,
  reply: FastifyReply,
): Promise<FastifyReply> {
  reply.status(status);
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) continue;
    // A signature can name any text for a header of the answer.
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(String(value))) {
      stream?.destroy();
      throw new BlobError(400, 'InvalidQueryParameterValue', `What is to be sent as ${name} is no text of a header.`);
    }
    reply.header(name, value);
  }
  if (xml !== undefined) return await reply.header('content-type', 'application/xml').send(xml);
  return await reply.send(stream ?? bytes);
}
