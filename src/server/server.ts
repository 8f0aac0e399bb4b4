/** The front door: HTTPS, limits, who calls; then Resource Manager's rules (dispatch.ts). */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import rateLimit from '@fastify/rate-limit';
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify';
import type { Caller } from '../arm/caller.ts';
import { KilnError } from '../arm/errors.ts';
import { blobRefusal } from '../blobs/blob-error.ts';
import { linkPages } from '../blobs/page-blobs.ts';
import { openBlobStore } from '../blobs/store.ts';
import type { ServiceLog } from '../database/service-log.ts';
import type { Directory, SignInDirectory } from '../directory/directory.ts';
import type { OwnDoor } from '../images/catalogue/own-door.ts';
import type { Roles } from '../providers/authorization/roles.ts';
import type { ProviderEnvironment } from '../providers/provider.ts';
import { pathStyle } from './account-hosts.ts';
import { limitReading } from './answer-patience.ts';
import { addressOf, blobPath } from './blob-request.ts';
import { blobRoutes } from './blobs.ts';
import { limitBodies } from './body-patience.ts';
import { watchConnections } from './connections.ts';
import { core } from './core.ts';
import { type ArmRequest, type Dispatcher, dispatch, type Reply } from './dispatch.ts';
import { errorAnswer } from './envelope.ts';
import { limitFailedSignIns } from './failed-sign-ins.ts';
import { parseBody } from './json-body.ts';
import { operationUrl, RETRY_AFTER } from './operations.ts';
import { parsePath, withPlainScope } from './request-path.ts';
import { signInRoutes } from './sign-in.ts';
import { answerUnreadable } from './unreadable.ts';

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller | undefined;
    correlationId: string;
  }
}

export interface ServerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** PEM. */
  readonly tls: { readonly key: string; readonly cert: string };
  readonly environment: ProviderEnvironment;
  readonly directory: SignInDirectory;
  readonly roles: Roles;
  readonly log: ServiceLog;
  /** What clients call the server, when that is not its address: `https://kiln.example.org`. */
  readonly origin?: string;
  /** Requests of one caller in a second. */
  readonly rate?: number;
  /** How long a client may take to send a request (ms). */
  readonly patience?: number;
  /** Told of every request when it has been answered. */
  readonly onAnswer?: (request: AnsweredRequest) => void;
}

export interface AnsweredRequest {
  readonly method: string;
  /** Untrusted, without the query. */
  readonly path: string;
  readonly status: number;
  readonly milliseconds: number;
  /** Display name of the principal. */
  readonly caller: string | undefined;
}

export interface RunningServer {
  readonly origin: string;
  /** Answers what is under way, follows no more logs, and stops. */
  close(): Promise<void>;
}

