/** `kiln serve`, `kiln env` and `kiln principal` as people use them: processes of their own on one state directory. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../src/processes/process.ts';
import { kiln, leftovers, type Running, start, temporaryHome } from '../kiln.ts';

let home: Awaited<ReturnType<typeof temporaryHome>>;
let server: Running;
let origin: string;
let said: string;
let agent: Agent;
/** What the environment must not bring in. */
const CLEAN = { KILN_HOME: '', DATABASE_URL: '', SSL_CERT_FILE: '', REQUESTS_CA_BUNDLE: '', CURL_CA_BUNDLE: '' };

const inHome = (...args: string[]) => kiln(['--home', home.path, ...args], CLEAN);

async function json(...args: string[]) {
  const { exitCode, stdout, stderr } = await inHome(...args, '--json');
  assert.equal(exitCode, 0, stderr + stdout);
  return JSON.parse(stdout);
}

async function serve(...args: string[]): Promise<Running> {
  const running = start(['--home', home.path, 'serve', '--port', '0', ...args], CLEAN);
  origin = (await running.until(/https:\/\/[^\s/]+:\d+/))[0];
  await running.until(/Ctrl-C/);
  return running;
}

before(async () => {
  home = await temporaryHome();
  server = await serve('-v', '--subscription', '11111111-2222-4333-8444-555555555555');
  agent = new Agent({ ca: await readFile(join(home.path, 'tls/ca.pem')), keepAlive: true });
});
after(async () => {
  agent?.destroy();
  server?.child.kill('SIGTERM');
  await server?.ended;
  await home.remove();
});

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: every field is asserted
  readonly body: any;
}

