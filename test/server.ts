/**
 * The real server in the test's own process: its own state directory, PostgreSQL and certificates, any free port of the loopback, and an administrator who
 * signs in at the real token endpoint. Every answer is judged by Microsoft's OpenAPI files, where they are.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request as send } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { OWNER } from '../src/arm/role-ids.ts';
import type { ServiceLog } from '../src/database/service-log.ts';
import { openDirectory } from '../src/directory/directory.ts';
import { addSecret, createPrincipal } from '../src/directory/principals.ts';
import { openRoles } from '../src/providers/authorization/open-roles.ts';
import { ensureSubscription } from '../src/providers/resources/subscriptions.ts';
import { openTls } from '../src/server/certificates.ts';
import { startServer } from '../src/server/server.ts';
import { openService, type Service } from '../src/service.ts';
import { temporaryHome } from './kiln.ts';
import { emptyCatalogue, type GuestlessMachines, guestlessMachines } from './wire/machines.ts';
import { type Contract, contractOf, readDocuments, specsDirectory } from './wire/openapi.ts';

export interface RequestOptions {
  /** Sent as JSON; text and bytes as they are. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Added to the query. */
  readonly apiVersion?: string;
  /** Default: the administrator's. `null`: none. */
  readonly token?: string | null;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** JSON is parsed; other text as it is; undefined for none. */
  readonly body: unknown;
  readonly text: string;
}

export interface TestPrincipal {
  readonly objectId: string;
  readonly clientId: string;
  readonly secret: string;
  /** For Resource Manager. */
  readonly token: string;
}

export interface TestServer {
  readonly origin: string;
  /** PEM. */
  readonly ca: string;
  readonly service: Service;
  readonly machines: GuestlessMachines;
  readonly administrator: TestPrincipal;
  /** What answers were wrong by Microsoft's files, each said once. */
  readonly violations: readonly string[];
  /** Operations of those files that were seen; empty without them. */
  readonly covered: ReadonlySet<string>;
  /** The judge; undefined without the files. */
  readonly contract: Contract | undefined;
  /** What the service logged as an error. */
  readonly errors: readonly string[];
  /** `path` may be a whole URL, as in a poll, or of another door. Rejects when no answer comes for ten seconds. */
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>;
  /** Polls the operation that an answer names until it has ended. @returns its last answer. */
  settled(answer: Answer, options?: RequestOptions): Promise<Answer>;
  /** Bytes over TLS as they are; resolves with what came back when the server has closed the connection. */
  raw(bytes: string | Uint8Array): Promise<string>;
  /** A second front door on the same state, with limits of its own. Gone with this server. */
  door(limits: Limits): Promise<Pick<TestServer, 'origin' | 'raw'>>;
  /** A new principal, with a role where one is named; signed in at the token endpoint. */
  principal(name: string, role?: { readonly id: string; readonly scope: string }): Promise<TestPrincipal>;
  close(): Promise<void>;
}

export interface Limits {
  /** Requests of a caller in a second. */
  readonly rate?: number;
  /** How long a client may take to send a request (ms). */
  readonly patience?: number;
}

export interface TestServerOptions {
  /** How many operations run at a time. 0: none, what is submitted stays queued. Default: 4. */
  readonly concurrency?: number;
  /** `publisher:offer:sku` with a version: small empty disks. */
  readonly catalogue?: Readonly<Record<string, string>>;
  readonly subscriptions?: readonly string[];
  /** `kiln serve --strict`. */
  readonly strict?: boolean;
  /** Puts something into the state directory before it is opened. */
  readonly prepare?: (home: string) => Promise<void>;
}

/** Of tests' resources. */
export const SUBSCRIPTION = '00000000-0000-4000-8000-000000000001';
const PATIENCE = 10_000;

