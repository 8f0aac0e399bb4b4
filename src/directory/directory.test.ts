import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { decodeJwt, decodeProtectedHeader, generateKeyPair, SignJWT } from 'jose';
import { LOCAL_TENANT, resourceGroupId, resourceId } from '../arm/ids.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { type Home, openHome } from '../home.ts';
import { deleteResource, putValidated } from '../providers/life.ts';
import { putIdentity } from '../providers/managed-identity/identity-principal.ts';
import { resourceGroups } from '../providers/resources/resource-groups.ts';
import { openDirectory, type SignInDirectory } from './directory.ts';
import { openKeys } from './keys.ts';
import {
  addSecret,
  createPrincipal,
  findPrincipal,
  principalOfResource,
  removePrincipal,
  secretsOf,
} from './principals.ts';
import { hashSecret, isSecret, newSecret } from './secrets.ts';
import { TOKEN_LIFE } from './tokens.ts';

delete process.env.DATABASE_URL;
const ORIGIN = 'https://127.0.0.1:8443';
const RESOURCE = 'https://management.local/';
const log = () => {};

let home: Home;
let database: Database;
let directory: SignInDirectory;
/** What the directory takes for now, in milliseconds after the start. */
let elapsed = 0;
const start = Date.now();

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-directory-'));
  await chmod(root, 0o711);
  home = await openHome({ home: root, env: {} });
  database = await openDatabase({ home, log });
  directory = await open();
});
after(async () => {
  await directory?.close();
  await database?.close();
  await rm(home.root, { recursive: true, force: true });
});

const open = (origin = ORIGIN) =>
  openDirectory({ home, database, log, origin: () => origin, now: () => new Date(start + elapsed) });

async function application(name = 'app') {
  const principal = await createPrincipal(database.kysely, { displayName: name, kind: 'Application' });
  const { secret } = await addSecret(database.kysely, principal.object_id);
  const token = async (resource = RESOURCE) =>
    (await directory.signIn({ clientId: principal.client_id, proof: { secret }, resource, authority: 'adfs' })).token;
  return { principal, secret, token };
}

test('a token speaks for its principal', async () => {
  const { principal, token } = await application('deployer');
  const text = await token();
  assert.deepEqual(await directory.authenticate(`Bearer ${text}`), {
    objectId: principal.object_id,
    clientId: principal.client_id,
    tenantId: LOCAL_TENANT,
    type: 'ServicePrincipal',
    displayName: 'deployer',
  });
  const claims = decodeJwt(text);
  assert.equal(claims.iss, `${ORIGIN}/adfs`);
  assert.equal(claims.aud, RESOURCE);
  assert.equal(claims.sub, principal.object_id);
  assert.equal(claims.oid, principal.object_id);
  assert.equal(claims.appid, principal.client_id);
  assert.equal(claims.tid, LOCAL_TENANT);
  assert.equal(claims.exp! - claims.iat!, TOKEN_LIFE);
  const published = directory.keys.find(({ kid }) => kid === decodeProtectedHeader(text).kid);
  assert.deepEqual(Object.keys(published!).sort(), ['alg', 'e', 'kid', 'kty', 'n', 'use']);
});

test('without a proven token nobody gets in', async () => {
  const { principal, token } = await application();
  const good = await token();
  const refused = (header: string | undefined, code: string, on = directory) =>
    assert.rejects(on.authenticate(header), { code });
  await refused(undefined, 'AuthenticationFailed');
  await refused('', 'AuthenticationFailed');
  await refused('Basic YTpi', 'AuthenticationFailed');
  await refused('Bearer nonsense', 'InvalidAuthenticationToken');
  await refused(`Bearer ${'x'.repeat(20_000)}`, 'InvalidAuthenticationToken');
  const [head, body, signature] = good.split('.');
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  await refused(`Bearer ${none}.${body}.`, 'InvalidAuthenticationToken');
  const forged = Buffer.from(JSON.stringify({ ...decodeJwt(good), oid: 'somebody' })).toString('base64url');
  await refused(`Bearer ${head}.${forged}.${signature}`, 'InvalidAuthenticationToken');

  // Our key's name under another's signature; and a token of somebody else altogether.
  const { privateKey } = await generateKeyPair('RS256');
  const foreign = (kid: string, issuer: string) =>
    new SignJWT({ ...decodeJwt(good), iss: issuer }).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey);
  const ours = decodeProtectedHeader(good).kid!;
  await refused(`Bearer ${await foreign(ours, `${ORIGIN}/adfs`)}`, 'InvalidAuthenticationToken');
  const azure = await foreign('other', 'https://sts.windows.net/b00b5/');
  await refused(`Bearer ${azure}`, 'InvalidAuthenticationTokenTenant');
  const shared = new SignJWT({ ...decodeJwt(good) }).setProtectedHeader({ alg: 'HS256', kid: ours });
  const public_ = Buffer.from(JSON.stringify(directory.keys[0]));
  await refused(`Bearer ${await shared.sign(public_)}`, 'InvalidAuthenticationToken');

  const moved = await open('https://other.example.org');
  await refused(`Bearer ${good}`, 'InvalidAuthenticationTokenTenant', moved);
  await moved.close();
  assert.equal((await directory.authenticate(`Bearer ${good}`)).objectId, principal.object_id);
});