/** Resource Manager's own limit for a request. */
const BODY_BYTES = 4 * 1024 * 1024;
const REQUEST_MS = 30_000;
/** How often Node looks for those that take longer; its own default lets them have another half minute. */
const LOOK_MS = 1_000;
const IDLE_MS = 75_000;
const MOST_CONNECTIONS = 2000;
const DEFAULT_RATE = 2000;

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { directory, log, patience = REQUEST_MS } = options;
  const app = Fastify({
    https: {
      key: options.tls.key,
      cert: options.tls.cert,
      minVersion: 'TLSv1.2',
      connectionsCheckingInterval: LOOK_MS,
      handshakeTimeout: patience,
    },
    bodyLimit: BODY_BYTES,
    // A client that sends slowly is cut off; one that is idle, too. Bodies have a limit of ours, since uploads have another one.
    requestTimeout: 0,
    connectionTimeout: 0,
    keepAliveTimeout: IDLE_MS,
    forceCloseConnections: 'idle',
    routerOptions: {
      caseSensitive: false,
      ignoreDuplicateSlashes: true,
      ignoreTrailingSlash: true,
      maxParamLength: 8192,
    },
    genReqId: () => randomUUID(),
    rewriteUrl: request => withPlainScope(pathStyle(request, origin)),
    clientErrorHandler: answerUnreadable,
    // Of a path that cannot be decoded; no hook has seen the request then.
    frameworkErrors(error, request, reply) {
      markAnswer(request, reply);
      sendError(error, request, reply, directory, log);
    },
    logger: false,
  });
  app.server.maxConnections = MOST_CONNECTIONS;
  app.server.headersTimeout = patience;
  limitBodies(app.server, patience);
  limitReading(app.server, patience);
  const connections = watchConnections(app.server);
  app.decorateRequest('caller', undefined);
  app.decorateRequest('correlationId', '');
  const closing = new AbortController();
  let origin = options.origin ?? '';

  app.addHook('onRequest', async (request, reply) => markAnswer(request, reply));
  const { onAnswer } = options;
  if (onAnswer)
    app.addHook('onResponse', async (request, reply) =>
      onAnswer({
        method: request.method,
        path: request.url.split('?')[0]!,
        status: reply.statusCode,
        milliseconds: reply.elapsedTime,
        caller: request.caller?.displayName,
      }),
    );
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply, directory, log));
  app.setNotFoundHandler((request, reply) =>
    sendError(
      new KilnError('NotFound', `There is nothing at ${request.url.split('?')[0]}.`),
      request,
      reply,
      directory,
      log,
    ),
  );
  await app.register(rateLimit, {
    global: false,
    timeWindow: 1000,
    max: options.rate ?? DEFAULT_RATE,
    hook: 'preHandler',
    keyGenerator: request => request.caller?.objectId ?? request.ip,
    errorResponseBuilder: (_request, { after }) =>
      new KilnError('TooManyRequests', `The caller sends more requests than the limit. Try again in ${after}.`),
  });
  limitFailedSignIns(app);
  await app.register(signInRoutes, { directory, origin: () => origin, log });
  const { engine, database, home } = options.environment;
  const store = openBlobStore({ database, home, owner: engine.worker, log });
  await app.register(blobRoutes, {
    store,
    patience,
    environment: options.environment,
    directory,
    roles: options.roles,
    origin: () => origin,
  });
  await app.register(async scope => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body, done) => {
      try {
        done(null, parseBody(body as Buffer, request.headers['content-type']));
      } catch (error) {
        done(error as Error);
      }
    });
    scope.addHook('onRequest', async request => {
      request.caller = await directory.authenticate(request.headers.authorization);
    });
    const dispatcher: Dispatcher = { environment: options.environment, roles: options.roles };
    const answer = async (request: FastifyRequest, reply: FastifyReply) => {
      const arm = armRequest(request, reply, origin, closing.signal);
      const result = (await core(dispatcher, arm)) ?? (await dispatch(dispatcher, arm));
      return await send(result, arm, reply);
    };
    const limit = { config: { rateLimit: {} } };
    for (const url of ['/subscriptions', '/subscriptions/*', '/tenants', '/providers', '/providers/*'])
      scope.route({ method: ['GET', 'HEAD', 'PUT', 'PATCH', 'POST', 'DELETE'], url, handler: answer, ...limit });
  });

  await store.tend({ isAlive: worker => engine.isAlive(worker) });
  await app.listen({ host: options.host, port: options.port });
  const address = app.server.address();
  const port = typeof address === 'object' && address ? address.port : options.port;
  origin ||= `https://${addressable(options.host)}:${port}`;
  const { doorway } = options.environment;
  const door: OwnDoor = {
    origin,
    address: loopbackOf(options.host),
    port,
    certificate: options.tls.cert,
    storageToken: directory.storageToken,
    async linkPages(url, file, etag) {
      const path = blobPath(pathStyle({ url: url.pathname, headers: { host: url.host } }, origin));
      if (path?.blob === undefined) throw blobRefusal('BlobNotFound');
      await linkPages(store, addressOf(path), file, { ifMatch: etag });
    },
  };
  if (doorway) doorway.door ??= door;
  return {
    origin,
    async close() {
      if (doorway?.door === door) doorway.door = undefined;
      closing.abort(new KilnError('Canceled', 'The server is closing.'));
      const closed = app.close();
      const stop = connections.end();
      await closed.finally(stop);
      await store.close();
    },
  };
}

/** What every answer carries. No Strict-Transport-Security: browsers would keep it for all ports of a host, the loopback's too. */
function markAnswer(request: FastifyRequest, reply: FastifyReply): void {
  const given = request.headers['x-ms-correlation-request-id'];
  request.correlationId = typeof given === 'string' && /^[\w.-]{1,64}$/.test(given) ? given : request.id;
  reply.headers({
    'x-ms-request-id': request.id,
    'x-ms-correlation-request-id': request.correlationId,
    'x-ms-routing-request-id': request.id,
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
  });
  const client = request.headers['x-ms-client-request-id'];
  if (typeof client === 'string' && /^[\w.-]{1,128}$/.test(client)) reply.header('x-ms-client-request-id', client);
}

