/** Resource Manager's rules, over HTTP, on image templates and resource groups. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate, TEMPLATES } from './ground.ts';

const GROUPS = '2021-04-01';
const sub = `/subscriptions/${SUBSCRIPTION}`;

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'Rules');
});
after(() => server?.close());

function assertError(answer: Answer, status: number, code: string, message?: RegExp): void {
  assert.equal(answer.status, status, answer.text);
  assert.match(String(answer.headers['content-type']), /^application\/json/);
  const { error } = answer.body as { error: { code: string; message: string } };
  assert.equal(error.code, code, answer.text);
  if (message) assert.match(error.message, message);
}

const put = (path: string, more: object = {}, apiVersion = NEWEST) =>
  server.request('PUT', path, { apiVersion, body: plainTemplate(ground, more) });
const get = (path: string, apiVersion = NEWEST) => server.request('GET', path, { apiVersion });

async function makeTemplate(name: string, more: object = {}): Promise<string> {
  const path = ground.template(name);
  const made = await put(path, more);
  assert.equal(made.status, 201, made.text);
  const ended = await server.settled(made);
  assert.equal((ended.body as { status: string }).status, 'Succeeded', ended.text);
  return path;
}

test('an api-version is required, and has to be one', async () => {
  const path = ground.template('versions');
  const missing = await server.request('GET', path);
  assertError(
    missing,
    400,
    'MissingApiVersionParameter',
    /^The api-version query parameter \(\?api-version=\) is required/,
  );
  assert.equal(missing.headers['x-ms-failure-cause'], 'gateway');
  assertError(await get(path, 'soon'), 400, 'InvalidApiVersionParameter', /The supported versions are '.*2025-10-01/);
  assertError(await get(path, '2020-01-01'), 400, 'NoRegisteredProviderFound', /2020-01-01.*2025-10-01/);
  assertError(await server.request('GET', ground.group), 400, 'MissingApiVersionParameter');
  assert.equal((await get(path, '2019-05-01-PREVIEW')).status, 404);
});

test('nobody gets in without a token, and the answer says where to get one', async () => {
  const [head, payload, signature] = server.administrator.token.split('.');
  const forged = Buffer.from(
    JSON.stringify({ ...JSON.parse(Buffer.from(payload!, 'base64url').toString()), oid: 'x' }),
  ).toString('base64url');
  const unsigned = Buffer.from('{"alg":"none"}').toString('base64url');
  for (const token of [
    null,
    '',
    'x',
    `${head}.${payload}`,
    `${head}.${payload}.${signature!.slice(0, -4)}AAAA`,
    `${head}.${forged}.${signature}`,
    `${unsigned}.${payload}.`,
  ]) {
    for (const path of [ground.group, `${sub}/resourceGroups`, '/subscriptions', ground.template('x')]) {
      const answer = await server.request('GET', path, { apiVersion: GROUPS, token });
      assert.equal(answer.status, 401, `${token}: ${answer.text}`);
      const challenge = String(answer.headers['www-authenticate']);
      assert.match(
        challenge,
        /^Bearer authorization_uri="https:\/\/[^"]+", error="invalid_token", error_description="/,
      );
      const { error } = answer.body as { error: { code: string } };
      assert.ok(['AuthenticationFailed', 'InvalidAuthenticationToken'].includes(error.code), answer.text);
    }
  }
  const basic = await server.request('GET', ground.group, {
    apiVersion: GROUPS,
    token: null,
    headers: { authorization: `Basic ${Buffer.from('a:b').toString('base64')}` },
  });
  assert.equal(basic.status, 401);
});

test('a reader reads and does not write', async () => {
  const reader = await server.principal('reader', { id: READER, scope: ground.group });
  const path = ground.template('readers');
  const refused = await server.request('PUT', path, {
    apiVersion: NEWEST,
    body: plainTemplate(ground),
    token: reader.token,
  });
  assertError(refused, 403, 'AuthorizationFailed');
  const { message } = (refused.body as { error: { message: string } }).error;
  assert.match(
    message,
    new RegExp(
      `^The client '(${reader.clientId}|${reader.objectId})' with object id '${reader.objectId}' does not have authorization to perform action 'Microsoft\\.VirtualMachineImages/imageTemplates/write' over scope '${path}' or the scope is invalid\\. If access was recently granted, please refresh your credentials\\.$`,
      'i',
    ),
  );
  assert.equal((await server.request('GET', ground.group, { apiVersion: GROUPS, token: reader.token })).status, 200);
  const runs = await server.request('POST', `${path}/run`, { apiVersion: NEWEST, token: reader.token });
  assertError(runs, 403, 'AuthorizationFailed', /imageTemplates\/run\/action/);
  const list = await server.request('GET', `${ground.group}/${TEMPLATES}`, { apiVersion: NEWEST, token: reader.token });
  assert.equal(list.status, 200);
});

test('one without a role sees nothing, one with a role sees its own group', async () => {
  const nobody = await server.principal('nobody');
  for (const path of [ground.group, ground.template('x'), `${ground.group}/${TEMPLATES}`])
    assertError(
      await server.request('GET', path, {
        apiVersion: path === ground.group ? GROUPS : NEWEST,
        token: nobody.token,
      }),
      403,
      'AuthorizationFailed',
    );
  const other = `${sub}/resourceGroups/others`;
  assert.equal((await server.request('PUT', other, { apiVersion: GROUPS, body: { location: 'westus' } })).status, 201);
  const own = await server.principal('own', { id: CONTRIBUTOR, scope: other });
  const list = await server.request('GET', `${sub}/resourcegroups`, { apiVersion: GROUPS, token: own.token });
  assert.equal(list.status, 200, list.text);
  assert.deepEqual(
    (list.body as { value: { name: string }[] }).value.map(({ name }) => name),
    ['others'],
  );
});

test('a role that links to something needs rights on it, too', async () => {
  const group = `${sub}/resourceGroups/linked`;
  await server.request('PUT', group, { apiVersion: GROUPS, body: { location: 'westus' } });
  const author = await server.principal('author', { id: CONTRIBUTOR, scope: group });
  const answer = await server.request('PUT', `${group}/${TEMPLATES}/t`, {
    apiVersion: NEWEST,
    body: plainTemplate(ground),
    token: author.token,
  });
  assertError(answer, 403, 'LinkedAuthorizationFailed', /userAssignedIdentities\/assign\/action/);
});

test('what is not there is 404, each in its words', async () => {
  assertError(
    await get(ground.template('absent')),
    404,
    'ResourceNotFound',
    /^The Resource 'Microsoft\.VirtualMachineImages\/imageTemplates\/absent' under resource group 'Rules' was not found\./,
  );
  const nowhere = `${sub}/resourceGroups/nowhere`;
  assertError(
    await get(`${nowhere}/${TEMPLATES}/t`),
    404,
    'ResourceGroupNotFound',
    /^Resource group 'nowhere' could not be found\.$/,
  );
  assertError(await get(`${nowhere}/${TEMPLATES}`), 404, 'ResourceGroupNotFound');
  assertError(await put(`${nowhere}/${TEMPLATES}/t`), 404, 'ResourceGroupNotFound');
  assertError(await get(nowhere, GROUPS), 404, 'ResourceGroupNotFound');
  const absent = '/subscriptions/00000000-0000-4000-8000-0000000000ff';
  assertError(await get(`${absent}/resourceGroups`, GROUPS), 404, 'SubscriptionNotFound');
  assertError(await get(`${ground.group}/providers/Microsoft.Nobody/things/x`), 404, 'InvalidResourceNamespace');
  assertError(
    await get(`${ground.group}/providers/Microsoft.VirtualMachineImages/nothings/x`),
    404,
    'InvalidResourceType',
  );
  assert.equal((await get(`${ground.template('absent')}/runOutputs`)).status, 404);
  assert.equal((await server.request('POST', `${ground.template('absent')}/run`, { apiVersion: NEWEST })).status, 404);
  const removed = await server.request('DELETE', ground.template('absent'), { apiVersion: NEWEST });
  assert.deepEqual([removed.status, removed.text], [204, '']);
});

test('ids are compared without regard to case, and keep that of who made them', async () => {
  const made = await put(
    `${sub.toUpperCase().replace('SUBSCRIPTIONS', 'Subscriptions')}/RESOURCEGROUPS/RULES/Providers/microsoft.virtualmachineimages/IMAGETEMPLATES/CaseD`,
  );
  assert.equal(made.status, 201, made.text);
  await server.settled(made);
  for (const path of [ground.template('cased'), ground.template('CASED').toUpperCase()]) {
    const read = await get(path.replace(/^\/SUBSCRIPTIONS/, '/subscriptions'));
    assert.equal(read.status, 200, read.text);
    const { id, name, type } = read.body as { id: string; name: string; type: string };
    assert.equal(name, 'CaseD');
    assert.equal(type, 'Microsoft.VirtualMachineImages/imageTemplates');
    assert.match(id, /\/resourcegroups\/Rules\/providers\/Microsoft\.VirtualMachineImages\/imageTemplates\/CaseD$/i);
  }
  assertError(await put(ground.template('CASED')), 409, 'Conflict', /^Update\/Upgrade of image templates is currently/);
  // Clients write double slashes and one at the end.
  assert.equal(
    (await get(`//${ground.template('cased').replaceAll('/providers', '//providers')}/`.replace('//', '/'))).status,
    200,
  );
});

test("the URL decides what is made, not the body's id, name and type", async () => {
  const path = await makeTemplate('by-url', { id: '/x', name: 'other', type: 'Other/type', systemData: {} });
  const read = await get(path);
  assert.equal((read.body as { name: string }).name, 'by-url');
});

test('names have their rule', async () => {
  for (const name of ['x'.repeat(65), 'a b', 'a$', 'é', 'a%26b'])
    assert.equal((await put(ground.template(name))).status, 400, name);
  const longest = await put(ground.template(`${'x'.repeat(60)}-._9`));
  assert.equal(longest.status, 201, longest.text);
});

test('a creation is an operation: 201, where to look, how often, and what it comes to', async () => {
  const path = ground.template('polled');
  const made = await put(path);
  assert.equal(made.status, 201);
  const url = String(made.headers['azure-asyncoperation']);
  assert.match(
    url,
    new RegExp(
      `^${server.origin}${sub}/providers/Microsoft\\.VirtualMachineImages/locations/westus/operations/[0-9a-f-]{36}\\?api-version=${NEWEST}$`,
    ),
  );
  assert.match(String(made.headers['retry-after']), /^\d+$/);
  assert.equal((made.body as { properties: { provisioningState: string } }).properties.provisioningState, 'Creating');
  const ended = await server.settled(made);
  const { name, status, startTime, endTime } = ended.body as Record<string, string>;
  assert.equal(status, 'Succeeded');
  assert.equal(name, name!.toUpperCase());
  assert.ok(Date.parse(startTime!) <= Date.parse(endTime!));

  const nobody = await server.principal('poller');
  for (const token of [nobody.token, null]) {
    const refused = await server.request('GET', url, { token });
    assert.ok([401, 403, 404].includes(refused.status), refused.text);
  }
  const unknown = url.replace(/[0-9a-f-]{36}(?=\?)/, '00000000-0000-4000-8000-0000000000aa');
  assert.equal((await server.request('GET', unknown)).status, 404);
  const reader = await server.principal('co-reader', { id: READER, scope: ground.group });
  assert.equal((await server.request('GET', url, { token: reader.token })).status, 200);
});

test('HEAD', async () => {
  const head = async (path: string, apiVersion: string) => {
    const answer = await server.request('HEAD', path, { apiVersion });
    assert.equal(answer.text, '');
    return answer.status;
  };
  assert.equal(await head(ground.group, GROUPS), 204);
  assert.equal(await head(`${sub}/resourceGroups/nowhere`, GROUPS), 404);
});

test('resource groups: made once, in one place, with tags', async () => {
  const path = `${sub}/resourceGroups/Grouped`;
  const made = await server.request('PUT', path, {
    apiVersion: GROUPS,
    body: { location: 'West US', tags: { a: '1', b: '2' } },
  });
  assert.equal(made.status, 201, made.text);
  assert.deepEqual(made.body, {
    id: path,
    name: 'Grouped',
    type: 'Microsoft.Resources/resourceGroups',
    location: 'westus',
    tags: { a: '1', b: '2' },
    properties: { provisioningState: 'Succeeded' },
  });
  const again = await server.request('PUT', path.toLowerCase(), { apiVersion: GROUPS, body: { location: 'westus' } });
  assert.equal(again.status, 200, again.text);
  assert.equal((again.body as { name: string }).name, 'Grouped');
  assertError(
    await server.request('PUT', path, { apiVersion: GROUPS, body: { location: 'eastus' } }),
    409,
    'InvalidResourceGroupLocation',
    /^Invalid resource group location 'eastus'\. The Resource group already exists in location 'westus'\.$/,
  );
  assertError(await server.request('PUT', path, { apiVersion: GROUPS, body: {} }), 400, 'LocationRequired');
  const patched = await server.request('PATCH', path, { apiVersion: GROUPS, body: { tags: { c: '3' } } });
  assert.equal(patched.status, 200, patched.text);
  assert.deepEqual((patched.body as { tags: object }).tags, { c: '3' });
  const removed = await server.request('DELETE', path, { apiVersion: GROUPS });
  assert.equal(removed.status, 202, removed.text);
  const location = String(removed.headers.location);
  assert.match(location, /\/operationresults\/[^?]+\?api-version=2021-04-01$/i);
  let result = await server.request('GET', location);
  for (const until = Date.now() + 15_000; result.status === 202 && Date.now() < until; ) {
    await new Promise(resolve => setTimeout(resolve, 25));
    result = await server.request('GET', location);
  }
  assert.equal(result.status, 200, result.text);
  assert.equal((await get(path, GROUPS)).status, 404);
});

test('tags of a template are replaced by PATCH, other things are not changed by it', async () => {
  const path = await makeTemplate('tagged', { tags: { a: '1', b: '2' } });
  const patched = await server.request('PATCH', path, { apiVersion: NEWEST, body: { tags: { c: '3' } } });
  assert.equal(patched.status, 202, patched.text);
  await server.settled(patched);
  const read = await get(path);
  const { tags, properties } = read.body as { tags: object; properties: { provisioningState: string } };
  assert.deepEqual(tags, { c: '3' });
  assert.equal(properties.provisioningState, 'Succeeded');
  for (const body of [
    { properties: { buildTimeoutInMinutes: 60 } },
    { properties: { source: { type: 'ManagedImage', imageId: 'x' } } },
    { tags: { a: 1 } },
    [],
  ]) {
    const refused = await server.request('PATCH', path, { apiVersion: NEWEST, body });
    assert.equal(refused.status, 400, `${JSON.stringify(body)}: ${refused.text}`);
  }
});

test('If-Match and If-None-Match', async () => {
  const path = await makeTemplate('matched');
  const patch = (headers: Record<string, string>, at = path) =>
    server.request('PATCH', at, { apiVersion: NEWEST, body: { tags: {} }, headers });
  assertError(await patch({ 'if-match': '"00000000-0000-0000-0000-000000000000"' }), 412, 'PreconditionFailed');
  assert.equal((await get(path)).status, 200);
  const removal = await server.request('DELETE', path, { apiVersion: NEWEST, headers: { 'if-match': '"no"' } });
  assertError(removal, 412, 'PreconditionFailed');
  const any = await patch({ 'if-match': '*' });
  assert.equal(any.status, 202, any.text);
  await server.settled(any);
  const create = (name: string, headers: Record<string, string>) =>
    server.request('PUT', ground.template(name), { apiVersion: NEWEST, body: plainTemplate(ground), headers });
  assertError(await create('matched', { 'if-none-match': '*' }), 412, 'PreconditionFailed');
  assertError(await create('unmatched', { 'if-match': '*' }), 412, 'PreconditionFailed');
  assert.equal((await create('unmatched', { 'if-none-match': '*' })).status, 201);
});

test('errors are bare before 2021-10-01, and in an envelope since', async () => {
  const path = ground.template('enveloped');
  const template = plainTemplate(ground) as { properties: object };
  const body = { ...template, properties: { ...template.properties, distribute: [{ type: 'nothing' }] } };
  const bare = await server.request('PUT', path, { apiVersion: '2020-02-14', body });
  assert.equal(bare.status, 400);
  const { code, message, error } = bare.body as { code: string; message: string; error?: unknown };
  assert.deepEqual([code, error], ['ValidationFailed', undefined]);
  assert.match(message, /^Validation failed: /);
  assertError(
    await server.request('PUT', path, { apiVersion: '2021-10-01', body }),
    400,
    'ValidationFailed',
    /^Validation failed: /,
  );
  // Resource Manager's own refusals have the envelope in every version (recorded: LinkedAuthorizationFailed, 2020-02-14).
  const nobody = await server.principal('enveloped');
  assertError(
    await server.request('GET', path, { apiVersion: '2020-02-14', token: nobody.token }),
    403,
    'AuthorizationFailed',
  );
});

test('requests and answers carry their ids', async () => {
  const headers = {
    'x-ms-correlation-request-id': '11111111-2222-4333-8444-555555555555',
    'x-ms-client-request-id': 'mine-1',
  };
  const answer = await server.request('GET', ground.group, { apiVersion: GROUPS, headers });
  assert.equal(answer.headers['x-ms-correlation-request-id'], headers['x-ms-correlation-request-id']);
  assert.match(String(answer.headers['x-ms-request-id']), /^[0-9a-f-]{36}$/);
  const injected = await server.request('GET', ground.group, {
    apiVersion: GROUPS,
    headers: { 'x-ms-correlation-request-id': `${'x'.repeat(200)}<script>` },
  });
  assert.doesNotMatch(String(injected.headers['x-ms-correlation-request-id']), /script/);
});

test('of two clients that make one template, one makes it', async () => {
  for (let round = 0; round < 5; round++) {
    const path = ground.template(`raced${round}`);
    const answers = await Promise.all(Array.from({ length: 4 }, () => put(path)));
    const statuses = answers.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [201, 409, 409, 409], answers.map(({ text }) => text).join('\n'));
  }
});

test('250 templates come in pages that leave nothing out', async () => {
  const group = `${sub}/resourceGroups/paged`;
  const { status } = await server.request('PUT', group, { apiVersion: GROUPS, body: { location: 'westus' } });
  assert.equal(status, 201);
  const names = Array.from({ length: 250 }, (_, n) => `t${String(n).padStart(3, '0')}`);
  for (let at = 0; at < names.length; at += 10)
    await Promise.all(
      names.slice(at, at + 10).map(async name => {
        const made = await put(`${group}/${TEMPLATES}/${name}`);
        assert.equal(made.status, 201, made.text);
      }),
    );
  const seen: string[] = [];
  let pages = 0;
  for (let next: string | undefined = `${group}/${TEMPLATES}?api-version=${NEWEST}`; next !== undefined; pages++) {
    const answer: Answer = await server.request('GET', next);
    assert.equal(answer.status, 200, answer.text);
    const page = answer.body as { value: { name: string }[]; nextLink?: string };
    seen.push(...page.value.map(({ name }) => name));
    next = page.nextLink;
    if (next !== undefined) assert.ok(next.startsWith(`${server.origin}/`) && next.includes('api-version='), next);
    assert.ok(pages < 50);
  }
  assert.ok(pages > 1);
  assert.deepEqual(seen.sort(), names);
  const top = await server.request('GET', `${group}/${TEMPLATES}?api-version=${NEWEST}&$top=3`);
  assert.equal((top.body as { value: unknown[] }).value.length, 3);
  const bad = await server.request('GET', `${group}/${TEMPLATES}?api-version=${NEWEST}&$skipToken=%F0%9F`);
  assert.equal(bad.status, 400, bad.text);
});

test('a client that sends too fast waits, others do not', async () => {
  const door = await server.door({ rate: 5 });
  const send = (token: string) =>
    server.request('GET', `${door.origin}${ground.group}?api-version=${GROUPS}`, { token });
  const answers = await Promise.all(Array.from({ length: 30 }, () => send(server.administrator.token)));
  const refused = answers.filter(({ status }) => status === 429);
  assert.ok(refused.length > 0 && refused.length < 30, `${refused.length} of 30 were refused`);
  for (const answer of refused) {
    assertError(answer, 429, 'TooManyRequests');
    assert.match(String(answer.headers['retry-after']), /^[1-9]\d*$/);
  }
  const other = await server.principal('unhurried', { id: READER, scope: ground.group });
  assert.equal((await send(other.token)).status, 200);
});

test('whoever sends many tokens that are refused waits', async () => {
  const door = await server.door({});
  const send = (token: string | null) =>
    server.request('GET', `${door.origin}${ground.group}?api-version=${GROUPS}`, { token });
  const [header, body] = server.administrator.token.split('.');
  const answers = await Promise.all(
    Array.from({ length: 400 }, (_, index) =>
      send(`${header}.${body}.${Buffer.from(`forged ${index}`).toString('base64url')}`),
    ),
  );
  const refused = answers.filter(({ status }) => status === 429);
  assert.ok(refused.length > 0 && refused.length < 400, `${refused.length} of 400 were refused`);
  for (const answer of answers) if (!refused.includes(answer)) assertError(answer, 401, 'InvalidAuthenticationToken');
  assertError(refused[0]!, 429, 'TooManyRequests');
  assert.match(String(refused[0]!.headers['retry-after']), /^[1-9]\d*$/);
  // Who has no token learns where to get one, however often; another door of this address is its own.
  assertError(await send(null), 401, 'AuthenticationFailed');
  assert.equal((await server.request('GET', `${ground.group}?api-version=${GROUPS}`)).status, 200);
});

test('a client that sends slowly is cut off, and holds nobody up', async () => {
  const door = await server.door({ patience: 300 });
  const { hostname, port } = new URL(door.origin);
  const slow = connect({ host: hostname, port: Number(port), ca: server.ca });
  let came = '';
  slow.setEncoding('latin1').on('data', text => {
    came += text;
  });
  slow.on('error', () => {});
  // Not `once` of events: a reset is an end as well.
  const closed = new Promise(resolve => slow.once('close', resolve));
  slow.write(
    `PUT ${ground.template('slow')}?api-version=${NEWEST} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.administrator.token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{`,
  );
  const drip = setInterval(() => slow.write(' '), 50);
  try {
    const meanwhile = await server.request('GET', `${door.origin}${ground.group}?api-version=${GROUPS}`);
    assert.equal(meanwhile.status, 200);
    await closed;
  } finally {
    clearInterval(drip);
    slow.destroy();
  }
  assert.match(came, /^$|^HTTP\/1\.1 408 /);
  assert.equal((await get(ground.template('slow'))).status, 404);
});

test('verbs that a type does not have', async () => {
  const path = await makeTemplate('verbs');
  assertError(await server.request('POST', path, { apiVersion: NEWEST }), 405, 'MethodNotAllowed');
  assertError(await server.request('GET', `${path}/run`, { apiVersion: NEWEST }), 405, 'MethodNotAllowed');
  assertError(await server.request('POST', `${path}/dance`, { apiVersion: NEWEST }), 405, 'MethodNotAllowed');
  const output = await server.request('PUT', `${path}/runOutputs/x`, { apiVersion: NEWEST, body: { properties: {} } });
  assertError(output, 405, 'MethodNotAllowed');
});

test('run, its status, cancel and removal', async () => {
  const path = await makeTemplate('run');
  const lastRun = async () =>
    ((await get(path)).body as { properties: { lastRunStatus?: Record<string, string> } }).properties.lastRunStatus;
  assert.equal(await lastRun(), undefined);
  assertError(await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST }), 405, 'OperationNotAllowed');
  server.machines.hold();
  const started = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  assert.deepEqual([started.status, started.text], [202, '']);
  assert.equal(started.headers.location, started.headers['azure-asyncoperation']);
  const running = await lastRun();
  assert.equal(running?.runState, 'Running');
  assert.equal(running.endTime, '0001-01-01T00:00:00Z');
  for (const [method, target] of [
    ['POST', `${path}/run`],
    ['DELETE', path],
  ] as const)
    assertError(await server.request(method, target, { apiVersion: NEWEST }), 405, 'OperationNotAllowed');
  const canceled = await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST });
  assert.deepEqual([canceled.status, canceled.text], [204, '']);
  assert.equal((await lastRun())?.runState, 'Canceling');
  assertError(await server.request('POST', `${path}/cancel`, { apiVersion: NEWEST }), 405, 'OperationNotAllowed');
  server.machines.release();
  const ended = await server.settled(started);
  assert.equal((ended.body as { status: string }).status, 'Canceled');
  assert.equal((await lastRun())?.runState, 'Canceled');

  const again = await server.settled(await server.request('POST', `${path}/run`, { apiVersion: NEWEST }));
  assert.equal((again.body as { status: string }).status, 'Succeeded', again.text);
  const outputs = await get(`${path}/runOutputs`);
  assert.deepEqual(
    (outputs.body as { value: { name: string }[] }).value.map(({ name }) => name),
    ['out'],
  );
  const removed = await server.request('DELETE', path, { apiVersion: NEWEST });
  assert.equal(removed.status, 202, removed.text);
  assert.ok(removed.headers.location);
  await server.settled(removed);
  assert.equal((await get(path)).status, 404);
});

test("every answer was of Microsoft's OpenAPI files, and nothing failed inside", () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