test('a token is for what it was asked for', async () => {
  const { token } = await application();
  const storage = `Bearer ${await token('https://storage.azure.com')}`;
  await assert.rejects(directory.authenticate(storage), { code: 'InvalidAuthenticationTokenAudience' });
  await directory.authenticate(storage, 'storage');
  // Also when it is remembered.
  await assert.rejects(directory.authenticate(storage), { code: 'InvalidAuthenticationTokenAudience' });
  const management = `Bearer ${await token()}`;
  await directory.authenticate(management);
  await assert.rejects(directory.authenticate(management, 'graph'), { code: 'InvalidAuthenticationTokenAudience' });
  const both = `Bearer ${await token(`${ORIGIN}/`)}`;
  await directory.authenticate(both);
  await directory.authenticate(both, 'graph');
  await assert.rejects(token('https://vault.azure.net'), { error: 'invalid_resource', status: 400 });
});

test('a token ends', async t => {
  const { token } = await application();
  const header = `Bearer ${await token()}`;
  await directory.authenticate(header);
  t.after(() => {
    elapsed = 0;
  });
  elapsed = (TOKEN_LIFE - 60) * 1000;
  await directory.authenticate(header);
  elapsed = (TOKEN_LIFE + 60) * 1000;
  await assert.rejects(directory.authenticate(header), {
    code: 'ExpiredAuthenticationToken',
    message:
      /^The access token expiry UTC time '\d+\/\d+\/\d+ [\d:]+ [AP]M' is earlier than current UTC time '\d+\/\d+\/\d+ [\d:]+ [AP]M'\.$/,
  });
  elapsed = -600_000;
  await assert.rejects(directory.authenticate(header), { code: 'InvalidAuthenticationToken' });
});

test('a deleted principal is refused at once, by a directory of another process as well', async () => {
  const { principal, token, secret } = await application();
  const header = `Bearer ${await token()}`;
  const other = await open();
  await directory.authenticate(header);
  await other.authenticate(header);
  await removePrincipal(database.kysely, principal.client_id);
  // The directories' clock stands still, so that only the notification can make them look again.
  for (const one of [directory, other]) {
    const accepts = () =>
      one.authenticate(header).then(
        () => true,
        () => false,
      );
    while (await accepts()) await nextTurn();
    await assert.rejects(one.authenticate(header), { code: 'InvalidAuthenticationToken' });
  }
  await other.close();
  const again = { clientId: principal.client_id, proof: { secret }, resource: RESOURCE, authority: 'adfs' } as const;
  await assert.rejects(directory.signIn(again), { error: 'unauthorized_client', number: 700016 });
  assert.deepEqual(await secretsOf(database.kysely, principal.object_id), []);
  await assert.rejects(removePrincipal(database.kysely, principal.client_id), { code: 'PrincipalNotFound' });
});

test('secrets are random, kept hashed, and end', async () => {
  const { principal, secret } = await application();
  assert.equal(Buffer.from(secret, 'base64url').length, 40);
  assert.notEqual(newSecret(), newSecret());
  const [row] = await secretsOf(database.kysely, principal.object_id);
  assert.ok(!JSON.stringify(row).includes(secret));
  assert.equal(row!.hash, hashSecret(secret));
  assert.ok(!isSecret(`${secret}x`, row!.hash));

  const expiring = await addSecret(database.kysely, principal.object_id, { expiresAt: new Date(start - 1000) });
  const signIn = (given: string) =>
    directory.signIn({
      clientId: principal.client_id,
      proof: { secret: given },
      resource: RESOURCE,
      authority: 'entra',
    });
  await assert.rejects(signIn(expiring.secret), { error: 'invalid_client', number: 7000222, status: 401 });
  await assert.rejects(signIn('wrong'), { error: 'invalid_client', number: 7000215, status: 401 });
  assert.equal(decodeJwt((await signIn(secret)).token).iss, `${ORIGIN}/${LOCAL_TENANT}/v2.0`);
});