export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const stack = new AsyncDisposableStack();
  try {
    const temporary = await temporaryHome();
    stack.defer(() => temporary.remove());
    // Small empty disks have no place in a cache that real builds use.
    process.env.KILN_CACHE = join(temporary.path, 'cache');
    await emptyCatalogue(temporary.path, options.catalogue ?? { 'Canonical:UbuntuServer:18.04-LTS': '18.4.0' });
    await options.prepare?.(temporary.path);
    const errors: string[] = [];
    const log: ServiceLog = (level, message, details) => {
      if (level === 'error') errors.push(`${message} ${JSON.stringify(details ?? {})}`);
    };
    const machines = guestlessMachines();
    const operator = { reviseTemplates: false, localDownloads: true, strict: options.strict ?? false };
    const service = await openService({ home: temporary.path, log, machines, options: operator });
    stack.defer(() => service.close());
    stack.defer(() => machines.release());
    for (const id of [SUBSCRIPTION, ...(options.subscriptions ?? [])])
      await ensureSubscription(service.database.kysely, id);
    const concurrency = options.concurrency ?? 4;
    if (concurrency > 0) await service.engine.serve({ concurrency });
    let origin = '';
    const directory = await openDirectory({
      home: service.home,
      database: service.database,
      origin: () => origin,
      log,
    });
    stack.defer(() => directory.close());
    const roles = await openRoles(service.database, log);
    stack.defer(() => roles.close());
    const tls = await openTls(service.home, { hosts: [] });
    const open = async (limits: Limits) => {
      const { environment } = service;
      const running = await startServer({
        host: '127.0.0.1',
        port: 0,
        tls,
        environment,
        directory,
        roles,
        log,
        ...limits,
      });
      doors.defer(() => running.close());
      return running;
    };
    const doors = stack.use(new AsyncDisposableStack());
    const { origin: first } = await open({ rate: 100_000 });
    origin = first;
    const ca = await readFile(tls.caPath, 'utf8');
    const agent = new Agent({ keepAlive: true, ca, maxSockets: 64 });
    stack.defer(() => agent.destroy());
    const judge = judgeOf();

    const exchange = (method: string, url: URL, headers: Record<string, string>, body?: string | Uint8Array) =>
      new Promise<Answer>((resolve, reject) => {
        const outgoing = send(url, { method, headers, agent, timeout: PATIENCE }, incoming => {
          const chunks: Buffer[] = [];
          incoming.on('data', chunk => chunks.push(chunk));
          incoming.once('error', reject);
          incoming.once('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            const isJson = /json/.test(incoming.headers['content-type'] ?? '') && text !== '';
            resolve({
              status: incoming.statusCode!,
              headers: incoming.headers,
              body: isJson ? JSON.parse(text) : text === '' ? undefined : text,
              text,
            });
          });
        });
        outgoing.once('timeout', () => outgoing.destroy(new Error(`No answer to ${method} ${url.pathname}`)));
        outgoing.once('error', reject);
        outgoing.end(body);
      });

    const signIn = async (clientId: string, secret: string): Promise<string> => {
      const url = new URL(`/${directory.tenantId}/oauth2/v2.0/token`, origin);
      const form = new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: clientId,
        client_secret: secret,
        scope: `${origin}/.default`,
      });
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      const answer = await exchange('POST', url, headers, form.toString());
      const token = (answer.body as { access_token?: string } | undefined)?.access_token;
      if (!token) throw new Error(`The sign-in failed: ${answer.status} ${answer.text}`);
      return token;
    };

    const principal: TestServer['principal'] = async (name, role) => {
      const { kysely } = service.database;
      const created = await createPrincipal(kysely, { displayName: name, kind: 'Application' });
      const { secret } = await addSecret(kysely, created.object_id);
      if (role)
        await kysely
          .insertInto('role_assignment')
          .values({
            id: randomUUID(),
            scope: role.scope.toLowerCase(),
            display_scope: role.scope,
            principal_id: created.object_id,
            principal_type: 'ServicePrincipal',
            role_definition_id: role.id,
          })
          .execute();
      const token = await signIn(created.client_id, secret);
      return { objectId: created.object_id, clientId: created.client_id, secret, token };
    };
    const administrator = await principal('administrator', { id: OWNER, scope: '/' });

    const request: TestServer['request'] = async (method, path, { body, headers, apiVersion, token } = {}) => {
      // Not `new URL(path, origin)`: two slashes at the beginning would be a host.
      const url = new URL(path.startsWith('/') ? `${origin}${path}` : path);
      if (apiVersion !== undefined) url.searchParams.set('api-version', apiVersion);
      const isRaw = typeof body === 'string' || body instanceof Uint8Array;
      const payload = body === undefined ? undefined : isRaw ? body : JSON.stringify(body);
      const answer = await exchange(
        method,
        url,
        {
          ...(token !== null && { authorization: `Bearer ${token ?? administrator.token}` }),
          ...(payload !== undefined && {
            'content-type': 'application/json',
            'content-length': String(Buffer.byteLength(payload)),
          }),
          ...headers,
        },
        payload,
      );
      judge.check(method, `${url.pathname}${url.search}`, answer);
      return answer;
    };

    const owned = stack.move();
    return {
      origin,
      ca,
      service,
      machines,
      administrator,
      violations: judge.violations,
      covered: judge.contract?.covered ?? new Set(),
      contract: judge.contract,
      errors,
      request,
      async settled(answer, options_) {
        const url = answer.headers['azure-asyncoperation'] ?? answer.headers.location;
        if (typeof url !== 'string') throw new Error(`The answer names no operation: ${answer.status} ${answer.text}`);
        const operation = /operations\/([0-9a-f-]{36})/i.exec(url)?.[1];
        // Waited for in the same process: the poll after it is then the last.
        if (operation) await service.engine.wait(operation, { signal: AbortSignal.timeout(PATIENCE * 2) });
        return await request('GET', url, options_);
      },
      raw: bytes => overTls(origin, ca, bytes),
      async door(limits) {
        const second = await open(limits);
        return { origin: second.origin, raw: bytes => overTls(second.origin, ca, bytes) };
      },
      principal,
      close: () => owned.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

interface Judge {
  readonly violations: readonly string[];
  readonly contract: Contract | undefined;
  check(method: string, path: string, answer: Answer): void;
}

function judgeOf(): Judge {
  const specs = specsDirectory();
  const contract: Contract | undefined = 'path' in specs ? contractOf(readDocuments(specs.path)) : undefined;
  const said = new Set<string>();
  const violations: string[] = [];
  return {
    violations,
    contract,
    check(method, path, { status, headers, body }) {
      for (const problem of contract?.checkAnswer({ method, path, status, headers, body }) ?? []) {
        // One sentence for all items of a list.
        const kind = problem.replaceAll(/\/\d+(?=\/|\s)/g, '/#');
        if (said.has(kind)) continue;
        said.add(kind);
        violations.push(`${problem} (${method} ${path}: ${JSON.stringify(body)?.slice(0, 500)})`);
      }
    },
  };
}

function overTls(origin: string, ca: string, bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(origin);
    const socket = connect({ host: hostname, port: Number(port), ca });
    const chunks: Buffer[] = [];
    socket.setTimeout(PATIENCE, () => socket.destroy(new Error('The server neither answers nor closes.')));
    socket.on('data', chunk => chunks.push(chunk));
    socket.once('error', error => (chunks.length > 0 ? undefined : reject(error)));
    socket.once('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.write(bytes);
  });
}
