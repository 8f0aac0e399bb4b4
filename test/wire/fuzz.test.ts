/**
 * Requests that nobody should send, over HTTP: mutated templates of every api-version, bodies that are no JSON, paths that are none. Nothing gives a 500 or
 * hangs, no wrong type is accepted, and the server answers the next request.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type FileServer, serveFiles } from './file-server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';
import { type Contract, contractOf, readDocuments, specsDirectory } from './openapi.ts';
import { wrongTypes } from './template-types.ts';
import {
  API_VERSIONS,
  documentedNames,
  mutate,
  mutation,
  type Places,
  STRICT_SINCE,
  validTemplate,
} from './templates.ts';

const specs = specsDirectory();
const contract: Contract | undefined = 'path' in specs ? contractOf(readDocuments(specs.path)) : undefined;

/** More of everything, when somebody looks for what is rare: `KILN_FUZZ=20`. */
const MORE = Number(process.env.KILN_FUZZ ?? 1);

let server: TestServer;
let files: FileServer;
let ground: Ground;
let places: Places;
let count = 0;

before(async () => {
  files = await serveFiles();
  // What is accepted waits until the last test.
  server = await startTestServer({ concurrency: 0 });
  ground = await makeGround(server, 'fuzz');
  places = { ...ground, files: files.origin };
});
after(async () => {
  await server?.close();
  await files?.close();
});

const sub = () => `/subscriptions/${SUBSCRIPTION}`;

/** An error of Resource Manager's, in either form. */
function assertRefused(answer: Answer, what: string): void {
  const { status, body } = answer;
  assert.ok(status >= 400 && status < 500, `${what}: ${status} ${answer.text.slice(0, 300)}`);
  const error = (body as { error?: unknown } | undefined)?.error ?? body;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  assert.ok(typeof code === 'string' && code !== '', `${what}: ${answer.text.slice(0, 300)}`);
  assert.ok(typeof message === 'string' && message !== '', `${what}: ${answer.text.slice(0, 300)}`);
}

async function assertAnswering(): Promise<void> {
  const answer = await server.request('GET', ground.group, { apiVersion: '2021-04-01' });
  assert.equal(answer.status, 200, 'the server answers no more');
}

/** PUT of a template under a new name. What is accepted is there, what is refused is not. */
async function put(apiVersion: string, body: unknown): Promise<Answer> {
  const path = ground.template(`t${count++}`);
  const answer = await server.request('PUT', path, { apiVersion, body });
  const read = await server.request('GET', path, { apiVersion });
  assert.equal(read.status, answer.status === 201 ? 200 : 404, `${answer.status} ${answer.text.slice(0, 300)}`);
  if (answer.status !== 201) assertRefused(answer, 'PUT');
  return answer;
}

function wrong(apiVersion: string, sent: unknown): string[] {
  const closed = apiVersion >= STRICT_SINCE;
  const body = closed ? sent : documentedNames(sent);
  if (body === undefined) return [];
  const path = `${ground.template('t')}?api-version=${apiVersion}`;
  return [...wrongTypes(body), ...(contract?.checkRequest({ method: 'PUT', path, body }, { closed }) ?? [])];
}

for (const apiVersion of API_VERSIONS) {
  test(`valid templates of ${apiVersion} are accepted`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.noShrink(validTemplate(apiVersion, places)), async body => {
        const answer = await put(apiVersion, body);
        assert.equal(answer.status, 201, answer.text);
      }),
      { numRuns: 6 * MORE },
    );
  });

  test(`mutated templates of ${apiVersion} are accepted only with the right types`, async () => {
    const mutated = fc
      .tuple(validTemplate(apiVersion, places), fc.array(mutation, { minLength: 1, maxLength: 3 }))
      .map(([template, mutations]) => mutations.reduce(mutate, template));
    await fc.assert(
      fc.asyncProperty(mutated, async body => {
        const answer = await put(apiVersion, body);
        if (answer.status !== 201) return;
        // What JSON makes of it: a lone surrogate, -0.
        assert.deepEqual(wrong(apiVersion, JSON.parse(JSON.stringify(body))), [], 'it was accepted');
      }),
      { numRuns: 40 * MORE },
    );
  });
}