test('the challenge names the tenant and cannot be broken out of', () => {
  const missing = directory.challenge({
    code: 'AuthenticationFailed',
    message: "Authentication failed. The 'Authorization' header is missing.",
  });
  assert.equal(
    missing,
    `Bearer authorization_uri="${ORIGIN}/${LOCAL_TENANT}", error="invalid_token", error_description="The authentication failed because of missing 'Authorization' header."`,
  );
  const hostile = directory.challenge({ code: 'InvalidAuthenticationToken', message: 'a"b\r\nX: y\u2028\\' });
  assert.match(hostile, /error_description="a'b''X: y''"$/);
});

test('an identity is a principal as long as it is a resource', async () => {
  const S = '11111111-2222-3333-4444-555555555555';
  const { kysely } = database;
  const groupId = resourceGroupId(S, 'g');
  await putValidated(kysely, resourceGroups, { id: groupId, body: { location: 'eastus' }, apiVersion: '2021-04-01' });
  const id = resourceId(S, 'g', 'Microsoft.ManagedIdentity/userAssignedIdentities', 'Builder');
  const put = () =>
    kysely
      .transaction()
      .execute(trx => putIdentity(trx, { id, body: { location: 'eastus' }, apiVersion: '2023-01-31' }));
  const { resource } = await put();
  await put();
  const principal = (await principalOfResource(kysely, id))!;
  assert.equal(principal.object_id, resource.properties.principalId);
  assert.equal(principal.client_id, resource.properties.clientId);
  await assert.rejects(addSecret(kysely, principal.object_id), { code: 'Conflict' });
  await assert.rejects(removePrincipal(kysely, principal.object_id), { code: 'Conflict' });

  const keys = await openKeys(home);
  const header = keys.identityHeader(principal.object_id);
  const ask = (given: string, identity?: string) =>
    directory.identityToken({ header: given, resource: RESOURCE, ...(identity !== undefined && { identity }) });
  const { token, clientId } = await ask(header, principal.client_id);
  assert.equal(clientId, principal.client_id);
  assert.equal((await directory.authenticate(`Bearer ${token}`)).objectId, principal.object_id);
  await ask(header, id);
  await assert.rejects(ask(header, LOCAL_TENANT), { error: 'invalid_request' });
  const { principal: app } = await application();
  for (const wrong of ['', 'x', `${principal.object_id}.x`, `${app.object_id}.${header.split('.')[1]}`])
    await assert.rejects(ask(wrong), { error: 'invalid_client' }, wrong);
  // An application's own header would be right, yet it is no identity.
  await assert.rejects(ask(keys.identityHeader(app.object_id)), { error: 'invalid_client' });

  await kysely
    .insertInto('role_assignment')
    .values({
      id: '99999999-2222-4333-8444-555555555555',
      scope: '/',
      display_scope: '/',
      principal_id: principal.object_id,
      principal_type: 'ServicePrincipal',
      role_definition_id: '8e3af657-a8ff-443c-a75c-2fe8c4bcb635',
    })
    .execute();
  await deleteResource(kysely, id);
  assert.equal(await findPrincipal(kysely, principal.object_id), undefined);
  const left = await kysely
    .selectFrom('role_assignment')
    .selectAll()
    .where('principal_id', '=', principal.object_id)
    .execute();
  assert.deepEqual(left, []);
  await assert.rejects(ask(header), { error: 'invalid_client' });
});

test('the keys stay, and are for their owner only', async () => {
  const path = join(home.root, 'keys.json');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const { token } = await application();
  const text = await token();
  const again = await open();
  await again.authenticate(`Bearer ${text}`);
  await again.close();
  const sound = await readFile(path, 'utf8');
  await writeFile(path, '{}');
  await assert.rejects(open(), { code: 'StateUnwritable' });

  // A new key in front signs; the old one still verifies.
  const other = await mkdtemp(join(tmpdir(), 'kiln-keys-'));
  await openKeys({ ...home, root: other });
  const fresh = JSON.parse(await readFile(join(other, 'keys.json'), 'utf8'));
  await rm(other, { recursive: true });
  const file = JSON.parse(sound);
  await writeFile(path, JSON.stringify({ ...file, signing: [...fresh.signing, ...file.signing] }));
  const rotated = await open();
  await rotated.authenticate(`Bearer ${text}`);
  assert.equal(rotated.keys.length, 2);
  assert.equal(rotated.keys[0]!.kid, fresh.signing[0].kid);
  await rotated.close();
});
