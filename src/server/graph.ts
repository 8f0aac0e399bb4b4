/**
 * The few calls of Microsoft Graph by which `az role assignment` and `az ad sp` find out who is meant (az-wire 5). Whoever has signed in may read the
 * directory; nobody changes it here: `kiln principal` does.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { KilnError } from '../arm/errors.ts';
import { isObject, type JsonObject } from '../arm/shape.ts';
import type { Principal } from '../directory/principals.ts';
import { principalFilter } from './graph-filter.ts';
import { parseBody } from './json-body.ts';
import type { SignInOptions } from './sign-in.ts';

/** As many as Graph itself takes in one call. */
const MOST_IDS = 1000;
const PAGE = 100;
const MOST = 999;
const GRAPH_RATE = { max: 100, timeWindow: 1000, keyGenerator: (request: FastifyRequest) => request.ip };

export async function graphRoutes(app: FastifyInstance, { directory, origin }: SignInOptions): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body, done) => {
    try {
      done(null, parseBody(body as Buffer, request.headers['content-type']));
    } catch (error) {
      done(error as Error);
    }
  });
  app.addHook('onRequest', async request => {
    request.caller = await directory.authenticate(request.headers.authorization, 'graph');
  });
  const config = { config: { rateLimit: GRAPH_RATE } };
  const context = (set: string) => `${origin()}/v1.0/$metadata#${set}`;
  const list = async (request: FastifyRequest, set: string, isOne: (principal: Principal) => boolean) => {
    const filter = parameter(request, '$filter');
    const wanted = filter === undefined ? () => true : principalFilter(filter);
    const all = (await directory.principals()).filter(one => isOne(one) && wanted(one));
    const { size, skip } = pageOf(request);
    const next = new URL(`${origin()}${request.url.replace(/^\/+/, '/')}`);
    next.searchParams.set('$skiptoken', String(skip + size));
    return {
      '@odata.context': context(set),
      ...(all.length > skip + size && { '@odata.nextLink': next.href }),
      value: all.slice(skip, skip + size).map(one => selected(request, shown(one))),
    };
  };
  const one = async (request: FastifyRequest, reply: FastifyReply, type: Principal['type'], set: string) => {
    const { id } = request.params as { id: string };
    const found = await directory.principalOfObject(id);
    if (found?.type !== type) return missing(reply, id);
    return { '@odata.context': context(`${set}/$entity`), ...selected(request, shown(found)) };
  };

  app.get('/v1.0/servicePrincipals', config, request =>
    list(request, 'servicePrincipals', ({ type }) => type === 'ServicePrincipal'),
  );
  app.get('/v1.0/servicePrincipals/:id', config, (request, reply) =>
    one(request, reply, 'ServicePrincipal', 'servicePrincipals'),
  );
  app.get('/v1.0/users', config, request => list(request, 'users', ({ type }) => type === 'User'));
  app.get('/v1.0/users/:id', config, (request, reply) => one(request, reply, 'User', 'users'));
  // There are none; a filter still has to be one.
  app.get('/v1.0/groups', config, request => list(request, 'groups', () => false));
  app.get('/v1.0/groups/:id', config, (request, reply) => missing(reply, (request.params as { id: string }).id));
  app.get('/v1.0/directoryObjects/:id', config, async (request, reply) => {
    const { id } = request.params as { id: string };
    const found = await directory.principalOfObject(id);
    if (!found) return missing(reply, id);
    return { '@odata.context': context('directoryObjects/$entity'), ...typed(found) };
  });
  app.post('/v1.0/directoryObjects/getByIds', { ...config, bodyLimit: 256 * 1024 }, async request => {
    const body = isObject(request.body) ? request.body : {};
    const ids = texts(body.ids);
    if (!ids || ids.length > MOST_IDS)
      throw new KilnError('InvalidParameter', `'ids' must be a list of at most ${MOST_IDS} object ids.`, {
        target: 'ids',
      });
    const types = body.types === undefined || body.types === null ? undefined : texts(body.types);
    if (types === undefined && body.types !== undefined && body.types !== null)
      throw new KilnError('InvalidParameter', "'types' must be a list of kinds of objects.", { target: 'types' });
    const kinds = types?.map(type => type.toLowerCase());
    const wanted = new Set(ids.map(id => id.toLowerCase()));
    const found = (await directory.principals()).filter(
      ({ object_id, type }) =>
        wanted.has(object_id) && (!kinds || kinds.includes('directoryobject') || kinds.includes(type.toLowerCase())),
    );
    return { '@odata.context': context('directoryObjects'), value: found.map(typed) };
  });
  app.get('/v1.0/me', config, (_request, reply) =>
    failure(reply, 400, 'BadRequest', '/me request is only valid with delegated authentication flow.'),
  );
  app.all('/v1.0/*', config, (request, reply) =>
    failure(
      reply,
      request.method === 'GET' ? 404 : 405,
      request.method === 'GET' ? 'ResourceNotFound' : 'Request_BadRequest',
      `${request.method} ${request.url.split('?')[0]!.slice(0, 200)} is none of the calls of Microsoft Graph that Kiln answers. Principals are made and removed by \`kiln principal\`.`,
    ),
  );
}

