/** Sign-in with a certificate that openssl made. */
import assert from 'node:assert/strict';
import { createPrivateKey, type KeyObject, randomUUID, X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { decodeJwt, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose';
import { LOCAL_TENANT } from '../arm/ids.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { openHome } from '../home.ts';
import { run } from '../processes/process.ts';
import { addCertificate, readCertificate, removeCertificate } from './certificates.ts';
import { openDirectory, type SignInDirectory } from './directory.ts';
import { createPrincipal, removePrincipal } from './principals.ts';

delete process.env.DATABASE_URL;
const ORIGIN = 'https://127.0.0.1:8443';
const RESOURCE = 'https://management.local/';

let root: string;
let database: Database;
let directory: SignInDirectory;
/** The certificates are made a moment after it. */
let clock = Date.now() + 60_000;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-certificates-'));
  await chmod(root, 0o711);
  const home = await openHome({ home: join(root, 'home'), env: {} });
  const log = () => {};
  database = await openDatabase({ home, log });
  directory = await openDirectory({ home, database, log, origin: () => ORIGIN, now: () => new Date(clock) });
});
after(async () => {
  await directory?.close();
  await database?.close();
  await rm(root, { recursive: true, force: true });
});

interface Pair {
  readonly pem: string;
  readonly key: KeyObject;
}

async function pair(newkey = ['rsa:2048'], days = 30): Promise<Pair> {
  const [certificate, key] = [join(root, `${randomUUID()}.pem`), join(root, `${randomUUID()}.key`)];
  const args = ['req', '-x509', '-nodes', '-subj', '/CN=kiln test', '-days', String(days)];
  await run('openssl', [...args, '-newkey', ...newkey, '-keyout', key, '-out', certificate]);
  return { pem: await readFile(certificate, 'utf8'), key: createPrivateKey(await readFile(key, 'utf8')) };
}

const base64url = (fingerprint: string) => Buffer.from(fingerprint.replaceAll(':', ''), 'hex').toString('base64url');

async function application(given: Pair) {
  const principal = await createPrincipal(database.kysely, { displayName: 'app', kind: 'Application' });
  await addCertificate(database.kysely, principal.object_id, given.pem);
  const { fingerprint, fingerprint256 } = new X509Certificate(given.pem);
  const now = () => Math.floor(clock / 1000);
  const assertion = (claims: JWTPayload = {}, header: Partial<JWTHeaderParameters> = {}, key = given.key) =>
    new SignJWT({
      aud: `${ORIGIN}/${LOCAL_TENANT}/oauth2/v2.0/token`,
      iss: principal.client_id,
      sub: principal.client_id,
      jti: randomUUID(),
      nbf: now(),
      exp: now() + 600,
      ...claims,
    })
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', x5t: base64url(fingerprint), ...header } as JWTHeaderParameters)
      .sign(key);
  const signIn = async (proof: string | Promise<string>, clientId = principal.client_id) =>
    await directory.signIn({
      clientId,
      proof: { assertion: await proof },
      resource: RESOURCE,
      authority: 'entra',
    });
  return { principal, assertion, signIn, sha256: base64url(fingerprint256) };
}

test('a client proves itself by its certificate, in both of MSAL’s forms', async () => {
  const { principal, assertion, signIn, sha256 } = await application(await pair());
  const { token } = await signIn(assertion());
  const claims = decodeJwt(token);
  assert.deepEqual([claims.oid, claims.appid, claims.appidacr], [principal.object_id, principal.client_id, '2']);
  assert.equal((await directory.authenticate(`Bearer ${token}`)).objectId, principal.object_id);
  await signIn(assertion({}, { alg: 'PS256', x5t: undefined as unknown as string, 'x5t#S256': sha256 }));
  for (const aud of [
    `${ORIGIN}/adfs/oauth2/token`,
    `${ORIGIN}/adfs/oauth2/v2.0/token`,
    `${ORIGIN}/${LOCAL_TENANT}/oauth2/token`,
    `${ORIGIN}/organizations/oauth2/v2.0/token`,
    `${ORIGIN}/${LOCAL_TENANT}/v2.0`,
  ])
    await signIn(assertion({ aud }));
  // Libraries send one as often as they need a token, while it lasts.
  const kept = await assertion();
  await signIn(kept);
  await signIn(kept);
});

