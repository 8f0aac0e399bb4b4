/** Blobs over HTTP (without TLS, which is server.ts's), with real tokens and real roles. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { appendFile, chmod, mkdir, mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import Fastify, { type FastifyInstance } from 'fastify';
import { resourceGroupId, resourceId } from '../arm/ids.ts';
import { OWNER, STORAGE_BLOB_DATA_READER } from '../arm/role-ids.ts';
import { openBlobStore } from '../blobs/store.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { json } from '../database/json.ts';
import { openDirectory, type SignInDirectory } from '../directory/directory.ts';
import { addSecret, createPrincipal } from '../directory/principals.ts';
import { type Home, openHome } from '../home.ts';
import { type OpenRoles, openRoles } from '../providers/authorization/open-roles.ts';
import { imageTemplates } from '../providers/image-builder/image-templates.ts';
import { runHandler } from '../providers/image-builder/run.ts';
import { vhdLocation, withLogUrl } from '../providers/image-builder/staged-blobs.ts';
import { putValidated } from '../providers/life.ts';
import { resourceGroups } from '../providers/resources/resource-groups.ts';
import { locateBlob } from '../providers/storage/locate-blob.ts';
import { storageAccounts } from '../providers/storage/storage-accounts.ts';
import { getResource, patchProperties } from '../providers/store.ts';
import { blobRoutes } from './blobs.ts';

delete process.env.DATABASE_URL;

const S = '11111111-2222-3333-4444-555555555555';
const ORIGIN = 'https://localhost:8443';
const TEMPLATE = resourceId(S, 'g', imageTemplates.type, 'web');
const STAGING = resourceGroupId(S, 'IT_g_web');
const ACCOUNT = 'abcdefghijklmnop12345678';
const ACCOUNT_ID = resourceId(S, 'IT_g_web', storageAccounts.type, ACCOUNT);
const BASE = `/${ACCOUNT}/packerlogs`;
const LIST = `${BASE}?restype=container&comp=list`;

let home: Home;
let database: Database;
let directory: SignInDirectory;
let roles: OpenRoles;
let app: FastifyInstance;
/** Headers of callers. */
let owner: Record<string, string>;
let reader: Record<string, string>;
let stranger: Record<string, string>;
let management: Record<string, string>;
const runs: string[] = [];
const LOG = Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join('');

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-blobs-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log: () => undefined });
  const origin = () => ORIGIN;
  directory = await openDirectory({ home, database, origin, log: () => undefined });
  roles = await openRoles(database);
  const environment = { database: database.kysely, home, log: () => undefined };
  app = Fastify({ logger: false, genReqId: () => randomUUID() });
  app.decorateRequest('caller', undefined);
  app.decorateRequest('correlationId', '');
  const store = openBlobStore({ ...environment, owner: 'test', log: () => undefined });
  await app.register(blobRoutes, { environment, directory, roles, origin, store, patience: 10_000 });

  const put = (definition: Parameters<typeof putValidated>[1], id: string, body: object) =>
    putValidated(database.kysely, definition, { id, body, apiVersion: definition.apiVersions[0]!, local: true });
  await put(resourceGroups, resourceGroupId(S, 'g'), { location: 'eastus' });
  await put(resourceGroups, STAGING, { location: 'eastus' });
  const source = { type: 'PlatformImage', publisher: 'p', offer: 'o', sku: 's', version: 'latest' };
  const distribute = [{ type: 'VHD', runOutputName: 'vhd' }];
  await put(imageTemplates, TEMPLATE, { location: 'eastus', properties: { source, distribute } });
  await put(storageAccounts, ACCOUNT_ID, { location: 'eastus' });
  await patchProperties(database.kysely, TEMPLATE, {
    exactStagingResourceGroup: STAGING,
    staging: { made: true, account: ACCOUNT },
  });
  for (let index = 0; index < 3; index++) runs.push(await insertRun(TEMPLATE));
  runs.sort();
  for (const id of runs.slice(0, 2)) {
    await mkdir(join(home.logs, id));
    await writeFile(join(home.logs, id, 'customization.log'), LOG);
  }
  await writeFile(join(home.logs, runs[1]!, 'validation.log'), '');
  await writeFile(join(home.logs, runs[1]!, 'console.log'), 'secret');

  [owner, management] = await signedIn(OWNER, '/');
  [reader] = await signedIn(STORAGE_BLOB_DATA_READER, ACCOUNT_ID.toLowerCase());
  [stranger] = await signedIn(OWNER, resourceGroupId(S, 'g').toLowerCase());
});
after(async () => {
  await app?.close();
  await roles?.close();
  await directory?.close();
  await database?.close();
  if (home) await rm(home.root, { recursive: true, force: true });
});