function shown(principal: Principal): JsonObject {
  if (principal.type === 'User')
    return { id: principal.object_id, displayName: principal.display_name, userPrincipalName: principal.user_name };
  const isIdentity = principal.kind === 'ManagedIdentity';
  return {
    id: principal.object_id,
    appId: principal.client_id,
    accountEnabled: true,
    displayName: principal.display_name,
    appDisplayName: isIdentity ? null : principal.display_name,
    createdDateTime: principal.created_at.toISOString(),
    servicePrincipalNames: [principal.client_id],
    servicePrincipalType: principal.kind,
    alternativeNames: isIdentity ? ['isExplicit=True', principal.resource_id] : [],
  };
}

/** Among objects of several kinds. */
const typed = (principal: Principal): JsonObject => ({
  '@odata.type': `#microsoft.graph.${principal.type === 'User' ? 'user' : 'servicePrincipal'}`,
  ...shown(principal),
});

function selected(request: FastifyRequest, object: JsonObject): JsonObject {
  const names = parameter(request, '$select')
    ?.split(',')
    .map(name => name.trim().toLowerCase());
  if (!names) return object;
  return Object.fromEntries(Object.entries(object).filter(([name]) => names.includes(name.toLowerCase())));
}

function pageOf(request: FastifyRequest): { readonly size: number; readonly skip: number } {
  const whole = (name: string, fallback: number): number => {
    const text = parameter(request, name);
    if (text === undefined) return fallback;
    if (/^\d{1,9}$/.test(text)) return Number(text);
    throw new KilnError('InvalidParameter', `The value of ${name} is no whole number.`, { target: name });
  };
  const size = whole('$top', PAGE);
  if (size < 1 || size > MOST)
    throw new KilnError('InvalidParameter', `Invalid page size specified: '${size}'. Must be between 1 and ${MOST}.`, {
      target: '$top',
    });
  return { size, skip: whole('$skiptoken', 0) };
}

function parameter(request: FastifyRequest, name: string): string | undefined {
  const value = (request.query as Record<string, unknown>)[name];
  return typeof value === 'string' && value.trim() !== '' ? value.trim() : undefined;
}

const texts = (value: unknown): readonly string[] | undefined =>
  Array.isArray(value) && value.every(one => typeof one === 'string') ? value : undefined;

/** Graph's own codes: clients compare them. */
function failure(reply: FastifyReply, status: number, code: string, message: string) {
  return reply.status(status).send({ error: { code, message } });
}

const missing = (reply: FastifyReply, id: string) =>
  failure(
    reply,
    404,
    'Request_ResourceNotFound',
    `Resource '${id.slice(0, 100)}' does not exist or one of its queried reference-property objects are not present.`,
  );