test('what does not prove the client is refused', async () => {
  const own = await pair();
  const { principal, assertion, signIn } = await application(own);
  const foreign = await pair();
  const refused = (number: number, proof: string | Promise<string>, clientId?: string) =>
    assert.rejects(signIn(proof, clientId), { error: 'invalid_client', status: 401, number }, String(number));
  // Another's signature under this one's thumbprint, and a certificate that nobody registered.
  await refused(700027, assertion({}, {}, foreign.key));
  await refused(700027, assertion({}, { x5t: base64url(new X509Certificate(foreign.pem).fingerprint) }, foreign.key));
  await refused(50027, assertion({}, { x5t: undefined as unknown as string }));
  // A certificate in the header proves nothing.
  await refused(700027, assertion({}, { x5c: [new X509Certificate(foreign.pem).raw.toString('base64')] }, foreign.key));
  const now = clock / 1000;
  await refused(700024, assertion({ exp: now - 3600, nbf: now - 7200 }));
  await refused(700024, assertion({ nbf: now + 3600, exp: now + 4000 }));
  await refused(700024, assertion({ exp: now + 30 * 24 * 3600 }));
  await refused(700021, assertion({ iss: randomUUID() }));
  await refused(700021, assertion({ sub: randomUUID() }));
  for (const aud of [
    'https://login.microsoftonline.com/common/oauth2/v2.0/token',
    ORIGIN,
    `${ORIGIN}/x/oauth2/token`,
    '',
  ])
    await refused(700023, assertion({ aud }));
  await refused(700023, assertion({ aud: [`${ORIGIN}/adfs/oauth2/token`, 'https://elsewhere.example'] }));
  for (const claim of ['exp', 'jti', 'aud', 'iss', 'sub']) await refused(50027, assertion({ [claim]: undefined }));
  await refused(50027, 'a.b.c');
  await refused(50027, 'x'.repeat(20_000));
  const [head, body, signature] = (await assertion()).split('.') as [string, string, string];
  const header = JSON.parse(Buffer.from(head, 'base64url').toString());
  const none = Buffer.from(JSON.stringify({ ...header, alg: 'none' })).toString('base64url');
  await refused(50027, `${none}.${body}.`);
  await refused(50027, `${head}.${body}`);
  const twisted = Buffer.from(signature, 'base64url');
  twisted[10]! ^= 1;
  await refused(700027, `${head}.${body}.${twisted.toString('base64url')}`);
  // By a key that everybody has: the public one as a shared secret.
  const shared = new SignJWT(decodeJwt(`${head}.${body}.${signature}`)).setProtectedHeader({ ...header, alg: 'HS256' });
  await refused(50027, shared.sign(Buffer.from(own.pem)));

  // Another application's client id with this one's assertion.
  const other = await application(await pair());
  await refused(700027, assertion(), other.principal.client_id);

  assert.equal(await removeCertificate(database.kysely, principal.object_id, 'AB'), false);
  const { fingerprint } = new X509Certificate(own.pem);
  assert.equal(await removeCertificate(database.kysely, principal.object_id, fingerprint.toLowerCase()), true);
  await refused(700027, assertion());
  await removePrincipal(database.kysely, principal.client_id);
  await assert.rejects(signIn(assertion()), { error: 'unauthorized_client', number: 700016 });
});

test('a certificate ends', async () => {
  const { assertion, signIn } = await application(await pair());
  clock += 31 * 24 * 3600 * 1000;
  await assert.rejects(signIn(assertion()), { number: 700027, message: /expired/ });
  clock -= 31 * 24 * 3600 * 1000;
  await signIn(assertion());
});

test('only certificates of RSA are taken, and only by applications', async () => {
  const good = await pair();
  const elliptic = await pair(['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']);
  const short = await pair(['rsa:1024']);
  for (const pem of ['', 'x', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', elliptic.pem, short.pem])
    assert.throws(() => readCertificate(pem), { code: 'InvalidParameter', target: 'certificate' });
  // Beside its private key, which is not kept.
  const both = `${good.key.export({ type: 'pkcs8', format: 'pem' })}${good.pem}`;
  const identity = await createPrincipal(database.kysely, { displayName: 'identity', kind: 'ManagedIdentity' });
  await assert.rejects(addCertificate(database.kysely, identity.object_id, both), { code: 'Conflict' });
  await assert.rejects(addCertificate(database.kysely, randomUUID(), both), { code: 'PrincipalNotFound' });
  const principal = await createPrincipal(database.kysely, { displayName: 'app', kind: 'Application' });
  const kept = await addCertificate(database.kysely, principal.object_id, both);
  assert.doesNotMatch(JSON.stringify(kept), /PRIVATE/);
  assert.equal((await addCertificate(database.kysely, principal.object_id, good.pem)).thumbprint, kept.thumbprint);
});
