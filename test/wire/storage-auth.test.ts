/** Who may reach blobs, over HTTPS: keys, signatures, tokens, the public; with @azure/storage-blob as it comes, by path and by host. */
import assert from 'node:assert/strict';
import dns from 'node:dns';
import { after, before, mock, test } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import {
  AccountSASPermissions,
  BlobSASPermissions,
  BlobServiceClient,
  ContainerSASPermissions,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { OWNER, READER, STORAGE_BLOB_DATA_CONTRIBUTOR, STORAGE_BLOB_DATA_READER } from '../../src/arm/role-ids.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestPrincipal, type TestServer } from '../server.ts';

const API = '2023-05-01';
const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/guarded`;
const ACCOUNT = 'guarded1';
const ACCOUNT_ID = `${GROUP}/providers/Microsoft.Storage/storageAccounts/${ACCOUNT}`;
const RETRY = { retryOptions: { maxTries: 1 } };
const HOUR = 3_600_000;

let server: TestServer;
let key: string;
let service: BlobServiceClient;
let credential: StorageSharedKeyCredential;
const trusted = getCACertificates('default');

before(async () => {
  server = await startTestServer();
  // What the SDK connects by: it trusts the server, and finds accounts by their names as a resolver would that knows *.localhost.
  setDefaultCACertificates([...trusted, server.ca]);
  mock.method(dns, 'lookup', (_host: string, options: dns.LookupOptions, done: (...found: unknown[]) => void) =>
    options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
  );
  await arm('PUT', GROUP, { location: 'westus' }, '2021-04-01');
  await arm('PUT', ACCOUNT_ID, {
    ...{ location: 'westus', sku: { name: 'Standard_LRS' }, kind: 'StorageV2' },
    properties: { allowBlobPublicAccess: true },
  });
  key = await firstKey();
  credential = new StorageSharedKeyCredential(ACCOUNT, key);
  service = new BlobServiceClient(`${server.origin}/${ACCOUNT}`, credential, RETRY);
  const box = service.getContainerClient('box');
  await box.create();
  for (const name of ['a.txt', 'folder/ä b+%.txt'])
    await box.getBlockBlobClient(name).upload(name, Buffer.byteLength(name));
});
after(async () => {
  mock.restoreAll();
  setDefaultCACertificates(trusted);
  await server?.close();
});

async function arm(method: string, path: string, body?: object, apiVersion = API): Promise<Answer> {
  const answer = await server.request(method, path, { apiVersion, ...(body && { body }) });
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.text}`);
  return answer;
}

async function firstKey(): Promise<string> {
  const { body } = await arm('POST', `${ACCOUNT_ID}/listKeys`);
  return (body as { keys: { value: string }[] }).keys[0]!.value;
}

const blob = (method: string, path: string, headers: Record<string, string> = {}, body?: string) =>
  server.request(method, `/${ACCOUNT}${path}`, { token: null, headers, ...(body !== undefined && { body }) });

function assertRefused(answer: Answer, status: number, code: string, said?: RegExp): void {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.headers['x-ms-error-code'], code);
  assert.match(answer.text, new RegExp(`<Error><Code>${code}</Code><Message>`));
  if (said) assert.match(answer.text, said);
}

/** Of a call of the SDK. */
const refused = (status: number, code: string) => (error: unknown) => {
  const { statusCode, code: given } = error as { statusCode?: number; code?: string };
  assert.deepEqual([statusCode, given], [status, code], String(error));
  return true;
};

async function storageToken({ clientId, secret }: TestPrincipal): Promise<string> {
  const form = new URLSearchParams({
    ...{ grant_type: 'client_credentials', client_id: clientId, client_secret: secret },
    scope: 'https://storage.azure.com/.default',
  });
  const answer = await server.request('POST', '/common/oauth2/v2.0/token', {
    ...{ token: null, body: form.toString() },
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  return (answer.body as { access_token: string }).access_token;
}

const withToken = (token: string) =>
  new BlobServiceClient(
    `${server.origin}/${ACCOUNT}`,
    { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + HOUR }) },
    RETRY,
  );