async function insertRun(template: string): Promise<string> {
  const id = randomUUID();
  const operation = { id, kind: 'run', resource_id: null, queue: 'operations', input: json({}) };
  await database.kysely.insertInto('operation').values(operation).execute();
  const run = { id, operation_id: id, template_id: template.toLowerCase(), template_name: 'web' };
  await database.kysely
    .insertInto('run')
    .values({ ...run, state: 'Succeeded', ended_at: new Date() })
    .execute();
  return id;
}

/** Authorization headers of a new principal, for storage and for Resource Manager. */
async function signedIn(role: string, scope: string): Promise<[Record<string, string>, Record<string, string>]> {
  const { object_id, client_id } = await createPrincipal(database.kysely, { displayName: role, kind: 'Application' });
  const { secret } = await addSecret(database.kysely, object_id);
  await database.kysely
    .insertInto('role_assignment')
    .values({
      ...{ id: randomUUID(), scope, display_scope: scope, principal_id: object_id },
      ...{ principal_type: 'ServicePrincipal', role_definition_id: role },
    })
    .execute();
  const header = async (resource: string) => {
    const { token } = await directory.signIn({ clientId: client_id, proof: { secret }, resource, authority: 'entra' });
    return { authorization: `Bearer ${token}` };
  };
  return [await header('https://storage.azure.com'), await header('https://management.azure.com')];
}

const get = (url: string, headers: Record<string, string> = owner, method: 'GET' | 'HEAD' = 'GET') =>
  app.inject({ method, url, headers });
const blob = () => `${BASE}/${runs[0]}/customization.log`;

async function refused(url: string, headers: Record<string, string>, status: number, code: string): Promise<void> {
  const answer = await get(url, headers);
  assert.equal(answer.statusCode, status, answer.body);
  assert.equal(answer.headers['x-ms-error-code'], code);
  assert.match(
    answer.body,
    new RegExp(`^<\\?xml version="1.0" encoding="utf-8"\\?><Error><Code>${code}</Code><Message>`),
  );
  assert.equal(answer.headers['content-type'], 'application/xml');
}

test('a log is a block blob', async () => {
  const answer = await get(blob(), { ...owner, 'x-ms-version': '2021-06-08' });
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.body, LOG);
  const { headers } = answer;
  assert.equal(headers['content-length'], String(LOG.length));
  assert.equal(headers['accept-ranges'], 'bytes');
  assert.equal(headers['x-ms-blob-type'], 'BlockBlob');
  assert.equal(headers['x-ms-version'], '2021-06-08');
  assert.match(String(headers.etag), /^"0x[0-9A-F]{15}"$/);
  assert.ok(Math.abs(Date.parse(String(headers['last-modified'])) - Date.now()) < 3_600_000);
  const head = await get(blob(), owner, 'HEAD');
  assert.equal(head.statusCode, 200);
  assert.equal(head.body, '');
  assert.equal(head.headers['content-length'], String(LOG.length));
  assert.equal(head.headers.etag, headers.etag);
  const empty = await get(`${BASE}/${runs[1]}/validation.log`);
  assert.deepEqual([empty.statusCode, empty.body, empty.headers['content-length']], [200, '', '0']);
});

