import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import rateLimit from '@fastify/rate-limit';
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify';
import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import { LOCAL_TENANT, resourceGroupId, resourceId } from '../arm/ids.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { openDirectory, type SignInDirectory } from '../directory/directory.ts';
import { openKeys } from '../directory/keys.ts';
import { addSecret, createPrincipal, type Principal, removePrincipal } from '../directory/principals.ts';
import { type Home, openHome } from '../home.ts';
import { putValidated } from '../providers/life.ts';
import { putIdentity } from '../providers/managed-identity/identity-principal.ts';
import { resourceGroups } from '../providers/resources/resource-groups.ts';
import { errorAnswer } from './envelope.ts';
import { signInRoutes } from './sign-in.ts';
import { SIGN_IN_RATE } from './sign-in-answers.ts';

delete process.env.DATABASE_URL;
const ORIGIN = 'https://127.0.0.1:8443';
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const log = () => {};

let home: Home;
let database: Database;
let directory: SignInDirectory;
let app: FastifyInstance;
let principal: Principal;
let secret: string;
/** Each test has an address of its own, and so a limit of its own. */
let address = 0;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-sign-in-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log });
  directory = await openDirectory({ home, database, log, origin: () => ORIGIN });
  app = Fastify({
    routerOptions: { caseSensitive: false, ignoreDuplicateSlashes: true, ignoreTrailingSlash: true },
  });
  app.decorateRequest('caller', undefined);
  app.decorateRequest('correlationId', 'c0ffee');
  app.setErrorHandler((error, _request, reply) => {
    const { status, body } = errorAnswer(error);
    return reply.status(status).send(body);
  });
  await app.register(rateLimit, { global: false, hook: 'preHandler' });
  await app.register(signInRoutes, { directory, origin: () => ORIGIN, log });
  principal = await createPrincipal(database.kysely, { displayName: "O'Neill", kind: 'Application' });
  ({ secret } = await addSecret(database.kysely, principal.object_id));
});
after(async () => {
  await app?.close();
  await directory?.close();
  await database?.close();
  await rm(home.root, { recursive: true, force: true });
});

async function ask(options: InjectOptions) {
  const answer = await app.inject({ remoteAddress: `192.0.2.${address}`, ...options });
  return { status: answer.statusCode, headers: answer.headers, body: answer.json() };
}

const get = (url: string, headers: Record<string, string> = {}) => ask({ method: 'GET', url, headers });
const post = (url: string, form: Record<string, string>, headers: Record<string, string> = {}) =>
  ask({ method: 'POST', url, headers: { ...FORM, ...headers }, payload: new URLSearchParams(form).toString() });

/** What MSAL sends. */
const credentials = (scope = 'https://management.local//.default') => ({
  client_id: principal.client_id,
  client_secret: secret,
  grant_type: 'client_credentials',
  client_info: '1',
  scope,
});

test('a client finds its way from the metadata to a token that the published keys prove', async () => {
  address += 1;
  const metadata = await get('//metadata/endpoints?api-version=2015-01-01');
  assert.deepEqual(metadata.body.authentication, {
    loginEndpoint: `${ORIGIN}/adfs`,
    audiences: ['https://management.local/'],
  });
  for (const authority of [metadata.body.authentication.loginEndpoint, `${ORIGIN}/${LOCAL_TENANT}/v2.0`]) {
    const found = await get(`${authority.slice(ORIGIN.length)}/.well-known/openid-configuration`);
    assert.equal(found.status, 200);
    const path = (url: string) => url.slice(ORIGIN.length);
    const token = await post(path(found.body.token_endpoint), credentials());
    assert.equal(token.status, 200);
    assert.equal(token.headers['cache-control'], 'no-store, no-cache');
    assert.equal(token.body.token_type, 'Bearer');
    assert.ok(token.body.expires_in > 3000);
    const keys = createLocalJWKSet((await get(path(found.body.jwks_uri))).body);
    const { payload } = await jwtVerify(token.body.access_token, keys, { issuer: found.body.issuer });
    assert.equal(payload.aud, 'https://management.local/');
    const caller = await directory.authenticate(`Bearer ${token.body.access_token}`);
    assert.equal(caller.objectId, principal.object_id);
  }
});

test('every form of the token endpoint gives tokens', async () => {
  address += 1;
  const { scope: _, ...form } = credentials();
  const old = await post(`/${LOCAL_TENANT}/oauth2/token`, { ...form, resource: 'https://management.azure.com/' });
  assert.equal(old.body.resource, 'https://management.azure.com/');
  assert.equal(typeof old.body.expires_in, 'string');
  assert.equal(Number(old.body.expires_on) - Number(old.body.not_before), 3600);
  for (const url of [
    '/adfs/oauth2/token/',
    `/adfs/${LOCAL_TENANT}/oauth2/v2.0/token`,
    '/common/oauth2/v2.0/token',
    `/${LOCAL_TENANT.toUpperCase()}/oauth2/v2.0/token`,
  ])
    assert.equal((await post(url, credentials())).status, 200, url);
  const { client_id, client_secret, ...rest } = credentials();
  const basic = Buffer.from(`${client_id}:${encodeURIComponent(client_secret)}`).toString('base64');
  const answer = await post('/adfs/oauth2/token', rest, { authorization: `Basic ${basic}` });
  assert.equal(decodeJwt(answer.body.access_token).appid, principal.client_id);
});

