/** Secrets in the URLs of templates: who is shown them, and that the database has none in plain text. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { json } from '../../src/database/json.ts';
import { startTestServer, type TestPrincipal, type TestServer } from '../server.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate, TEMPLATES } from './ground.ts';

let server: TestServer;
let ground: Ground;
let files: FileServer;
let reader: TestPrincipal;
let contributor: TestPrincipal;

before(async () => {
  server = await startTestServer();
  files = await serveFiles();
  ground = await makeGround(server, 'secrets');
  reader = await server.principal('reader', { id: READER, scope: ground.group });
  contributor = await server.principal('contributor', { id: CONTRIBUTOR, scope: ground.group });
});
after(async () => {
  await server?.close();
  await files?.close();
});

const SIGNATURE = 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4%2B%2Fw%3D';
const PLAIN = 'sv=2024-11-04&se=2099-01-01T00%3A00%3A00Z&sp=rcw';
const SAS = `${PLAIN}&sig=${SIGNATURE}`;

interface Step {
  readonly scriptUri?: string;
  readonly sourceUri?: string;
}

interface Shown {
  readonly location: string;
  readonly tags: object;
  readonly identity: object;
  readonly properties: Readonly<Record<string, unknown>> & {
    readonly customize: readonly Step[];
    readonly validate: { readonly inVMValidations: readonly Step[] };
    readonly optimize: { readonly workload: Step };
    readonly distribute: readonly { readonly uri: string }[];
  };
}

/** Nothing listens where it would be uploaded to. */
const distribute = (query: string, name = 'vhd') => [
  { type: 'VHD', runOutputName: name, uri: `http://127.0.0.1:1/vhds/${name}.vhd?${query}` },
];

function template(query: string) {
  const uri = (name: string) => `${files.origin}/${name}?${query}`;
  const { properties, ...rest } = plainTemplate(ground) as Omit<Shown, 'properties'> & { readonly properties: object };
  const customize = [
    { type: 'Shell', name: 'script', scriptUri: uri('a.sh') },
    { type: 'File', name: 'file', sourceUri: uri('a.txt'), destination: '/tmp/a' },
  ];
  const validate = { inVMValidations: [{ type: 'Shell', name: 'check', scriptUri: uri('v.sh') }] };
  const optimize = { workload: { state: 'Enabled', scriptUri: uri('w.sh') } };
  return { ...rest, properties: { ...properties, customize, validate, optimize, distribute: distribute(query) } };
}

const urlsOf = ({ properties: { customize, validate, optimize, distribute } }: Pick<Shown, 'properties'>) => [
  ...[...customize, ...validate.inVMValidations].map(step => step.scriptUri ?? step.sourceUri),
  optimize.workload.scriptUri,
  ...distribute.map(({ uri }) => uri),
];

async function make(name: string): Promise<string> {
  const path = ground.template(name);
  const answer = await server.request('PUT', path, { apiVersion: NEWEST, body: template(SAS) });
  assert.equal(answer.status, 201, answer.text);
  assert.deepEqual(urlsOf(answer.body as Shown), urlsOf(template(SAS)));
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
  const ended = (await server.settled(answer)).body as { status: string };
  assert.equal(ended.status, 'Succeeded', JSON.stringify(ended));
  return path;
}

async function get(path: string, { token }: TestPrincipal): Promise<Shown> {
  const { status, text, body } = await server.request('GET', path, { apiVersion: NEWEST, token });
  assert.equal(status, 200, text);
  return body as Shown;
}

/** All rows of the database, as text. */
async function everything(): Promise<string> {
  const { kysely } = server.service.database;
  const tables = await sql<{ schema: string; name: string }>`select table_schema as schema, table_name as name
    from information_schema.tables where table_type = 'BASE TABLE' and table_schema not in ('information_schema', 'pg_catalog')`.execute(
    kysely,
  );
  assert.ok(tables.rows.some(({ name }) => name === 'operation'));
  let all = '';
  for (const { schema, name } of tables.rows) {
    const { rows } = await sql<{ row: string }>`select t::text as row from ${sql.table(`${schema}.${name}`)} t`.execute(
      kysely,
    );
    all += rows.map(({ row }) => row).join('\n');
  }
  return all;
}