test('parts of it are read by range, in one piece by If-Match', async () => {
  const part = await get(blob(), { ...owner, range: 'bytes=5-9' });
  assert.equal(part.statusCode, 206);
  assert.equal(part.body, LOG.slice(5, 10));
  assert.equal(part.headers['content-range'], `bytes 5-9/${LOG.length}`);
  assert.equal(part.headers['content-length'], '5');
  // As the SDKs do: the first piece larger than the blob, by their own header, which wins.
  const sdk = await get(blob(), { ...owner, 'x-ms-range': 'bytes=0-33554431', range: 'bytes=1-1' });
  assert.equal(sdk.statusCode, 206);
  assert.equal(sdk.body, LOG);
  assert.equal((await get(blob(), { ...owner, range: 'bytes=-4' })).body, LOG.slice(-4));
  assert.equal((await get(blob(), { ...owner, range: 'bytes=600-' })).body, LOG.slice(600));
  assert.equal((await get(blob(), { ...owner, range: 'lines=1-2' })).statusCode, 200);
  const beyond = await get(blob(), { ...owner, range: `bytes=${LOG.length}-` });
  assert.equal(beyond.statusCode, 416);
  assert.equal(beyond.headers['content-range'], `bytes */${LOG.length}`);
  assert.equal(beyond.headers['x-ms-error-code'], 'InvalidRange');
  await refused(`${BASE}/${runs[1]}/validation.log`, { ...owner, range: 'bytes=0-99' }, 416, 'InvalidRange');

  const path = join(home.logs, runs[1]!, 'customization.log');
  const url = `${BASE}/${runs[1]}/customization.log`;
  const etag = String((await get(url)).headers.etag);
  assert.equal((await get(url, { ...owner, 'if-match': etag })).statusCode, 200);
  const same = await get(url, { ...owner, 'if-none-match': etag });
  assert.deepEqual([same.statusCode, same.body], [304, '']);
  await appendFile(path, 'more\n');
  await refused(url, { ...owner, 'if-match': etag }, 412, 'ConditionNotMet');
  assert.equal((await get(url, { ...owner, 'if-none-match': etag })).body, `${LOG}more\n`);
});

test('only tokens for storage, of callers with a role, are let in', async () => {
  assert.equal((await get(blob(), reader)).statusCode, 200);
  assert.equal((await get(LIST, reader)).statusCode, 200);
  await refused(blob(), stranger, 403, 'AuthorizationPermissionMismatch');
  await refused(LIST, stranger, 403, 'AuthorizationPermissionMismatch');
  await refused(blob(), management, 401, 'InvalidAuthenticationInfo');
  await refused(blob(), { authorization: 'Bearer x' }, 401, 'InvalidAuthenticationInfo');
  await refused(blob(), {}, 401, 'NoAuthenticationInformation');
  await refused(blob(), { authorization: 'SharedKey a:b' }, 403, 'AuthenticationFailed');
  const { headers } = await get(blob(), {});
  assert.equal(
    headers['www-authenticate'],
    `Bearer authorization_uri=${ORIGIN}/${directory.tenantId}/oauth2/authorize resource_id=https://storage.azure.com`,
  );
  const storageOnly = owner.authorization;
  await assert.rejects(directory.authenticate(storageOnly), { code: /Audience|InvalidAuthenticationToken/ });
});

test('nothing else of the host can be named', async () => {
  const foreign = await insertRun(resourceId(S, 'g', imageTemplates.type, 'other'));
  await mkdir(join(home.logs, foreign));
  await writeFile(join(home.logs, foreign, 'customization.log'), 'secret');
  for (const url of [
    `${BASE}/${runs[2]}/customization.log`,
    `${BASE}/${runs[1]}/console.log`,
    `${BASE}/${foreign}/customization.log`,
    `${BASE}/${randomUUID()}/customization.log`,
    `${BASE}/..%2f${runs[1]}/customization.log`,
    `${BASE}/${runs[1]}/..%2f..%2fadmin.json`,
  ])
    await refused(url, owner, 404, 'BlobNotFound');
  await refused(`${BASE}/%00/customization.log`, owner, 400, 'InvalidUri');
  const version = { 'x-ms-version': '2021-12-02' };
  await refused(`/nobody/packerlogs/${runs[0]}/customization.log`, { ...owner, ...version }, 404, 'ResourceNotFound');
  // No path of the blob service, but of the server, which has nothing there.
  for (const account of ['nobody', 'a', '%00', 'x'.repeat(90), 'subscriptions', 'metadata']) {
    const answer = await get(`/${account}/packerlogs/${runs[0]}/customization.log`);
    assert.deepEqual([answer.statusCode, answer.headers['x-ms-error-code']], [404, undefined]);
  }
  await refused(BASE, owner, 404, 'ContainerNotFound');
  await refused(`${BASE}?restype=container&comp=stats`, owner, 400, 'InvalidQueryParameterValue');
});