function ask(path: string, options: { token?: string; form?: Record<string, string> } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const body = options.form && new URLSearchParams(options.form).toString();
    const outgoing = request(
      `${origin}${path}`,
      {
        agent,
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
          ...(options.token && { authorization: `Bearer ${options.token}` }),
        },
      },
      async answer => resolve({ status: answer.statusCode!, body: JSON.parse((await answer.toArray()).join('')) }),
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function signIn(clientId: string, secret: string): Promise<Answer> {
  return await ask('/adfs/oauth2/token', {
    form: {
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: secret,
      resource: 'https://management.local/',
    },
  });
}

const SUBSCRIPTIONS = '/subscriptions?api-version=2022-12-01';

test('a first start makes an administrator, whose secret it does not say', async () => {
  const path = join(home.path, 'admin.json');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const { appId, password } = JSON.parse(await readFile(path, 'utf8'));
  const { body } = await signIn(appId, password);
  const { status, body: subscriptions } = await ask(SUBSCRIPTIONS, { token: body.access_token });
  assert.equal(status, 200);
  assert.deepEqual(
    subscriptions.value.map((one: { subscriptionId: string }) => one.subscriptionId),
    ['00000000-0000-4000-8000-00006b696c6e', '11111111-2222-4333-8444-555555555555'],
  );
  assert.equal((await ask(SUBSCRIPTIONS)).status, 401);
  said = (await server.until(/\d\d:\d\d:\d\d\.\d{3} GET \/subscriptions 401 \d+ ms\n/)).input;
  assert.match(said, /GET \/subscriptions 200 \d+ ms administrator\n/);
  assert.ok(said.includes(path));
  assert.ok(!said.includes(password));
});

test('kiln env sets up a shell that has nothing else', async () => {
  const { exitCode, stdout, stderr } = await inHome('env');
  assert.equal(exitCode, 0, stderr);
  const script = `${stdout}
    token=$(curl -sS "$KILN_ENDPOINT/adfs/oauth2/token" -d grant_type=client_credentials -d resource=$ARM_RESOURCE_MANAGER_AUDIENCE \
      -d client_id="$AZURE_CLIENT_ID" -d client_secret="$AZURE_CLIENT_SECRET" | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
    curl -sS -H "Authorization: Bearer $token" "$KILN_ENDPOINT/subscriptions?api-version=2022-12-01"`;
  const shell = await run('sh', ['-c', script], { env: { PATH: process.env.PATH } });
  assert.equal(JSON.parse(shell.stdout).value.length, 2);

  const variables = await json('env');
  assert.equal(variables.KILN_ENDPOINT, origin);
  assert.equal(variables.AZURE_AUTHORITY_HOST, origin);
  const directory = join(home.path, 'azure', variables.AZURE_CLIENT_ID);
  assert.equal(variables.AZURE_CONFIG_DIR, directory);
  assert.equal(variables.ARM_METADATA_HOSTNAME, new URL(origin).host);
  for (const [name, value] of Object.entries(variables)) assert.ok(stdout.includes(`export ${name}='${value}';\n`));
  const bundle = await readFile(variables.SSL_CERT_FILE, 'utf8');
  assert.ok(bundle.includes(await readFile(variables.NODE_EXTRA_CA_CERTS, 'utf8')));
  assert.ok(bundle.match(/BEGIN CERTIFICATE/g)!.length > 10, 'the system’s own authorities are trusted still');
  const clouds = await readFile(join(directory, 'clouds.config'), 'utf8');
  assert.match(clouds, new RegExp(`endpoint_active_directory = ${origin}/adfs\n`));

  const powershell = await inHome('env', '--shell', 'powershell');
  assert.ok(powershell.stdout.includes(`$env:KILN_ENDPOINT = '${origin}'\n`));
});

test('principals come, may what their role says, and go', async () => {
  const scope = '/subscriptions/11111111-2222-4333-8444-555555555555';
  const made = await json('principal', 'create', 'ci', '--role', 'reader', '--scope', scope);
  const { body } = await signIn(made.appId, made.password);
  const { value } = (await ask(SUBSCRIPTIONS, { token: body.access_token })).body;
  assert.deepEqual(
    value.map((one: { id: string }) => one.id),
    [scope],
  );
  const listed = await json('principal', 'list');
  const ci = listed.find((one: { displayName: string }) => one.displayName === 'ci');
  assert.deepEqual(ci.roles, [{ role: 'Reader', scope }]);
  assert.ok(!JSON.stringify(listed).includes(made.password));
  const { stdout } = await inHome('principal', 'list');
  assert.match(stdout, /administrator +Application +[0-9a-f-]{36} +[0-9a-f-]{36} +Owner at \//);

  assert.equal((await inHome('principal', 'delete', made.appId)).exitCode, 0);
  while ((await ask(SUBSCRIPTIONS, { token: body.access_token })).status !== 401) assert.ok(true);
  assert.equal((await signIn(made.appId, made.password)).body.error, 'unauthorized_client');
  const again = await inHome('principal', 'delete', made.appId, '--json');
  assert.equal(JSON.parse(again.stdout).error.code, 'PrincipalNotFound');
});

test('a wrong principal is refused as a whole', async () => {
  const before_ = await json('principal', 'list');
  for (const [args, code] of [
    [['x', '--role', 'Emperor', '--scope', '/'], 'RoleDefinitionDoesNotExist'],
    [['x', '--role', 'Reader', '--scope', 'nonsense'], 'InvalidParameter'],
    [['x', '--role', 'Reader'], 'UsageError'],
    [[' '], 'UsageError'],
    [['x', '--expires', 'soon'], 'UsageError'],
  ] as const) {
    const { stdout } = await inHome('principal', 'create', ...args, '--json');
    assert.equal(JSON.parse(stdout).error.code, code, args.join(' '));
  }
  assert.deepEqual(await json('principal', 'list'), before_);
});

test('bad options are one clear error', async () => {
  for (const [args, exitCode, message] of [
    [['--port', '-1'], 2, /^error: --port takes a whole number/],
    [['--workers', 'many'], 2, /^error: --workers takes a whole number/],
    [['--origin', 'http://kiln.example.org'], 2, /^error: --origin takes a URL/],
  ] as const) {
    const outcome = await inHome('serve', ...args);
    assert.equal(outcome.exitCode, exitCode, args.join(' ') + outcome.stderr);
    assert.match(outcome.stderr, message);
  }
});

test('a port that is taken, an address that is not here, a subscription that is none', async () => {
  const other = await temporaryHome();
  const { port } = new URL(origin);
  try {
    for (const [args, exitCode, message] of [
      [['--port', port], 5, new RegExp(`^error: Another program listens at 127.0.0.1:${port} already.\n  hint: `, 'm')],
      [['--port', '0', '--host', 'nosuch.invalid'], 5, /^error: This host has no address nosuch.invalid.\n/m],
      [['--port', '0', '--subscription', 'mine'], 2, /^error: /m],
    ] as const) {
      const outcome = await kiln(['--home', other.path, 'serve', ...args], CLEAN);
      assert.equal(outcome.exitCode, exitCode, args.join(' ') + outcome.stderr);
      assert.match(outcome.stderr, message);
    }
  } finally {
    await other.remove();
  }
});

test('a second server on a state directory is refused; what a killed one left is not in the way', async () => {
  const before_ = await readFile(join(home.path, 'server.json'), 'utf8');
  const second = await inHome('serve', '--port', '0');
  assert.equal(second.exitCode, 6, second.stderr);
  assert.ok(second.stderr.includes(`process ${server.child.pid}, at ${origin}.`), second.stderr);
  assert.equal(await readFile(join(home.path, 'server.json'), 'utf8'), before_);
  assert.equal((await ask(SUBSCRIPTIONS)).status, 401);

  server.child.kill('SIGKILL');
  await server.ended;
  assert.equal(await readFile(join(home.path, 'server.json'), 'utf8'), before_);
  server = await serve('-v');
  assert.equal((await json('env')).KILN_ENDPOINT, origin);
});

test('the server ends gracefully, leaves nothing running, and comes back as it was', async () => {
  const { AZURE_CLIENT_ID: id, AZURE_CLIENT_SECRET: secret } = await json('env');
  const { body } = await signIn(id, secret);
  const keys = (await ask('/adfs/discovery/keys')).body;
  // A client that is connected and says nothing does not hold it.
  const idle = connect(Number(new URL(origin).port), '127.0.0.1');
  idle.on('error', () => {});
  server.child.kill('SIGTERM');
  const { exitCode, stderr } = await server.ended;
  idle.destroy();
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(await leftovers(home.path), []);
  assert.ok(!(await readdir(home.path)).includes('server.json'));
  const none = await inHome('env');
  assert.equal(none.exitCode, 5);
  assert.match(none.stderr, /^error: No server runs on the state directory .*\n {2}hint: .*kiln serve/);

  const before_ = new URL(origin).port;
  server = await serve('--port', before_);
  assert.doesNotMatch((await server.until(/Ctrl-C/)).input, /administrator/);
  assert.deepEqual((await ask('/adfs/discovery/keys')).body, keys);
  assert.equal((await ask(SUBSCRIPTIONS, { token: body.access_token })).status, 200);
  assert.equal((await signIn(id, secret)).status, 200);
});

test('without its credentials kiln env says what to do, and takes others', async () => {
  const file = join(home.path, 'me.json');
  const made = await json('principal', 'create', 'me', '--role', 'Owner', '--scope', '/', '--out', file);
  assert.deepEqual(Object.keys(made), ['displayName', 'appId', 'tenant', 'file']);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const credentials = JSON.parse(await readFile(file, 'utf8'));
  const again = await inHome('principal', 'create', 'again', '--out', file);
  assert.equal(again.exitCode, 2, again.stderr);
  assert.match(again.stderr, /me\.json cannot be made: it is there already/);
  assert.match(
    (await inHome('principal', 'create', 'again', '--out', join(file, 'x'))).stderr,
    /^error: .* cannot be made/,
  );
  assert.ok(!(await json('principal', 'list')).some((one: { displayName: string }) => one.displayName === 'again'));

  const before_ = (await json('env')).AZURE_CONFIG_DIR;
  await rm(join(home.path, 'admin.json'));
  const { exitCode, stderr } = await inHome('env');
  assert.equal(exitCode, 2);
  assert.match(stderr, /hint: kiln principal create/);
  const variables = await json('env', '--credentials', file);
  assert.equal(variables.AZURE_CLIENT_ID, credentials.appId);
  assert.notEqual(variables.AZURE_CONFIG_DIR, before_, 'az stays who it is in the other terminal');
  await writeFile(file, JSON.stringify({ ...credentials, password: 'wrong' }));
  const refused = await inHome('env', '--credentials', file);
  assert.match(refused.stderr, /AADSTS7000215/);
});