test('a wrong request is refused in the words of Microsoft Entra', async () => {
  address += 1;
  const cases: [Record<string, string>, number, string, RegExp][] = [
    [{ client_secret: 'wrong' }, 401, 'invalid_client', /^AADSTS7000215: Invalid client secret provided\./],
    [{ client_id: LOCAL_TENANT }, 400, 'unauthorized_client', /^AADSTS700016: /],
    [{ client_id: "x'; drop table principal" }, 400, 'unauthorized_client', /^AADSTS700016: /],
    [{ client_secret: '' }, 401, 'invalid_client', /^AADSTS7000218: /],
    [{ grant_type: 'password' }, 400, 'unsupported_grant_type', /^AADSTS70003: .*'password'/],
    [{ grant_type: '' }, 400, 'invalid_request', /^AADSTS900144: .*'grant_type'/],
    [{ scope: '' }, 400, 'invalid_request', /^AADSTS900144: .*'scope'/],
    [{ scope: 'user.read' }, 400, 'invalid_scope', /^AADSTS1002012: /],
    [{ scope: 'https://vault.azure.net/.default' }, 400, 'invalid_resource', /^AADSTS500011: /],
  ];
  for (const [change, status, error, description] of cases) {
    const answer = await post('/adfs/oauth2/token', { ...credentials(), ...change });
    assert.equal(answer.status, status, JSON.stringify(change));
    assert.equal(answer.body.error, error);
    assert.match(answer.body.error_description, description);
    assert.deepEqual(answer.body.error_codes, [Number(/\d+/.exec(answer.body.error_description)![0])]);
    assert.ok(!JSON.stringify(answer.body).includes(secret));
  }
  const twice = `${new URLSearchParams(credentials())}&client_id=other`;
  const doubled = await ask({ method: 'POST', url: '/adfs/oauth2/token', headers: FORM, payload: twice });
  assert.equal(doubled.body.error, 'invalid_request');
  const tenant = await post('/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token', credentials());
  assert.match(tenant.body.error_description, /^AADSTS90002: /);
  const large = await post('/adfs/oauth2/token', { ...credentials(), junk: 'x'.repeat(70_000) });
  assert.equal(large.status, 400);
  const json = { method: 'POST', url: '/adfs/oauth2/token', payload: credentials() } as const;
  assert.equal((await ask(json)).body.error, 'invalid_request');
});

test('sign-ins from one address are limited', async () => {
  address += 1;
  const burst = await Promise.all(
    Array.from({ length: SIGN_IN_RATE.max * 4 }, () => post('/adfs/oauth2/token', { grant_type: 'none' })),
  );
  const refused = burst.filter(({ status }) => status === 429);
  assert.ok(refused.length > 0);
  assert.equal(refused[0]!.body.error, 'temporarily_unavailable');
  address += 1;
  assert.equal((await post('/adfs/oauth2/token', credentials())).status, 200);
});

test('the metadata has the form of each api-version', async () => {
  for (const version of ['2019-05-01', '2020-06-01']) {
    const { body } = await get(`/metadata/endpoints?api-version=${version}`);
    assert.equal(body.length, 1, version);
    assert.equal(body[0].name, 'Kiln');
  }
  const { body } = await get('/metadata/endpoints?api-version=2022-09-01');
  assert.equal(body.resourceManager, `${ORIGIN}/`);
  assert.equal(body.authentication.audiences[0], 'https://management.local/');
  assert.equal(body.suffixes.storage, 'core.localhost:8443');
  const wrong = await get('/metadata/endpoints?api-version=1999-01-01');
  assert.equal(wrong.status, 400);
  assert.equal((await get('/metadata/endpoints')).body.error.code, 'MissingApiVersionParameter');
  const cloud = await get('/metadata/az-cloud-config');
  assert.equal(cloud.body.endpoints.activeDirectory, `${ORIGIN}/adfs`);
  const { Linux } = (await get('/aliases.json')).body.outputs.aliases.value;
  assert.equal(Linux.Debian12.offer, 'debian-12');
  assert.ok(Linux.Ubuntu2204.sku);
  const discovery = await get('/common/discovery/instance?api-version=1.1');
  assert.deepEqual(discovery.body.metadata[0].aliases, ['127.0.0.1:8443']);
});