test('the list has what is there, in pages and folders', async () => {
  const names = (body: string) => [...body.matchAll(/<Name>([^<]*)<\/Name>/g)].map(([, name]) => name);
  const all = [`${runs[0]}/customization.log`, `${runs[1]}/customization.log`, `${runs[1]}/validation.log`];
  const whole = await get(LIST);
  assert.equal(whole.headers['content-type'], 'application/xml');
  assert.deepEqual(names(whole.body), all);
  assert.match(
    whole.body,
    new RegExp(
      `^<\\?xml version="1.0" encoding="utf-8"\\?><EnumerationResults ServiceEndpoint="${ORIGIN}/${ACCOUNT}/" ContainerName="packerlogs">`,
    ),
  );
  assert.match(whole.body, /<NextMarker><\/NextMarker><\/EnumerationResults>$/);
  const etag = (await get(blob())).headers.etag as string;
  assert.ok(
    whole.body.includes(`<Etag>${etag.replaceAll('"', '')}</Etag><Content-Length>${LOG.length}</Content-Length>`),
  );
  assert.deepEqual(names((await get(`${LIST}&prefix=${runs[1]}/`)).body), all.slice(1));
  assert.deepEqual(names((await get(`${LIST}&delimiter=/`)).body), [`${runs[0]}/`, `${runs[1]}/`]);
  assert.deepEqual(names((await get(`${LIST}&delimiter=/&prefix=${runs[1]}/`)).body), all.slice(1));

  for (const query of ['maxresults=1', 'maxresults=1&delimiter=/']) {
    const seen: string[] = [];
    for (let marker = '', pages = 0; pages < 5; pages++) {
      const { body } = await get(`${LIST}&${query}&marker=${encodeURIComponent(marker)}`);
      const page = names(body);
      assert.ok(page.length <= 1);
      seen.push(...(page as string[]));
      marker = /<NextMarker>([^<]*)</.exec(body)![1]!;
      if (marker === '') break;
    }
    assert.deepEqual(seen, query.includes('delimiter') ? [`${runs[0]}/`, `${runs[1]}/`] : all);
  }
  const odd = await get(`${LIST}&prefix=${encodeURIComponent('<&"\u0001')}`);
  assert.equal(odd.statusCode, 200);
  assert.ok(odd.body.includes('<Prefix>&lt;&amp;&quot;\ufffd</Prefix>'));
  await refused(`${LIST}&marker=%00`, owner, 400, 'InvalidQueryParameterValue');
  await refused(`${LIST}&maxresults=0`, owner, 400, 'OutOfRangeQueryParameterValue');
});

test('a failed run says where its log is', async () => {
  const id = await insertRun(TEMPLATE);
  await database.kysely.updateTable('run').set({ state: 'Running', ended_at: null }).where('id', '=', id).execute();
  const machines = { shape: () => assert.fail(), start: () => assert.fail() };
  const log = () => undefined;
  const handler = runHandler({ log, database: database.kysely, home, machines, listener: () => undefined });
  await database.kysely.transaction().execute(async trx => {
    const operation = await trx.selectFrom('operation').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    await handler.abandoned!(trx, operation, { code: 'StepFailed', message: 'exit code 3' });
  });
  const { message } = await database.kysely
    .selectFrom('run')
    .select('message')
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  assert.ok(
    message?.includes(` Image Build log location: ${BASE}/${id}/customization.log. OperationId: ${id}.`),
    message!,
  );
});

test('the URL in a failed run’s message is made where it is shown', () => {
  const message = `It failed. Image Build log location: /${ACCOUNT}/packerlogs/x/customization.log. The guest said: Image Build log location: /${ACCOUNT}/packerlogs/`;
  assert.equal(
    withLogUrl(message, ORIGIN),
    `It failed. Image Build log location: ${ORIGIN}/${ACCOUNT}/packerlogs/x/customization.log. The guest said: Image Build log location: /${ACCOUNT}/packerlogs/`,
  );
  const local = 'Image Build log location: logs/x/customization.log.';
  assert.equal(withLogUrl(local, ORIGIN), local);
});