test('a key opens everything, by path and by host', async () => {
  const port = new URL(server.origin).port;
  for (const url of [`${server.origin}/${ACCOUNT}`, `https://${ACCOUNT}.blob.localhost:${port}`]) {
    const client = new BlobServiceClient(url, credential, RETRY);
    const container = client.getContainerClient('everything');
    await container.create({ metadata: { one: '1' } });
    const name = 'folder/ä name+%.txt';
    await container.getBlockBlobClient(name).upload('content', 7, { metadata: { a: 'b' }, tags: { c: 'd e' } });
    assert.equal((await container.getBlobClient(name).downloadToBuffer(2, 3)).toString(), 'nte');
    const names: string[] = [];
    for await (const item of container.listBlobsFlat({ prefix: 'folder/' })) names.push(item.name);
    assert.deepEqual(names, [name]);
    const containers: string[] = [];
    for await (const item of client.listContainers({ prefix: 'every' })) containers.push(item.name);
    assert.deepEqual(containers, ['everything']);
    await container.delete();
  }
});

test('what is not signed with the key, now, for this account, is refused', async () => {
  const wrong = new StorageSharedKeyCredential(ACCOUNT, Buffer.alloc(64, 1).toString('base64'));
  const client = (account: string, given: StorageSharedKeyCredential) =>
    new BlobServiceClient(`${server.origin}/${account}`, given, RETRY);
  await assert.rejects(client(ACCOUNT, wrong).getProperties(), refused(403, 'AuthenticationFailed'));
  await assert.rejects(client('absent1', credential).getProperties(), refused(403, 'AuthenticationFailed'));
  const other = new StorageSharedKeyCredential('absent1', key);
  await assert.rejects(client(ACCOUNT, other).getProperties(), refused(403, 'AuthenticationFailed'));

  const authorization = `SharedKey ${ACCOUNT}:${Buffer.alloc(32, 1).toString('base64')}`;
  const list = '?comp=list';
  const now = new Date().toUTCString();
  const text = /<AuthenticationErrorDetail>The MAC signature found .* string to sign: &apos;GET\n/;
  assertRefused(await blob('GET', list, { authorization, 'x-ms-date': now }), 403, 'AuthenticationFailed', text);
  for (const date of [new Date(Date.now() - HOUR), new Date(Date.now() + HOUR)])
    assertRefused(
      await blob('GET', list, { authorization, 'x-ms-date': date.toUTCString() }),
      ...([403, 'AuthenticationFailed', /Request date header too old/] as const),
    );
  assertRefused(await blob('GET', list, { authorization }), 403, 'AuthenticationFailed', /RFC 1123/);
  assertRefused(await blob('GET', list, { authorization: 'SharedKey x' }), 403, 'AuthenticationFailed', /not formed/);
  const nothing = await blob('GET', list, { 'x-ms-version': '2021-12-02' });
  assertRefused(nothing, 401, 'NoAuthenticationInformation');
  assert.match(String(nothing.headers['www-authenticate']), /^Bearer authorization_uri=/);
  assertRefused(await blob('GET', list, { authorization: 'Bearer x' }), 401, 'InvalidAuthenticationInfo');
});

const inAnHour = () => new Date(Date.now() + HOUR);
const accountSas = (more: object = {}) =>
  generateAccountSASQueryParameters(
    {
      ...{
        permissions: AccountSASPermissions.parse('rwdlac'),
        services: 'b',
        resourceTypes: 'sco',
        expiresOn: inAnHour(),
      },
      ...more,
    },
    credential,
  ).toString();

