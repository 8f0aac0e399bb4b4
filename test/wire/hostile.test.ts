/** Requests that no client sends by mistake: each gets an error in the envelope that clients read, and none is the server's fault. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Answer, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Hostile');
});
after(() => server?.close());

interface Envelope {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details?: readonly { message: string }[];
  };
}

function assertError(answer: Pick<Answer, 'status' | 'body' | 'text'>, status: number, code: string): Envelope {
  assert.equal(answer.status, status, answer.text);
  assert.equal((answer.body as Envelope).error.code, code, answer.text);
  return answer.body as Envelope;
}

/** Of bytes that were sent as they are. */
function parsed(came: string): { status: number; headers: string; body: unknown; text: string } {
  const [headers = '', text = ''] = came.split('\r\n\r\n');
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(headers)?.[1]), headers, body: JSON.parse(text), text: came };
}

test('words that every JavaScript object has are no actions', async () => {
  const path = ground.template('words');
  for (const word of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'])
    assertError(await server.request('POST', `${path}/${word}`, { apiVersion: NEWEST }), 405, 'MethodNotAllowed');
  assert.deepEqual(server.errors, []);
});

test('a run output may have any name that the pattern allows', async () => {
  const path = ground.template('outputs');
  for (const name of ['.', '..']) assertError(await put(path, name), 400, 'ValidationFailed');
  const made = await put(path, '__proto__');
  assert.equal(made.status, 201, made.text);
  await server.settled(made);
  const distribute = ((await get(path)).body as { properties: { distribute: object[] } }).properties.distribute;
  assert.equal((distribute[0] as { runOutputName: string }).runOutputName, '__proto__');
  assert.equal((await server.request('POST', `${path}/run`, { apiVersion: NEWEST })).status, 202);
  const { kysely } = server.service.database;
  const run = await kysely.selectFrom('run').select('id').executeTakeFirstOrThrow();
  await kysely
    .insertInto('run_output')
    .values({
      ...{ id: `${path}/runOutputs/__proto__`.toLowerCase(), display_id: `${path}/runOutputs/__proto__` },
      ...{ template_id: path.toLowerCase(), name: '__proto__', run_id: run.id, location: 'westus' },
      artifact_uri: 'file:///nowhere',
    })
    .execute();
  const output = await get(`${path}/runOutputs/__proto__`);
  assert.equal(output.status, 200, output.text);
  assert.equal((output.body as { name: string }).name, '__proto__');
});

test('an address that is not well encoded, and bytes that are no request, are refused in the envelope', async () => {
  const authorization = `Authorization: Bearer ${server.administrator.token}`;
  const send = async (path: string, more = '') =>
    parsed(
      await server.raw(
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${authorization}\r\n${more}Connection: close\r\n\r\n`,
      ),
    );
  for (const path of ['/subscriptions/%', '/subscriptions/%zz/resourcegroups', '/subscriptions/%ff%fe', '/%c0%af']) {
    const answer = await send(path);
    assertError(answer, 400, 'InvalidRequestContent');
    assert.match(answer.headers, /^x-ms-request-id: [0-9a-f-]{36}\r$/im);
    assert.match(answer.headers, /^x-ms-correlation-request-id: [0-9a-f-]{36}\r$/im);
    assert.match(answer.headers, /^content-type: application\/json/im);
  }
  assertError(await send('/subscriptions', `X-Long: ${'x'.repeat(70_000)}\r\n`), 431, 'RequestHeaderFieldsTooLarge');
  for (const bytes of ['nonsense\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n']) {
    const answer = parsed(await server.raw(bytes));
    assertError(answer, 400, 'InvalidRequestContent');
    assert.match(answer.headers, /^x-ms-request-id: [0-9a-f-]{36}$/im);
  }
});

test('an answer binds browsers to nothing on the other ports of its host', async () => {
  for (const path of ['/subscriptions', '/metadata/az-cloud-config', '/nowhere'])
    assert.equal((await server.request('GET', path)).headers['strict-transport-security'], undefined, path);
});

test('tags have their limits on every tracked type, and on groups', async () => {
  const tags = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`t${index}`, 'v']));
  const places: readonly (readonly [path: string, apiVersion: string])[] = [
    [`${ground.group}-tags`, '2021-04-01'],
    [`${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/tagged`, '2023-01-31'],
    [`${ground.group}/providers/Microsoft.Compute/galleries/tagged`, '2023-07-03'],
  ];
  for (const [path, apiVersion] of places) {
    const put = (value: object) =>
      server.request('PUT', path, { apiVersion, body: { location: 'westus', tags: value, properties: {} } });
    assertError(await put(tags(51)), 400, 'InvalidTagCount');
    assertError(await put({ ['n'.repeat(513)]: 'v' }), 400, 'InvalidTagName');
    assertError(await put({ n: 'v'.repeat(257) }), 400, 'InvalidTagValueLength');
    assert.ok([200, 201].includes((await put({ ...tags(49), ['n'.repeat(512)]: 'v'.repeat(256) })).status), path);
    assertError(await server.request('PATCH', path, { apiVersion, body: { tags: tags(51) } }), 400, 'InvalidTagCount');
  }
});

test('a location that is no text is told from one that is missing', async () => {
  const put = (location: unknown) =>
    server.request('PUT', `${ground.group}-places`, { apiVersion: '2021-04-01', body: { location } });
  for (const wrong of [5, ['westus'], { name: 'westus' }, true])
    assertError(await put(wrong), 400, 'InvalidRequestContent');
  for (const missing of [undefined, null, ' ']) assertError(await put(missing), 400, 'LocationRequired');
});

test('a wrong template of megabytes is refused shortly', async () => {
  const properties = Object.fromEntries(Array.from({ length: 150_000 }, (_, index) => [`unknown${index}`, 1]));
  const body = { ...plainTemplate(ground), properties };
  const answer = await server.request('PUT', ground.template('large'), { apiVersion: NEWEST, body });
  const { error } = assertError(answer, 400, 'ValidationFailed');
  assert.ok(answer.text.length < 200_000);
  assert.match(error.details!.at(-1)!.message, /^\d+ more violations are left out\.$/);
});

const get = (path: string) => server.request('GET', path, { apiVersion: NEWEST });
const put = (path: string, runOutputName: string) =>
  server.request('PUT', path, {
    apiVersion: NEWEST,
    body: withOutput(runOutputName),
  });

function withOutput(runOutputName: string): object {
  const template = plainTemplate(ground) as { properties: object };
  return { ...template, properties: { ...template.properties, distribute: [{ type: 'VHD', runOutputName }] } };
}