/** The VHD of a run of the template, with `beginning` in it and 40 GiB of nothing. */
async function stagedVhdOf(
  run: string,
): Promise<{ readonly url: string; readonly path: string; readonly size: number }> {
  const path = join(home.root, `${run}.vhd`);
  const size = 40 * 2 ** 30;
  await writeFile(path, 'beginning');
  await truncate(path, size);
  const name = `vhd-${run.slice(0, 4)}`;
  const output = {
    id: `${TEMPLATE.toLowerCase()}/runoutputs/${name}`,
    display_id: `${TEMPLATE}/runOutputs/${name}`,
  };
  const row = { ...output, template_id: TEMPLATE.toLowerCase(), name, run_id: run, path, location: 'eastus' };
  await database.kysely
    .insertInto('run_output')
    .values({ ...row, artifact_uri: `file://${path}` })
    .execute();
  const template = await getResource(database.kysely, TEMPLATE);
  const url = vhdLocation(template, { name, run_id: run })!;
  assert.equal(url, `/${ACCOUNT}/vhds/${run}/${name}.vhd`);
  return { url, path, size };
}

test('a VHD is read by ranges from its sparse file, by those who may read its bytes', async () => {
  const { url, size } = await stagedVhdOf(runs[0]!);
  const head = await get(url, owner, 'HEAD');
  assert.deepEqual([head.statusCode, head.headers['content-length']], [200, String(size)]);
  assert.equal(head.headers['x-ms-blob-type'], 'PageBlob');
  for (const headers of [owner, reader])
    assert.equal((await get(url, { ...headers, range: 'bytes=0-8' })).body, 'beginning');
  const end = await get(url, { ...owner, 'x-ms-range': `bytes=${size - 4}-` });
  assert.deepEqual([end.statusCode, end.rawPayload], [206, Buffer.alloc(4)]);
  await refused(url, stranger, 403, 'AuthorizationPermissionMismatch');
  await refused(url.replace(runs[0]!, runs[1]!), owner, 404, 'BlobNotFound');
  await refused(url.replace('.vhd', '.log'), owner, 404, 'BlobNotFound');
});

test('where a VHD has data its ranges say, and a copy of it takes no room', async () => {
  const { url, path, size } = await stagedVhdOf(runs[1]!);
  const pagesOf = async (of: string) => {
    const answer = await get(`${of}?comp=pagelist`);
    assert.equal(answer.statusCode, 200, answer.body);
    assert.equal(answer.headers['x-ms-blob-content-length'], String(size));
    return [...answer.body.matchAll(/<Start>(\d+)<\/Start><End>(\d+)<\/End>/g)].map(([, start, end]) => [
      Number(start),
      Number(end),
    ]);
  };
  const ranges = await pagesOf(url);
  assert.equal(ranges.length, 1);
  assert.equal(ranges[0]![0], 0);
  assert.ok(ranges[0]![1]! >= 8 && ranges[0]![1]! < 2 ** 20);
  const copy = `/${ACCOUNT}/vhds/mine/copy.vhd`;
  const source = { 'x-ms-copy-source': `${ORIGIN}${url}` };
  const copied = await app.inject({ method: 'PUT', url: copy, headers: { ...owner, ...source } });
  assert.deepEqual([copied.statusCode, copied.headers['x-ms-copy-status']], [202, 'success'], copied.body);
  // By its host, as az writes it from the cloud's suffix.
  for (const host of [`${ACCOUNT}.blob.localhost:8443`, `${ACCOUNT}.blob.core.localhost:8443`]) {
    const byHost = { 'x-ms-copy-source': `https://${host}${url.slice(`/${ACCOUNT}`.length)}` };
    const again = await app.inject({ method: 'PUT', url: copy, headers: { ...owner, ...byHost } });
    assert.equal(again.statusCode, 202, again.body);
  }
  assert.deepEqual(await pagesOf(copy), ranges);
  assert.equal((await get(copy, { ...owner, range: 'bytes=0-8' })).body, 'beginning');
  assert.ok((await stat(path)).nlink > 1);
  const located = await locateBlob({ database: database.kysely, home }, ACCOUNT, 'vhds', 'mine/copy.vhd');
  assert.ok(located && 'chunks' in located);
  assert.equal(located.size, size);
  assert.deepEqual(
    located.chunks.map(chunk => [chunk.path !== undefined, chunk.offset]),
    [
      [true, 0],
      [false, 0],
    ],
  );
  const own = await locateBlob({ database: database.kysely, home }, ACCOUNT, 'vhds', url.split('/vhds/')[1]!);
  assert.ok(own && 'path' in own);
  assert.deepEqual([own.path, own.size], [path, size]);
  assert.equal(await locateBlob({ database: database.kysely, home }, ACCOUNT, 'vhds', 'nothing'), undefined);
});