test('who may write sees URLs as they were given, who may only read sees them without signature', async () => {
  const path = await make('seen');
  const whole = await get(path, contributor);
  assert.deepEqual(urlsOf(whole), urlsOf(template(SAS)));
  const part = await get(path, reader);
  assert.deepEqual(urlsOf(part), urlsOf(template(PLAIN)));
  for (const [principal, query] of [
    [contributor, SAS],
    [reader, PLAIN],
  ] as const) {
    const list = (await get(`${ground.group}/${TEMPLATES}`, principal)) as unknown as { value: Shown[] };
    assert.deepEqual(list.value.map(urlsOf), [urlsOf(template(query))]);
  }
  const { kysely } = server.service.database;
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
  await kysely.deleteFrom('resource').where('name', '=', 'seen').execute();
});

test('what was read can be written: GET and PUT again gives the same template', async () => {
  const { location, tags, properties } = await get(await make('first'), contributor);
  const { provisioningState, lastRunStatus, exactStagingResourceGroup, ...own } = properties;
  const again = ground.template('second');
  const body = { location, tags, identity: template(SAS).identity, properties: own };
  const answer = await server.request('PUT', again, { apiVersion: NEWEST, body, token: contributor.token });
  assert.equal(answer.status, 201, answer.text);
  assert.equal(((await server.settled(answer)).body as { status: string }).status, 'Succeeded');
  assert.deepEqual(urlsOf(await get(again, contributor)), urlsOf({ properties }));
});

test('a PATCH of the targets is kept encrypted too, in the operation and in the template', async () => {
  const path = await make('patched');
  const wanted = [...distribute(SAS), ...distribute(SAS, 'more')];
  const answer = await server.request('PATCH', path, {
    apiVersion: NEWEST,
    body: { properties: { distribute: wanted } },
  });
  assert.equal(answer.status, 202, answer.text);
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
  assert.equal(((await server.settled(answer)).body as { status: string }).status, 'Succeeded');
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
  const uris = async (who: TestPrincipal) => (await get(path, who)).properties.distribute.map(({ uri }) => uri);
  assert.deepEqual(
    await uris(contributor),
    wanted.map(({ uri }) => uri),
  );
  assert.deepEqual(
    await uris(reader),
    [...distribute(PLAIN), ...distribute(PLAIN, 'more')].map(({ uri }) => uri),
  );
});

test('a run has the signature: the target is asked with it', async () => {
  const path = await make('run');
  const answer = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  assert.equal(answer.status, 202, answer.text);
  const ended = (await server.settled(answer)).body as { error: { message: string } };
  assert.match(JSON.stringify(ended), /127\.0\.0\.1:1\/vhds\/vhd\.vhd/);
  assert.doesNotMatch(JSON.stringify(ended), /has no signature|a1B2c3D4|kiln-sealed/);
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
});

test('what an older Kiln stored in plain text is read as before, and encrypted with the next change', async () => {
  const path = await make('old');
  const { kysely } = server.service.database;
  await kysely
    .updateTable('resource')
    .set(eb => ({
      properties: eb(eb.ref('properties'), '||', json<unknown>({ distribute: distribute(SAS) })) as never,
    }))
    .where('name', '=', 'old')
    .execute();
  assert.match(await everything(), /a1B2c3D4/);
  assert.deepEqual(urlsOf(await get(path, contributor)), urlsOf(template(SAS)));
  assert.deepEqual(urlsOf(await get(path, reader)), urlsOf(template(PLAIN)));
  const body = { properties: { distribute: distribute(SAS) } };
  const answer = await server.request('PATCH', path, { apiVersion: NEWEST, body });
  assert.equal(((await server.settled(answer)).body as { status: string }).status, 'Succeeded');
  assert.doesNotMatch(await everything(), /a1B2c3D4/);
});
