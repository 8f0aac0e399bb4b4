/**
 * The logs and VHDs of builds where clients of Azure look for them: as blobs in the containers `packerlogs` and `vhds` of a staging group's storage account,
 * path-style (`/ACCOUNT/packerlogs/RUN/customization.log`, `/ACCOUNT/vhds/RUN/OUTPUT.vhd`). Read-only, for tokens of the storage audience; the rest of the data plane is not here.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Directory } from '../directory/directory.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import { logFile } from '../providers/builds/run-log.ts';
import {
  findLogAccount,
  LOG_CONTAINER,
  LOG_NAMES,
  type LogAccount,
  type LoggedRun,
  loggedRuns,
  stagedVhd,
  VHD_CONTAINER,
} from '../providers/image-builder/staged-blobs.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import { BlobError, blobError, errorXml } from './blob-errors.ts';
import { type ListedBlob, listBlobs, listQuery, listXml } from './blob-list.ts';
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
const ACCOUNT = /^[a-z0-9]{3,24}$/;
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

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
  app.route({ method, url: `/:account/${LOG_CONTAINER}/:run/:name`, ...config, handler: blob });
  app.route({ method, url: `/:account/${VHD_CONTAINER}/:run/:name`, ...config, handler: vhd });

  async function container(request: FastifyRequest, reply: FastifyReply) {
    const query = new URL(request.url, 'https://localhost').searchParams;
    if (query.get('restype') !== 'container' || query.get('comp') !== 'list' || request.method !== 'GET')
      throw new BlobError(400, 'InvalidQueryParameterValue', 'Only ?restype=container&comp=list is answered here.');
    const account = await requireAccount(request);
    const wanted = listQuery(query);
    const last = wanted.marker.split('/')[0]!;
    const runs = await loggedRuns(environment.database, account, GUID.test(last) ? { from: last.toLowerCase() } : {});
    const found = await listBlobs(blobsOf(runs), wanted);
    return await reply
      .header('content-type', 'application/xml')
      .send(listXml(found, wanted, `${options.origin()}/${accountName(request)}/`, LOG_CONTAINER));
  }

  /** Files that are there; only those that the list gets to are looked at. */
  async function* blobsOf(runs: readonly LoggedRun[]): AsyncGenerator<ListedBlob> {
    for (const run of runs)
      for (const name of LOG_NAMES) {
        const file = await stat(logFile(environment.home.logs, run.id, name)).catch(missing);
        if (file?.isFile())
          yield {
            name: `${run.id}/${name}`,
            size: file.size,
            modified: file.mtime,
            created: run.created_at,
            etag: etagOf(file),
          };
      }
  }

  async function blob(request: FastifyRequest, reply: FastifyReply) {
    const { run: runId, name } = request.params as { run: string; name: string };
    const account = await requireAccount(request);
    const known = LOG_NAMES.find(one => one === name);
    const [run] = GUID.test(runId) ? await loggedRuns(environment.database, account, { id: runId.toLowerCase() }) : [];
    const file = run && known ? await open(logFile(environment.home.logs, run.id, known)).catch(missing) : undefined;
    if (!run || !file) throw new BlobError(404, 'BlobNotFound', 'The specified blob does not exist.');
    return await send(file, { ...LOG_BLOB, created: run.created_at }, request, reply).catch(async error => {
      await file.close();
      throw error;
    });
  }

  /** Ranges of a sparse file: what was never written is read as zeros, and nothing is held in memory. */
  async function vhd(request: FastifyRequest, reply: FastifyReply) {
    const { run: runId, name } = request.params as { run: string; name: string };
    const account = await requireAccount(request, VHD_CONTAINER);
    const found = GUID.test(runId)
      ? await stagedVhd(environment.database, account, runId.toLowerCase(), name)
      : undefined;
    const file = found && (await open(found.path).catch(missing));
    if (!file) throw new BlobError(404, 'BlobNotFound', 'The specified blob does not exist.');
    return await send(file, { ...VHD_BLOB, created: found.created_at }, request, reply).catch(async error => {
      await file.close();
      throw error;
    });
  }

  /** Errors: AuthorizationPermissionMismatch, ResourceNotFound. */
  async function requireAccount(request: FastifyRequest, of: string = LOG_CONTAINER): Promise<LogAccount> {
    const name = accountName(request);
    const account = ACCOUNT.test(name) ? await findLogAccount(environment.database, name) : undefined;
    if (!account) throw new BlobError(404, 'ResourceNotFound', 'The specified resource does not exist.');
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

interface Blob {
  readonly type: 'BlockBlob' | 'PageBlob';
  readonly contentType: string;
  readonly created: Date;
}

const LOG_BLOB = { type: 'BlockBlob', contentType: 'text/plain; charset=utf-8' } as const;
/** Azure keeps disks as page blobs. */
const VHD_BLOB = { type: 'PageBlob', contentType: 'application/octet-stream' } as const;

/** The file as it is now: what is appended meanwhile belongs to another ETag. Closes it, but for errors. */
async function send(file: FileHandle, blob: Blob, request: FastifyRequest, reply: FastifyReply) {
  const found = await file.stat();
  const etag = etagOf(found);
  reply.headers({
    'content-type': blob.contentType,
    'accept-ranges': 'bytes',
    etag,
    'last-modified': found.mtime.toUTCString(),
    'x-ms-creation-time': blob.created.toUTCString(),
    'x-ms-blob-type': blob.type,
    'x-ms-lease-status': 'unlocked',
    'x-ms-lease-state': 'available',
  });
  checkConditions(request, etag);
  // A HEAD asks for the properties of the whole.
  const range =
    request.method === 'GET'
      ? byteRange(header(request, 'x-ms-range') ?? header(request, 'range'), found.size)
      : undefined;
  if (range === 'unsatisfiable')
    throw new BlobError(416, 'InvalidRange', 'The range specified is invalid for the current size of the resource.', {
      'content-range': `bytes */${found.size}`,
    });
  const { start, end } = range ?? { start: 0, end: found.size - 1 };
  if (range) reply.status(206).header('content-range', `bytes ${start}-${end}/${found.size}`);
  reply.header('content-length', end - start + 1);
  if (request.method === 'HEAD' || found.size === 0) {
    await file.close();
    return await reply.send();
  }
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

function etagOf({ size, mtimeMs }: { readonly size: number; readonly mtimeMs: number }): string {
  return `"0x${createHash('sha256').update(`${size} ${mtimeMs}`).digest('hex').slice(0, 15).toUpperCase()}"`;
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