test('a signature of the account grants what it says, as long and from where it says', async () => {
  const client = (sas: string) => new BlobServiceClient(`${server.origin}/${ACCOUNT}?${sas}`, undefined, RETRY);
  const all = client(accountSas({ protocol: SASProtocol.Https, ipRange: { start: '127.0.0.0', end: '127.0.0.9' } }));
  const container = all.getContainerClient('signed');
  await container.create();
  await container.getBlockBlobClient('x').upload('x', 1);
  assert.equal((await container.getBlobClient('x').downloadToBuffer()).toString(), 'x');
  await container.delete();

  const get = async (more: object) => await blob('GET', `/box/a.txt?${accountSas(more)}`);
  assert.equal((await get({})).text, 'a.txt');
  const cases: readonly (readonly [object, number, string, RegExp?])[] = [
    [{ expiresOn: new Date(Date.now() - HOUR) }, 403, 'AuthenticationFailed', /not valid in the specified time frame/],
    [
      { startsOn: inAnHour(), expiresOn: new Date(Date.now() + 2 * HOUR) },
      403,
      'AuthenticationFailed',
      /time frame: Start/,
    ],
    [{ services: 'qt' }, 403, 'AuthorizationServiceMismatch'],
    [{ resourceTypes: 'sc' }, 403, 'AuthorizationResourceTypeMismatch'],
    [{ permissions: AccountSASPermissions.parse('wl') }, 403, 'AuthorizationPermissionMismatch'],
    [{ ipRange: { start: '10.1.2.3' } }, 403, 'AuthorizationSourceIPMismatch', /source IP 127\.0\.0\.1/],
  ];
  for (const [more, status, code, said] of cases) assertRefused(await get(more), status, code, said);
  const sas = accountSas({ permissions: AccountSASPermissions.parse('r') });
  assertRefused(
    await blob('GET', `/box/a.txt?${sas.replace('sp=r', 'sp=rw')}`),
    403,
    'AuthenticationFailed',
    /did not match/,
  );
  assertRefused(await blob('GET', `/box/a.txt?${sas}&sp=w`), 403, 'AuthenticationFailed', /sp is given twice/);
  assertRefused(
    await blob('PUT', `/box/b.txt?${sas}`, { 'x-ms-blob-type': 'BlockBlob' }, 'b'),
    403,
    'AuthorizationPermissionMismatch',
  );
  // Nothing that is signed makes a container readable by everybody.
  const open = { 'x-ms-blob-public-access': 'container' };
  assertRefused(
    await blob('PUT', `/box?restype=container&comp=acl&${accountSas()}`, open, ''),
    403,
    'AuthorizationPermissionMismatch',
  );
});

test('signatures that Resource Manager makes are as good', async () => {
  const expiry = { signedExpiry: inAnHour().toISOString(), signedPermission: 'rl' };
  const ofAccount = await arm('POST', `${ACCOUNT_ID}/ListAccountSas`, {
    ...{ ...expiry, signedServices: 'b', signedResourceTypes: 'sco', keyToSign: 'key2' },
  });
  const { accountSasToken } = ofAccount.body as { accountSasToken: string };
  assert.equal((await blob('GET', `/box/a.txt?${accountSasToken}`)).text, 'a.txt');
  const canonicalizedResource = `/blob/${ACCOUNT}/box`;
  const ofBox = await arm('POST', `${ACCOUNT_ID}/ListServiceSas`, {
    ...expiry,
    canonicalizedResource,
    signedResource: 'c',
  });
  const { serviceSasToken } = ofBox.body as { serviceSasToken: string };
  assert.equal((await blob('GET', `/box/a.txt?${serviceSasToken}`)).text, 'a.txt');
  assert.equal((await blob('GET', `/box?restype=container&comp=list&${serviceSasToken}`)).status, 200);
});