async function identity() {
  const S = '11111111-2222-3333-4444-555555555555';
  const group = resourceGroupId(S, 'g');
  await putValidated(database.kysely, resourceGroups, {
    id: group,
    body: { location: 'eastus' },
    apiVersion: '2021-04-01',
  });
  const id = resourceId(S, 'g', 'Microsoft.ManagedIdentity/userAssignedIdentities', 'builder');
  const { resource } = await database.kysely
    .transaction()
    .execute(trx => putIdentity(trx, { id, body: { location: 'eastus' }, apiVersion: '2023-01-31' }));
  return resource.properties as { principalId: string; clientId: string };
}

test('a managed identity gets tokens by both protocols of App Service', async () => {
  address += 1;
  const { principalId, clientId } = await identity();
  const header = (await openKeys(home)).identityHeader(principalId);
  const resource = encodeURIComponent('https://management.azure.com/');
  const now = await get(`/msi/token?api-version=2019-08-01&resource=${resource}&client_id=${clientId}`, {
    'x-identity-header': header,
  });
  assert.equal(now.status, 200);
  assert.match(now.body.expires_on, /^\d{10}$/);
  assert.equal(now.body.client_id, clientId);
  assert.equal((await directory.authenticate(`Bearer ${now.body.access_token}`)).objectId, principalId);
  // az 2.45 puts a slash before its query.
  const before = await get(`/msi/token/?resource=${resource}&api-version=2017-09-01`, { secret: header });
  assert.match(before.body.expires_on, /^\d\d\/\d\d\/\d{4} [\d:]{8} \+00:00$/);
  assert.equal(decodeJwt(before.body.access_token).tid, LOCAL_TENANT);

  const query = `/msi/token?api-version=2019-08-01&resource=${resource}`;
  assert.equal((await get(query)).status, 401);
  assert.equal((await get(query, { secret: header })).status, 401);
  assert.equal((await get(query, { 'x-identity-header': `${header}x` })).status, 401);
  const other = await get(`${query}&client_id=${LOCAL_TENANT}`, { 'x-identity-header': header });
  assert.equal(other.status, 400);
  assert.equal(other.body.statusCode, 400);
  assert.equal((await get('/msi/token?api-version=2019-08-01', { 'x-identity-header': header })).status, 400);
  assert.equal((await get(`/msi/token?resource=${resource}`, { 'x-identity-header': header })).status, 400);
});

test('the directory is read with a token for it, by the filters of az', async () => {
  address += 1;
  const read = async (url: string, init: InjectOptions = {}) => {
    const { body } = await post('/adfs/oauth2/token', credentials(`${ORIGIN}//.default`));
    return await ask({ method: 'GET', url, ...init, headers: { authorization: `Bearer ${body.access_token}` } });
  };
  const filter = (text: string) => `//v1.0/servicePrincipals?$filter=${encodeURIComponent(text)}`;
  const found = await read(filter(`servicePrincipalNames/any(c:c eq '${principal.client_id.toUpperCase()}')`));
  assert.equal(found.body.value.length, 1);
  assert.equal(found.body.value[0].id, principal.object_id);
  assert.equal(found.body.value[0].appId, principal.client_id);
  const named = await read(filter("displayName eq 'O''Neill'"));
  assert.equal(named.body.value[0].id, principal.object_id);
  assert.deepEqual((await read(filter(`appId eq '${LOCAL_TENANT}'`))).body.value, []);
  assert.equal((await read(filter("id eq 'a' or true"))).status, 400);
  assert.equal((await read(`/v1.0/servicePrincipals/${principal.object_id}`)).body.displayName, "O'Neill");
  assert.equal((await read(`/v1.0/servicePrincipals/x`)).body.error.code, 'Request_ResourceNotFound');
  const users = await read(`/v1.0/users?$filter=${encodeURIComponent("userPrincipalName eq 'a@b'")}`);
  assert.deepEqual(users.body.value, []);
  const byId = await read('/v1.0/directoryObjects/getByIds', {
    method: 'POST',
    payload: { ids: [principal.object_id, LOCAL_TENANT], types: ['servicePrincipal'] },
  });
  assert.deepEqual(
    byId.body.value.map((one: Record<string, unknown>) => [one['@odata.type'], one.id]),
    [['#microsoft.graph.servicePrincipal', principal.object_id]],
  );

  assert.equal((await get('/v1.0/servicePrincipals')).status, 401);
  const { body } = await post('/adfs/oauth2/token', credentials());
  const wrong = await get('/v1.0/servicePrincipals', { authorization: `Bearer ${body.access_token}` });
  assert.equal(wrong.body.error.code, 'InvalidAuthenticationTokenAudience');
});

test('a deleted principal gets no more tokens', async () => {
  address += 1;
  const gone = await createPrincipal(database.kysely, { displayName: 'gone', kind: 'Application' });
  const { secret: its } = await addSecret(database.kysely, gone.object_id);
  const form = { ...credentials(), client_id: gone.client_id, client_secret: its };
  assert.equal((await post('/adfs/oauth2/token', form)).status, 200);
  await removePrincipal(database.kysely, gone.object_id);
  assert.equal((await post('/adfs/oauth2/token', form)).body.error, 'unauthorized_client');
});
