/** The few calls of Microsoft Graph by which `az role assignment` finds out who is meant (az-wire 5). Whoever has signed in may read the directory. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { KilnError } from '../arm/errors.ts';
import { isObject } from '../arm/shape.ts';
import type { Principal } from '../directory/principals.ts';
import { parseBody } from './json-body.ts';
import type { SignInOptions } from './sign-in.ts';

/** As many as Graph itself takes in one call. */
const MOST_IDS = 1000;
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

  app.get('/v1.0/servicePrincipals', config, async request => {
    const all = (await directory.principals()).filter(({ type }) => type === 'ServicePrincipal');
    const value = all.filter(servicePrincipalFilter(filterOf(request))).map(servicePrincipal);
    return { '@odata.context': context('servicePrincipals'), value };
  });
  app.get('/v1.0/servicePrincipals/:id', config, async (request, reply) => {
    const { id } = request.params as { id: string };
    const found = await directory.principalOfObject(id);
    if (found?.type !== 'ServicePrincipal') return missing(reply, id);
    return { '@odata.context': context('servicePrincipals/$entity'), ...servicePrincipal(found) };
  });
  app.get('/v1.0/users', config, async request => {
    const filter = filterOf(request);
    const name = filter === undefined ? undefined : equals(filter, 'userPrincipalName');
    if (filter !== undefined && name === undefined) throw unsupported(filter);
    const users = (await directory.principals()).filter(
      ({ type, user_name }) =>
        type === 'User' && (name === undefined || user_name?.toLowerCase() === name.toLowerCase()),
    );
    return { '@odata.context': context('users'), value: users.map(user) };
  });
  app.post('/v1.0/directoryObjects/getByIds', { ...config, bodyLimit: 256 * 1024 }, async request => {
    const body = request.body;
    const ids = isObject(body) ? body.ids : undefined;
    if (!Array.isArray(ids) || ids.length > MOST_IDS || !ids.every(id => typeof id === 'string'))
      throw new KilnError('InvalidParameter', `'ids' must be a list of at most ${MOST_IDS} object ids.`, {
        target: 'ids',
      });
    const wanted = new Set((ids as string[]).map(id => id.toLowerCase()));
    const found = (await directory.principals()).filter(({ object_id }) => wanted.has(object_id));
    const value = found.map(one =>
      one.type === 'User'
        ? { '@odata.type': '#microsoft.graph.user', ...user(one) }
        : { '@odata.type': '#microsoft.graph.servicePrincipal', ...servicePrincipal(one) },
    );
    return { '@odata.context': context('directoryObjects'), value };
  });
}

function servicePrincipal(principal: Principal) {
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

function user(principal: Principal) {
  return { id: principal.object_id, displayName: principal.display_name, userPrincipalName: principal.user_name };
}

const filterOf = (request: FastifyRequest): string | undefined => {
  const filter = (request.query as Record<string, unknown>).$filter;
  return typeof filter === 'string' && filter.trim() !== '' ? filter.trim() : undefined;
};

/** The value of `field eq 'value'`; a quote in it is doubled. */
function equals(filter: string, field: string): string | undefined {
  const match = /^(\w+)\s+eq\s+'((?:[^']|'')*)'$/i.exec(filter);
  return match?.[1]?.toLowerCase() === field.toLowerCase() ? match[2]!.replaceAll("''", "'") : undefined;
}

/** The forms that `az` sends. Errors: InvalidParameter for others: an answer that ignored one would name the wrong principals. */
function servicePrincipalFilter(filter: string | undefined): (principal: Principal) => boolean {
  if (filter === undefined) return () => true;
  const name = /^servicePrincipalNames\/any\((\w+):\s*\1\s+eq\s+'((?:[^']|'')*)'\)$/i
    .exec(filter)?.[2]
    ?.replaceAll("''", "'");
  const clientId = name ?? equals(filter, 'appId');
  if (clientId !== undefined) return one => one.client_id === clientId.toLowerCase();
  const id = equals(filter, 'id');
  if (id !== undefined) return one => one.object_id === id.toLowerCase();
  const displayName = equals(filter, 'displayName');
  if (displayName !== undefined) return one => one.display_name.toLowerCase() === displayName.toLowerCase();
  const start = /^startswith\(displayName,\s*'((?:[^']|'')*)'\)$/i.exec(filter)?.[1]?.replaceAll("''", "'");
  if (start !== undefined) return one => one.display_name.toLowerCase().startsWith(start.toLowerCase());
  throw unsupported(filter);
}

const unsupported = (filter: string) =>
  new KilnError('InvalidParameter', `The filter '${filter.slice(0, 300)}' is not supported.`, { target: '$filter' });

/** Graph's own code: clients compare it. */
function missing(reply: FastifyReply, id: string) {
  const message = `Resource '${id.slice(0, 100)}' does not exist or one of its queried reference-property objects are not present.`;
  return reply.status(404).send({ error: { code: 'Request_ResourceNotFound', message } });
}
