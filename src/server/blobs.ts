/**
 * The logs and VHDs of builds where clients of Azure look for them: as blobs in the containers `packerlogs` and `vhds` of a staging group's storage account,
 * path-style (`/ACCOUNT/packerlogs/RUN/customization.log`, `/ACCOUNT/vhds/RUN/OUTPUT.vhd`). Read-only, for tokens of the storage audience; the rest of the data plane is not here.
 */
import { open } from 'node:fs/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Directory } from '../directory/directory.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import {
  LOG_CONTAINER,
  type StagedBlob,
  stagedBlob,
  stagedBlobs,
  VHD_CONTAINER,
} from '../providers/image-builder/staged-blobs.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import { findAccount, type StorageAccount } from '../providers/storage/find-account.ts';
import { BlobError, blobError, errorXml } from './blob-errors.ts';
import { listBlobs, listQuery, listXml } from './blob-list.ts';
import { byteRange } from './byte-range.ts';

export interface BlobOptions {
  readonly environment: Pick<ProviderEnvironment, 'database' | 'home' | 'log'>;
  readonly directory: Pick<Directory, 'authenticate' | 'tenantId'>;
  readonly roles: Pick<Roles, 'may' | 'mayData'>;
  /** What clients call the server; known when it listens. */
  readonly origin: () => string;
}

const READ_BLOBS = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read';
const READ_ACCOUNT = 'Microsoft.Storage/storageAccounts/read';
const LIST_KEYS = 'Microsoft.Storage/storageAccounts/listKeys/action';
/** Of the answers, where the client names none. */
const VERSION = '2021-12-02';

export async function blobRoutes(app: FastifyInstance, options: BlobOptions): Promise<void> {
  const { directory, environment } = options;
  app.addHook('onRequest', async (request, reply) => {
    const version = request.headers['x-ms-version'];
    reply.header('x-ms-version', typeof version === 'string' && /^\d{4}-\d\d-\d\d$/.test(version) ? version : VERSION);
    request.caller = await directory.authenticate(request.headers.authorization, 'storage');
  });
  app.setErrorHandler((thrown, request, reply) => {
    const error = blobError(thrown);
    if (error.status >= 500)
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
  const config = { config: { rateLimit: {} } };
  const method = ['GET', 'HEAD'];
  app.route({ method, url: `/:account/${LOG_CONTAINER}`, ...config, handler: container });
  const url = `/:account/:container(^${LOG_CONTAINER}|${VHD_CONTAINER}$)/:run/:name`;
  app.route({ method, url, ...config, handler: blob });

  async function container(request: FastifyRequest, reply: FastifyReply) {
    const query = new URL(request.url, 'https://localhost').searchParams;
    if (query.get('restype') !== 'container' || query.get('comp') !== 'list' || request.method !== 'GET')
      throw new BlobError(400, 'InvalidQueryParameterValue', 'Only ?restype=container&comp=list is answered here.');
    const account = await requireAccount(request, LOG_CONTAINER);
    const wanted = listQuery(query);
    const found = await listBlobs(stagedBlobs(environment, account, LOG_CONTAINER, { from: wanted.marker }), wanted);
    return await reply
      .header('content-type', 'application/xml')
      .send(listXml(found, wanted, `${options.origin()}/${accountName(request)}/`, LOG_CONTAINER));
  }

  async function blob(request: FastifyRequest, reply: FastifyReply) {
    const { container, run, name } = request.params as { container: string; run: string; name: string };
    const account = await requireAccount(request, container.toLowerCase());
    const found = await stagedBlob(environment, account, container.toLowerCase(), `${run.toLowerCase()}/${name}`);
    if (!found) throw new BlobError(404, 'BlobNotFound', 'The specified blob does not exist.');
    return await send(found, request, reply);
  }

  /** Errors: AuthorizationPermissionMismatch, ResourceNotFound. */
  async function requireAccount(request: FastifyRequest, of: string): Promise<StorageAccount> {
    const name = accountName(request);
    const account = await findAccount(environment.database, name);
    if (!account?.template) throw new BlobError(404, 'ResourceNotFound', 'The specified resource does not exist.');
    const caller = request.caller!;
    const scope = `${account.id}/blobServices/default/containers/${of}`.toLowerCase();
    if (await options.roles.mayData(caller, READ_BLOBS, scope)) return account;
    // Whoever may list an account's keys can read all that is in it; logs are shown to those who may read the account.
    const enough = of === LOG_CONTAINER ? READ_ACCOUNT : LIST_KEYS;
    if (await options.roles.may(caller, enough, account.id.toLowerCase())) return account;
    throw new BlobError(
      403,
      'AuthorizationPermissionMismatch',
      'This request is not authorized to perform this operation using this permission.',
    );
  }
}

const accountName = (request: FastifyRequest): string => (request.params as { account: string }).account.toLowerCase();

async function send(blob: StagedBlob, request: FastifyRequest, reply: FastifyReply) {
  const { size } = blob;
  const etag = `"${blob.etag}"`;
  reply.headers({
    'content-type': blob.contentType,
    'accept-ranges': 'bytes',
    etag,
    'last-modified': blob.modified.toUTCString(),
    'x-ms-creation-time': blob.created.toUTCString(),
    'x-ms-blob-type': blob.type,
    'x-ms-lease-status': 'unlocked',
    'x-ms-lease-state': 'available',
  });
  checkConditions(request, etag);
  // A HEAD asks for the properties of the whole.
  const range =
    request.method === 'GET' ? byteRange(header(request, 'x-ms-range') ?? header(request, 'range'), size) : undefined;
  if (range === 'unsatisfiable')
    throw new BlobError(416, 'InvalidRange', 'The range specified is invalid for the current size of the resource.', {
      'content-range': `bytes */${size}`,
    });
  const { start, end } = range ?? { start: 0, end: size - 1 };
  if (range) reply.status(206).header('content-range', `bytes ${start}-${end}/${size}`);
  reply.header('content-length', end - start + 1);
  if (request.method === 'HEAD' || size === 0) return await reply.send();
  const file = await open(blob.path);
  return await reply.send(file.createReadStream({ start, end }));
}

/** `If-Match` keeps a download in one piece that is made of several; `If-None-Match` spares one. */
function checkConditions(request: FastifyRequest, etag: string): void {
  const matches = (tags: string) => tags.split(',').some(tag => ['*', etag].includes(tag.trim()));
  const [match, noneMatch] = [header(request, 'if-match'), header(request, 'if-none-match')];
  if (match !== undefined && !matches(match))
    throw new BlobError(412, 'ConditionNotMet', 'The condition specified using HTTP conditional header(s) is not met.');
  if (noneMatch !== undefined && matches(noneMatch))
    throw new BlobError(304, 'ConditionNotMet', 'The condition specified using HTTP conditional header(s) is not met.');
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}