/** A host as URLs have it. The addresses that mean "all of this host's" are none that a client can call. */
function addressable(host: string): string {
  if (host === '0.0.0.0' || host === '::') return hostname().toLowerCase();
  return host.includes(':') ? `[${host}]` : host;
}

/** Where this process reaches itself. */
const loopbackOf = (host: string): string => (host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host);

/** Path and query. A proxy's form of the request line has the whole URL (RFC 9112, 3.2.2); its host is ours or not, as in the Host header. */
function targetOf({ raw }: FastifyRequest): string {
  return (raw.url ?? '/').replace(/^https?:\/\/[^/?]*/i, '');
}

/** Azure's own parameters have names without case. */
function parameters(url: URL): URLSearchParams {
  const entries = [...url.searchParams];
  return new URLSearchParams(
    entries.map(([name, value]): [string, string] => [
      /^(api-version|\$[a-z]+)$/i.test(name) ? name.toLowerCase() : name,
      value,
    ]),
  );
}

function armRequest(request: FastifyRequest, reply: FastifyReply, origin: string, closing: AbortSignal): ArmRequest {
  const raw = targetOf(request);
  const path = parsePath(raw.split('?')[0]!);
  if (!path) throw new KilnError('NotFound', 'The path of the request is none that can be read.');
  const gone = new AbortController();
  // Of the answer, not of the connection: that one outlives it, with all the listeners that requests would leave on it.
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  const url = new URL(`${origin}${raw}`);
  const header = (name: string) => {
    const value = request.headers[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    method: request.method,
    path,
    url,
    query: parameters(url),
    body: request.body,
    ifMatch: header('if-match'),
    ifNoneMatch: header('if-none-match'),
    accept: header('accept'),
    lastEventId: header('last-event-id'),
    caller: request.caller!,
    correlationId: request.correlationId,
    origin,
    signal: AbortSignal.any([closing, gone.signal]),
  };
}

async function send(result: Reply, request: ArmRequest, reply: FastifyReply): Promise<FastifyReply> {
  reply.status(result.status);
  if ('stream' in result) {
    const { Readable } = await import('node:stream');
    return reply.header('content-type', result.contentType).send(Readable.from(result.stream));
  }
  if (result.headers) reply.headers(result.headers);
  if (result.operation) {
    const url = operationUrl(request, result.operation);
    reply.header('azure-asyncoperation', url).header('retry-after', RETRY_AFTER);
    const monitor = request.path.namespace?.toLowerCase() === 'microsoft.compute';
    if (result.status === 202) reply.header('location', operationUrl(request, result.operation, { monitor }));
  }
  if (result.body === undefined) return reply.send();
  return reply.header('content-type', 'application/json; charset=utf-8').send(JSON.stringify(result.body));
}

function sendError(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  directory: Directory,
  log: ServiceLog,
): FastifyReply {
  const [path = '', search = ''] = targetOf(request).split('?');
  const query = new URLSearchParams(search);
  const { status, body, error, gateway } = errorAnswer(wellKnown(thrown), {
    namespace: parsePath(path)?.namespace,
    apiVersion: query.get('api-version') ?? undefined,
  });
  if (status >= 500)
    log('error', 'A request failed.', {
      correlationId: request.correlationId,
      method: request.method,
      error: String((thrown as Error)?.stack ?? thrown),
    });
  if (status === 401) reply.header('www-authenticate', directory.challenge(error));
  if (gateway) reply.header('x-ms-failure-cause', 'gateway');
  return reply.status(status).header('content-type', 'application/json; charset=utf-8').send(JSON.stringify(body));
}

/** Fastify's own refusals, in words of the catalogue. */
function wellKnown(thrown: unknown): unknown {
  if (thrown instanceof KilnError) return thrown;
  const { code, statusCode, message } = thrown as { code?: string; statusCode?: number; message?: string };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE' || statusCode === 413)
    return new KilnError('RequestEntityTooLarge', `The request is larger than ${BODY_BYTES / 1024 / 1024} MiB.`);
  if (code?.startsWith('FST_ERR_CTP') || statusCode === 415)
    return new KilnError('UnsupportedMediaType', message ?? 'The content type is not supported.');
  if (code === 'FST_ERR_BAD_URL')
    return new KilnError(
      'InvalidRequestContent',
      'The address of the request is not well encoded: a % needs two hexadecimal digits of UTF-8.',
    );
  if (statusCode === 400) return new KilnError('InvalidRequestContent', message ?? 'The request cannot be read.');
  return thrown;
}