test('a signature of a container or a blob is for that one, with headers of its own', async () => {
  const values = { containerName: 'box', expiresOn: inAnHour() };
  const ofBlob = (name: string, more: object = {}) =>
    generateBlobSASQueryParameters(
      { ...values, blobName: name, permissions: BlobSASPermissions.parse('r'), ...more },
      credential,
    ).toString();
  const odd = 'folder/ä b+%.txt';
  const path = `/box/${odd.split('/').map(encodeURIComponent).join('/')}`;
  const shown = await blob(
    'GET',
    `${path}?${ofBlob(odd, { contentDisposition: 'attachment; filename=x', contentType: 'text/css' })}`,
  );
  assert.equal(shown.text, odd);
  assert.equal(shown.headers['content-disposition'], 'attachment; filename=x');
  assert.equal(shown.headers['content-type'], 'text/css');
  assertRefused(await blob('GET', `/box/a.txt?${ofBlob(odd)}`), 403, 'AuthenticationFailed', /Signature did not match/);
  assertRefused(await blob('GET', `/box?restype=container&comp=list&${ofBlob('a.txt')}`), 403, 'AuthenticationFailed');
  assertRefused(await blob('DELETE', `/box/a.txt?${ofBlob('a.txt')}`), 403, 'AuthorizationPermissionMismatch');

  const ofBox = generateBlobSASQueryParameters(
    { ...values, permissions: ContainerSASPermissions.parse('rcwdl') },
    credential,
  ).toString();
  assert.equal((await blob('GET', `/box/a.txt?${ofBox}`)).status, 200);
  assert.equal((await blob('GET', `/box?restype=container&comp=list&${ofBox}`)).status, 200);
  assertRefused(await blob('DELETE', `/box?restype=container&${ofBox}`), 403, 'AuthorizationPermissionMismatch');
  assertRefused(await blob('GET', `/?comp=list&${ofBox}`), 403, 'AuthenticationFailed');

  const box = service.getContainerClient('box');
  const mine = { id: 'mine', accessPolicy: { permissions: 'r', startsOn: new Date(0), expiresOn: inAnHour() } };
  await box.setAccessPolicy(undefined, [mine]);
  const byPolicy = generateBlobSASQueryParameters({ containerName: 'box', identifier: 'mine' }, credential).toString();
  assert.equal((await blob('GET', `/box/a.txt?${byPolicy}`)).status, 200);
  assertRefused(
    await blob('GET', `/box?restype=container&comp=list&${byPolicy}`),
    403,
    'AuthorizationPermissionMismatch',
  );
  await box.setAccessPolicy(undefined, []);
  assertRefused(await blob('GET', `/box/a.txt?${byPolicy}`), 403, 'AuthenticationFailed', /policy mine does not exist/);
});

test('roles on data are what a token may do', async () => {
  const scope = `${ACCOUNT_ID}/blobServices/default/containers/box`;
  const reader = withToken(
    await storageToken(await server.principal('data reader', { id: STORAGE_BLOB_DATA_READER, scope })),
  );
  const box = reader.getContainerClient('box');
  assert.equal((await box.getBlobClient('a.txt').downloadToBuffer()).toString(), 'a.txt');
  const denied = refused(403, 'AuthorizationPermissionMismatch');
  await assert.rejects(box.getBlockBlobClient('b.txt').upload('b', 1), denied);
  await assert.rejects(reader.getContainerClient('other').getBlobClient('a').download(), denied);
  await assert.rejects(reader.getContainerClient('other').create(), denied);

  const contributor = withToken(
    await storageToken(await server.principal('data contributor', { id: STORAGE_BLOB_DATA_CONTRIBUTOR, scope: GROUP })),
  );
  const own = contributor.getContainerClient('roles');
  await own.create();
  await own.getBlockBlobClient('x').upload('x', 1);
  await own.getBlobClient('x').delete();
  await assert.rejects(own.setAccessPolicy('blob'), denied);
  await own.delete();
  const stranger = await server.principal('plain reader', { id: READER, scope: GROUP });
  await assert.rejects(
    withToken(await storageToken(stranger))
      .getContainerClient('box')
      .getBlobClient('a.txt')
      .download(),
    denied,
  );
  await assert.rejects(withToken(stranger.token).getProperties(), refused(401, 'InvalidAuthenticationInfo'));
  const owner = await server.principal('owner', { id: OWNER, scope: GROUP });
  assert.equal(
    (
      await withToken(await storageToken(owner))
        .getContainerClient('box')
        .getBlobClient('a.txt')
        .downloadToBuffer()
    ).toString(),
    'a.txt',
  );
  // Owners read by the keys that they may list, which they may not while the account is locked; data roles go on.
  const lock = `${ACCOUNT_ID}/providers/Microsoft.Authorization/locks/quiet`;
  await arm('PUT', lock, { properties: { level: 'ReadOnly' } }, '2016-09-01');
  const locked = withToken(await storageToken(owner))
    .getContainerClient('box')
    .getBlobClient('a.txt');
  await assert.rejects(locked.download(), denied);
  await box.getBlobClient('a.txt').download();
  await arm('DELETE', lock, undefined, '2016-09-01');
  await locked.download();
});