test('bodies that are no template', async () => {
  const path = ground.template('body');
  const deep = (open: string, close: string) => open.repeat(50_000) + close.repeat(50_000);
  const bodies: Readonly<Record<string, string | Uint8Array>> = {
    empty: '',
    blank: ' \n ',
    text: 'hello',
    'cut off': '{"location": "westus", "properties": {',
    'two values': '{}{}',
    'a trailing comma': '{"location": "westus",}',
    'a comment': '{/* x */}',
    null: 'null',
    number: '1e999',
    string: '"x"',
    list: '[{}]',
    'deep lists': deep('[', ']'),
    'deep objects': `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
    'invalid UTF-8': Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
    'UTF-16': Buffer.from('{"location":"westus"}', 'utf16le'),
    'zero bytes': Buffer.alloc(1000),
    'gzip magic': Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
    'a lone surrogate': '{"location":"\\ud800"}',
    'a NUL in text': '{"location":"west\\u0000us","properties":{}}',
    NaN: '{"properties":{"buildTimeoutInMinutes":NaN}}',
  };
  for (const [name, body] of Object.entries(bodies)) {
    assertRefused(await server.request('PUT', path, { apiVersion: NEWEST, body }), name);
    await assertAnswering();
  }
});

test('arbitrary bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async bytes => {
      assertRefused(
        await server.request('PUT', ground.template('bytes'), { apiVersion: NEWEST, body: bytes }),
        'bytes',
      );
    }),
    { numRuns: 50 * MORE },
  );
  await assertAnswering();
});

test('members of one name, and of names that JavaScript knows', async () => {
  const good = JSON.stringify(plainTemplate(ground));
  const twice = await server.request('PUT', ground.template('twice'), {
    apiVersion: NEWEST,
    body: good.replace('{', '{"location": 5,'),
  });
  // The last one counts, as in every JSON parser at hand.
  assert.ok(twice.status === 201 || twice.status === 400, twice.text);
  for (const name of ['__proto__', 'constructor', 'toString']) {
    const body = good.replace('{', `{"tags":{"${name}":"x"},`);
    const answer = await server.request('PUT', ground.template(`own${count++}`), { apiVersion: NEWEST, body });
    assert.equal(answer.status, 201, answer.text);
    assert.match(answer.text, new RegExp(`"${name}":\\s*"x"`));
    const polluted = await server.request('PUT', ground.template(`own${count++}`), {
      apiVersion: '2022-02-14',
      body: good.replace('{', `{"${name}":{"polluted":true},`),
    });
    assert.ok(polluted.status < 500, polluted.text);
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  }
});

test('content types', async () => {
  const body = JSON.stringify(plainTemplate(ground));
  for (const type of [
    'text/plain',
    'application/xml',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'x',
    '/',
  ])
    assertRefused(
      await server.request('PUT', ground.template('type'), {
        apiVersion: NEWEST,
        body,
        headers: { 'content-type': type },
      }),
      type,
    );
  for (const type of ['application/json; charset=utf-8', 'application/JSON', 'application/merge-patch+json']) {
    const answer = await server.request('PUT', ground.template(`type${count++}`), {
      apiVersion: NEWEST,
      body,
      headers: { 'content-type': type },
    });
    assert.equal(answer.status, 201, `${type}: ${answer.text}`);
  }
});

test('a body of 5 MiB is refused, one of nearly 4 MiB is read', async () => {
  const padded = (bytes: number) => {
    const template = plainTemplate(ground, { tags: { padding: '' } });
    const text = JSON.stringify(template);
    return text.replace('"padding":""', `"padding":"${'x'.repeat(bytes - text.length)}"`);
  };
  const large = await server.request('PUT', ground.template('large'), {
    apiVersion: NEWEST,
    body: padded(5 * 2 ** 20),
  });
  assert.equal(large.status, 413);
  assertRefused(large, '5 MiB');
  const fitting = await server.request('PUT', ground.template('fits'), {
    apiVersion: NEWEST,
    body: padded(4 * 2 ** 20 - 100),
  });
  assert.notEqual(fitting.status, 413);
  assert.ok(fitting.status < 500, fitting.text);
  await assertAnswering();
});

test('a body without an end, and one that is longer than it says', async () => {
  const head = (more: string) =>
    `PUT ${ground.template('raw')}?api-version=${NEWEST} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.administrator.token}\r\nContent-Type: application/json\r\n${more}\r\n`;
  for (const request of [
    `${head('Content-Length: 5\r\nConnection: close\r\n')}{"location": "westus"}`,
    `${head('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n')}0\r\n\r\n`,
    `${head('Content-Length: 5\r\nContent-Length: 6\r\n')}{}`,
    `${head('Content-Length: -1\r\n')}{}`,
    `${head('Transfer-Encoding: chunked\r\n')}zz\r\n{}\r\n`,
    `${head(`X-Long: ${'x'.repeat(100_000)}\r\n`)}`,
    'GET / HTTP/9.9\r\n\r\n',
    'PUT\r\n\r\n',
    '\u0000\u0001\u0002\r\n\r\n',
  ]) {
    const answer = await server.raw(request);
    assert.doesNotMatch(answer, /^HTTP\/1\.1 (2|5)/, request.slice(0, 200));
    await assertAnswering();
  }
});

/** Paths as they are on the wire: no client library tidies them up. */
async function rawGet(path: string, method = 'GET'): Promise<string> {
  const bytes = Buffer.from(
    `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.administrator.token}\r\nConnection: close\r\n\r\n`,
    'latin1',
  );
  return await server.raw(bytes);
}

test('paths that are none', async () => {
  const good = ground.template('x');
  const version = `api-version=${NEWEST}`;
  const paths = [
    `${good}/../../../..?${version}`,
    `${good}%2f..%2f..?${version}`,
    `${sub()}/resourceGroups/%00/providers/Microsoft.Compute/images/x?${version}`,
    `${sub()}/resourceGroups/%zz?${version}`,
    `${sub()}/resourceGroups/%ff%fe?${version}`,
    `${sub()}/resourceGroups/${'g'.repeat(5000)}?${version}`,
    `${sub()}/resourceGroups/${'%F0%9F%92%A9'.repeat(200)}?api-version=2021-04-01`,
    `${good}${'/x/y'.repeat(40)}?${version}`,
    `${good}?${version}&${version}`,
    `${good}?api-version=%zz`,
    `${good}?api-version=${'9'.repeat(4000)}`,
    `${good}?api-version[]=x`,
    `${good}?API-VERSION=${NEWEST}`,
    `/subscriptions/not-a-guid?api-version=2021-04-01`,
    `/subscriptions/'or'1'='1/resourceGroups?api-version=2021-04-01`,
    `/subscriptions/${SUBSCRIPTION}%20/resourceGroups?api-version=2021-04-01`,
    `/providers/Microsoft.Nobody/things?${version}`,
    `/subscriptions/${SUBSCRIPTION}/providers/__proto__/constructor/x?${version}`,
    `/providers/Microsoft.VirtualMachineImages/imageTemplates/x?${version}`,
    '/',
    '//',
    '/%',
    '/..',
    '/nothing/here',
    '*',
    'http://elsewhere.example.org/subscriptions',
  ];
  for (const path of paths) {
    const answer = await rawGet(path);
    assert.match(answer, /^HTTP\/1\.1 [234]\d\d /, `${path}: ${answer.slice(0, 300)}`);
    if (!path.startsWith('http') && path !== '*')
      assert.match(answer, /^HTTP\/1\.1 4\d\d [\s\S]*"code":/, `${path}: ${answer.slice(0, 300)}`);
  }
  for (const method of ['OPTIONS', 'TRACE', 'PROPFIND', 'BREW'])
    assert.match(await rawGet(good, method), /^HTTP\/1\.1 4\d\d /, method);
  await assertAnswering();
});

test('any path and query is answered', async () => {
  const segment = fc.oneof(
    fc.constantFrom('subscriptions', SUBSCRIPTION, 'resourceGroups', 'fuzz', 'providers', 'Microsoft.Compute'),
    fc.constantFrom(
      'Microsoft.VirtualMachineImages',
      'imageTemplates',
      'run',
      'cancel',
      'runOutputs',
      'triggers',
      'locations',
    ),
    fc.constantFrom('Microsoft.Authorization', 'roleAssignments', 'operations', 'operationresults', '..', '.', ''),
    fc.string({ unit: 'binary', maxLength: 8 }).map(text => encodeURIComponent(text.toWellFormed())),
  );
  const query = fc.constantFrom(
    '',
    `api-version=${NEWEST}`,
    'api-version=2021-04-01',
    '$top=x',
    '$filter=(((',
    '%',
    '&&=',
  );
  const method = fc.constantFrom('GET', 'HEAD', 'PUT', 'PATCH', 'POST', 'DELETE');
  await fc.assert(
    fc.asyncProperty(
      method,
      fc.array(segment, { minLength: 1, maxLength: 10 }),
      query,
      async (verb, segments, rest) => {
        const path = `/${segments.join('/')}?${rest}`;
        const hasBody = verb === 'PUT' || verb === 'PATCH' || verb === 'POST';
        // The group that everything lies in stays.
        if (verb === 'DELETE' && /fuzz\/*\?|subscriptions\/[^/]*\/*\?/i.test(path)) return;
        const answer = await server.raw(
          `${verb} ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.administrator.token}\r\nConnection: close\r\n${hasBody ? 'Content-Type: application/json\r\nContent-Length: 2\r\n' : ''}\r\n${hasBody ? '{}' : ''}`,
        );
        assert.match(answer, /^HTTP\/1\.1 [234]\d\d /, `${verb} ${path}: ${answer.slice(0, 300)}`);
      },
    ),
    { numRuns: 100 * MORE },
  );
  await assertAnswering();
});

test('other requests of the provider with mutated bodies', async () => {
  const path = ground.template('patched');
  const made = await server.request('PUT', path, { apiVersion: NEWEST, body: plainTemplate(ground) });
  assert.equal(made.status, 201, made.text);
  const patch = fc
    .tuple(
      fc.constantFrom(
        { tags: { a: 'b' } },
        { identity: { type: 'None' } },
        { properties: { vmProfile: { vmSize: 'Standard_D1_v2' } } },
      ),
      mutation,
    )
    .map(([body, change]) => mutate(body, change));
  const trigger = mutation.map(change => mutate({ location: 'westus', properties: { kind: 'SourceImage' } }, change));
  await fc.assert(
    fc.asyncProperty(patch, trigger, async (update, wanted) => {
      for (const [method, target, body] of [
        ['PATCH', path, update],
        ['PUT', `${path}/triggers/t`, wanted],
        ['POST', `${path}/run`, update],
        ['POST', `${path}/cancel`, update],
      ] as const) {
        const answer = await server.request(method, target, { apiVersion: NEWEST, body });
        assert.ok(answer.status < 500, `${method} ${target}: ${answer.text}`);
      }
    }),
    { numRuns: 25 * MORE },
  );
  await assertAnswering();
});

test('URLs of scripts and files are of the web', async () => {
  const template = plainTemplate(ground) as { properties: object };
  for (const url of [
    'file:///etc/passwd',
    'ftp://x/y',
    'javascript:alert(1)',
    '/etc/passwd',
    '\\\\host\\x',
    'http://',
    'x',
  ])
    for (const [type, member] of [
      ['Shell', 'scriptUri'],
      ['PowerShell', 'scriptUri'],
      ['File', 'sourceUri'],
    ] as const) {
      const step = { type, [member]: url, ...(type === 'File' && { destination: '/tmp/x' }) };
      const body = { ...template, properties: { ...template.properties, customize: [step] } };
      for (const apiVersion of ['2020-02-14', NEWEST]) assert.equal((await put(apiVersion, body)).status, 400, url);
    }
});

test('what was accepted is provisioned, or fails for a reason of its own', async () => {
  const { database, engine } = server.service;
  await engine.serve({ concurrency: 4 });
  const operations = await database.kysely.selectFrom('operation').select('id').execute();
  assert.ok(operations.length > 50, `${operations.length} were accepted`);
  const ends = new Map<string, number>();
  for (const { id } of operations) {
    const { status, error, kind } = await engine.wait(id, { signal: AbortSignal.timeout(60_000 * MORE) });
    assert.notEqual(error?.code, 'InternalError', `${kind}: ${error?.message}`);
    const end = `${status} ${error?.code ?? ''}`;
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  assert.ok((ends.get('Succeeded ') ?? 0) > operations.length / 2, JSON.stringify([...ends]));
});

test("every answer was of Microsoft's OpenAPI files, and nothing failed inside", () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