test('a large part of a VHD passes without being held in memory', async () => {
  const { url } = await stagedVhdOf(runs[2]!);
  const origin = await app.listen({ host: '127.0.0.1', port: 0 });
  const wanted = 512 * 2 ** 20;
  const answer = await fetch(`${origin}${url}`, {
    headers: { ...owner, 'x-ms-range': `bytes=0-${wanted - 1}` },
  });
  assert.equal(answer.status, 206);
  const before = process.memoryUsage().rss;
  let most = before;
  let arrived = 0;
  for await (const chunk of answer.body!) {
    arrived += chunk.byteLength;
    most = Math.max(most, process.memoryUsage.rss());
  }
  assert.equal(arrived, wanted);
  assert.ok(most - before < 200 * 2 ** 20, `${(most - before) / 2 ** 20} MiB more`);
});

test('users put blobs beside those of runs, and change none of these', async () => {
  const inject = (method: 'PUT' | 'DELETE', url: string, headers: Record<string, string> = {}, payload = '') =>
    app.inject({ method, url, headers: { ...owner, ...headers }, payload });
  const put = { 'x-ms-blob-type': 'BlockBlob', 'content-type': 'text/plain' };
  const log = blob();
  for (const [method, url, headers] of [
    ['PUT', log, put],
    ['PUT', `${log}?comp=metadata`, {}],
    ['PUT', `${log}?comp=block&blockid=YQ==`, {}],
    ['PUT', `${log}?comp=lease`, { 'x-ms-lease-action': 'acquire', 'x-ms-lease-duration': '-1' }],
    ['DELETE', log, {}],
  ] as const) {
    const answer = await inject(method, url, headers, method === 'PUT' ? 'x' : '');
    assert.deepEqual([answer.statusCode, answer.headers['x-ms-error-code']], [409, 'BlobImmutableDueToPolicy'], url);
  }
  assert.equal((await get(log)).body.startsWith('line 0\n'), true);
  const beside = `${BASE}/${runs[0]}/notes.txt`;
  assert.equal((await inject('PUT', beside, put, 'notes')).statusCode, 201);
  assert.equal((await get(beside)).body, 'notes');
  const names = [...(await get(`${LIST}&prefix=${runs[0]}/`)).body.matchAll(/<Name>([^<]*)/g)].map(([, name]) => name);
  assert.deepEqual(names, [`${runs[0]}/customization.log`, `${runs[0]}/notes.txt`]);
  const containers = await get(`/${ACCOUNT}?comp=list`);
  assert.deepEqual(
    [...containers.body.matchAll(/<Name>([^<]*)/g)].map(([, name]) => name),
    ['packerlogs', 'vhds'],
  );
  const gone = await inject('DELETE', `${BASE}?restype=container`);
  assert.deepEqual([gone.statusCode, gone.headers['x-ms-error-code']], [409, 'ContainerProtectedFromDeletion']);
  const vhds = await get(`/${ACCOUNT}/vhds?restype=container&comp=list&include=metadata`);
  assert.ok(vhds.body.includes(`${runs[0]}/vhd-${runs[0]!.slice(0, 4)}.vhd</Name>`), vhds.body);
  assert.equal(
    (await app.inject({ method: 'PUT', url: beside, headers: { ...reader, ...put }, payload: 'x' })).statusCode,
    403,
  );
});