test('who signs in may sign for others, never for more than its own roles', async () => {
  const principal = await server.principal('delegator', { id: STORAGE_BLOB_DATA_READER, scope: ACCOUNT_ID });
  const client = withToken(await storageToken(principal));
  const delegated = await client.getUserDelegationKey(new Date(Date.now() - 60_000), inAnHour());
  assert.equal(delegated.signedObjectId, principal.objectId);
  const sas = (permissions: string, more: object = {}) =>
    generateBlobSASQueryParameters(
      {
        ...{ containerName: 'box', blobName: 'a.txt', expiresOn: inAnHour() },
        ...{ permissions: BlobSASPermissions.parse(permissions), ...more },
      },
      delegated,
      ACCOUNT,
    ).toString();
  assert.equal((await blob('GET', `/box/a.txt?${sas('r')}`)).text, 'a.txt');
  for (const version of ['2020-02-10', '2021-12-02', '2025-07-05'])
    assert.equal((await blob('GET', `/box/a.txt?${sas('r', { version })}`)).text, 'a.txt', version);
  assertRefused(await blob('DELETE', `/box/a.txt?${sas('rd')}`), 403, 'AuthorizationPermissionMismatch');
  const forged = sas('r').replace(principal.objectId, server.administrator.objectId);
  assertRefused(await blob('GET', `/box/a.txt?${forged}`), 403, 'AuthenticationFailed', /Signature did not match/);

  await assert.rejects(
    service.getUserDelegationKey(new Date(), inAnHour()),
    refused(403, 'AuthorizationPermissionMismatch'),
  );
  const late = new Date(Date.now() + 8 * 24 * HOUR);
  await assert.rejects(client.getUserDelegationKey(new Date(), late), refused(400, 'OutOfRangeInput'));

  const signed = sas('r');
  const { kysely } = server.service.database;
  await kysely.deleteFrom('role_assignment').where('principal_id', '=', principal.objectId).execute();
  const deadline = Date.now() + 5000;
  let answer = await blob('GET', `/box/a.txt?${signed}`);
  while (answer.status === 200 && Date.now() < deadline) answer = await blob('GET', `/box/a.txt?${signed}`);
  assertRefused(answer, 403, 'AuthorizationPermissionMismatch');
  await arm('POST', `${ACCOUNT_ID}/revokeUserDelegationKeys`);
  assertRefused(await blob('GET', `/box/a.txt?${signed}`), 403, 'AuthenticationFailed', /Signature did not match/);
});

test('the public reads what it may, where the account allows it', async () => {
  const box = service.getContainerClient('public');
  await box.create({ access: 'blob' });
  await box.getBlockBlobClient('a').upload('public', 6);
  assert.equal((await blob('GET', '/public/a')).text, 'public');
  assertRefused(await blob('GET', '/public?restype=container&comp=list'), 401, 'NoAuthenticationInformation');
  assertRefused(
    await blob('PUT', '/public/b', { 'x-ms-blob-type': 'BlockBlob' }, 'b'),
    401,
    'NoAuthenticationInformation',
  );
  assertRefused(await blob('GET', '/box/a.txt'), 401, 'NoAuthenticationInformation');
  await box.setAccessPolicy('container');
  assert.equal((await blob('GET', '/public?restype=container&comp=list')).status, 200);
  await arm('PATCH', ACCOUNT_ID, { properties: { allowBlobPublicAccess: false } });
  assertRefused(await blob('GET', '/public/a'), 409, 'PublicAccessNotPermitted');
  await assert.rejects(
    service.getContainerClient('public2').create({ access: 'blob' }),
    refused(409, 'PublicAccessNotPermitted'),
  );
  await arm('PATCH', ACCOUNT_ID, { properties: { allowBlobPublicAccess: true } });
  assert.equal((await blob('GET', '/public/a')).status, 200);
  await box.delete();
});

test('an account that takes no keys takes tokens alone', async () => {
  const owner = withToken(await storageToken(server.administrator));
  await arm('PATCH', ACCOUNT_ID, { properties: { allowSharedKeyAccess: false } });
  const denied = refused(403, 'KeyBasedAuthenticationNotPermitted');
  await assert.rejects(service.getContainerClient('box').getProperties(), denied);
  assertRefused(await blob('GET', `/box/a.txt?${accountSas()}`), 403, 'KeyBasedAuthenticationNotPermitted');
  // Whoever may list the keys could do nothing with them now; a role on the data is needed.
  await assert.rejects(
    owner.getContainerClient('box').getBlobClient('a.txt').download(),
    refused(403, 'AuthorizationPermissionMismatch'),
  );
  const reader = await server.principal('tokens alone', { id: STORAGE_BLOB_DATA_READER, scope: ACCOUNT_ID });
  const client = withToken(await storageToken(reader));
  assert.equal((await client.getContainerClient('box').getBlobClient('a.txt').downloadToBuffer()).toString(), 'a.txt');
  await arm('PATCH', ACCOUNT_ID, { properties: { allowSharedKeyAccess: true } });
  await service.getContainerClient('box').getProperties();
});

test('network rules hold for whoever has a key', async () => {
  const rules = (networkAcls: object, publicNetworkAccess = 'Enabled') =>
    arm('PATCH', ACCOUNT_ID, { properties: { networkAcls, publicNetworkAccess } });
  const denied = refused(403, 'AuthorizationFailure');
  const box = service.getContainerClient('box');
  await rules({ defaultAction: 'Deny' });
  await assert.rejects(box.getProperties(), denied);
  await rules({ defaultAction: 'Deny', ipRules: [{ value: '126.0.0.0/8' }, { value: '127.0.0.2' }] });
  await assert.rejects(box.getProperties(), denied);
  for (const value of ['127.0.0.0/8', '127.0.0.1', '127.0.0.0/31']) {
    await rules({ defaultAction: 'Deny', ipRules: [{ value }] });
    await box.getProperties();
  }
  await rules({ defaultAction: 'Allow' }, 'Disabled');
  await assert.rejects(box.getProperties(), denied);
  await rules({ defaultAction: 'Allow' });
  await box.getProperties();
});

test('a renewed key ends the old one, and what was signed with it', async () => {
  const signed = accountSas();
  assert.equal((await blob('GET', `/box/a.txt?${signed}`)).status, 200);
  await arm('POST', `${ACCOUNT_ID}/regenerateKey`, { keyName: 'key1' });
  assertRefused(await blob('GET', `/box/a.txt?${signed}`), 403, 'AuthenticationFailed', /Signature did not match/);
  await assert.rejects(service.getProperties(), refused(403, 'AuthenticationFailed'));
  const renewed = new StorageSharedKeyCredential(ACCOUNT, await firstKey());
  await new BlobServiceClient(`${server.origin}/${ACCOUNT}`, renewed, RETRY).getProperties();
});

test('whoever guesses is slowed down', async () => {
  const door = await server.door({});
  const guess = () => server.request('GET', `${door.origin}/${ACCOUNT}/box/a.txt?sr=b&sig=guess`, { token: null });
  const answers = await Promise.all(Array.from({ length: 400 }, guess));
  const codes = new Set(answers.map(({ headers }) => headers['x-ms-error-code']));
  assert.deepEqual([...codes].sort(), ['AuthenticationFailed', 'ServerBusy']);
  const slowed = answers.find(({ status }) => status === 503)!;
  assert.match(String(slowed.headers['retry-after']), /^[1-9]\d*$/);
});

test('no secret is in what the server logs', () => {
  assert.deepEqual(server.errors, []);
});
