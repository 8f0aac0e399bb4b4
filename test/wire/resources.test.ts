/** What Resource Manager does for resources of all types, over HTTPS: tags, lists and their filters, moves, providers; and that nothing depends on how an id is written. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { putResource, removeResource } from '../../src/providers/store.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

const V = '2022-09-01';
const IDENTITY_API = '2023-01-31';
const S = `/subscriptions/${SUBSCRIPTION}`;
const OTHER = '00000000-0000-4000-8000-0000000000bb';

let server: TestServer;
let ground: Ground;
before(async () => {
  server = await startTestServer({ subscriptions: [OTHER] });
  ground = await makeGround(server, 'Ground');
  const template = await server.request('PUT', ground.template('Web'), {
    apiVersion: NEWEST,
    body: plainTemplate(ground),
  });
  assert.equal(((await server.settled(template)).body as Wire).status, 'Succeeded');
});
after(() => server?.close());

// biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into member by member
type Wire = any;
const send = async (status: number, method: string, path: string, body?: unknown, apiVersion = V): Promise<Wire> => {
  const answer = await server.request(method, path, { apiVersion, ...(body !== undefined && { body }) });
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer.body;
};
const fails = async (status: number, code: string, method: string, path: string, body?: unknown): Promise<string> => {
  const { error } = await send(status, method, path, body);
  assert.equal(error.code, code);
  return error.message;
};
const named = (body: Wire): string[] => body.value.map((one: Wire) => one.name);

describe('tags', () => {
  const TAGS = 'providers/Microsoft.Resources/tags/default';
  const put = (scope: string, tags: unknown, status = 200) =>
    send(status, 'PUT', `${scope}/${TAGS}`, { properties: { tags } });
  const patch = (scope: string, operation: string, tags: unknown) =>
    send(200, 'PATCH', `${scope}/${TAGS}`, { operation, properties: { tags } });

  test('are written on subscriptions, groups, resources and what is in those', async () => {
    const subscription = `/subscriptions/${OTHER}`;
    for (const scope of [subscription, ground.group, ground.identityId, ground.definitionId, ground.template('Web')]) {
      assert.deepEqual(await put(scope, { Cost: '1', Team: 'web' }), {
        id: `${scope}/${TAGS}`,
        name: 'default',
        type: 'Microsoft.Resources/tags',
        properties: { tags: { Cost: '1', Team: 'web' } },
      });
      assert.deepEqual((await patch(scope, 'Merge', { cost: '2', new: '' })).properties.tags, {
        Cost: '2',
        Team: 'web',
        new: '',
      });
      // Another value is another tag; no value is all of the name.
      assert.deepEqual((await patch(scope, 'delete', { COST: '1', team: '' })).properties.tags, { Cost: '2', new: '' });
      assert.deepEqual((await patch(scope, 'Replace', { a: 'b' })).properties.tags, { a: 'b' });
      assert.deepEqual((await send(200, 'GET', `${scope}/${TAGS}`)).properties.tags, { a: 'b' });
    }
    for (const [scope, version] of [
      [subscription, '2022-12-01'],
      [ground.group, V],
      [ground.identityId, IDENTITY_API],
      [ground.template('Web'), NEWEST],
    ] as const)
      assert.deepEqual((await send(200, 'GET', scope, undefined, version)).tags, { a: 'b' }, scope);
    assert.deepEqual(
      named(await send(200, 'GET', `${S}/resources?$filter=tagName eq 'A' and tagValue eq 'b'`)).sort(),
      ['Web', 'builder', 'gallery/definition'],
    );
    await send(200, 'DELETE', `${subscription}/${TAGS}`);
    for (const scope of [ground.group, ground.identityId, ground.definitionId, ground.template('Web')]) {
      await send(200, 'DELETE', `${scope}/${TAGS}`);
      assert.deepEqual((await send(200, 'GET', `${scope}/${TAGS}`)).properties.tags, {});
    }
  });

  test('have limits', async () => {
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`t${index}`, '']));
    const at = `${ground.group}/${TAGS}`;
    const refused = (code: string, tags: unknown) => fails(400, code, 'PUT', at, { properties: { tags } });
    await put(ground.group, many(50));
    await refused('InvalidTagCount', many(51));
    await fails(400, 'InvalidTagCount', 'PATCH', at, { operation: 'Merge', properties: { tags: { one: 'more' } } });
    assert.match(
      await refused('InvalidTagName', { ['n'.repeat(513)]: '' }),
      /^Tag key too large\..*Maximum allowed length for tag name - '512' characters\.$/,
    );
    assert.match(await refused('InvalidTagValueLength', { n: 'v'.repeat(257) }), /'256' characters\.$/);
    assert.equal(
      await refused('InvalidTagNameCharacters', { 'a/b': '' }),
      "The tag names 'a/b' have reserved characters '<,>,%,&,\\,?,/' or control characters.",
    );
    await put(ground.group, { ['n'.repeat(512)]: 'v'.repeat(256), 'hidden-link:/app/x': '' });
    await refused('InvalidParameter', { a: 1 });
    await fails(400, 'InvalidRequestContent', 'PUT', at, {});
    await fails(400, 'InvalidRequestContent', 'PATCH', at, { operation: 'Add', properties: { tags: {} } });
    await fails(404, 'NotFound', 'GET', `${ground.group}/providers/Microsoft.Resources/tags/mine`);
    await fails(404, 'ResourceGroupNotFound', 'GET', `${S}/resourceGroups/nope/${TAGS}`);
    await fails(404, 'ResourceNotFound', 'GET', `${ground.identityId}x/${TAGS}`);
    await send(200, 'DELETE', at);
  });

  test('need a role of their own', async () => {
    for (const [role, written] of [
      [READER, 403],
      [CONTRIBUTOR, 200],
    ] as const) {
      const { token } = await server.principal(role, { id: role, scope: ground.group });
      const options = { apiVersion: V, token };
      const body = { properties: { tags: {} } };
      const path = `${ground.identityId}/${TAGS}`;
      assert.equal((await server.request('GET', path, options)).status, 200);
      assert.equal((await server.request('PUT', path, { ...options, body })).status, written);
      assert.equal((await server.request('PUT', `${S}/${TAGS}`, { ...options, body })).status, 403);
    }
  });

  test('names of a subscription: made beforehand, used, counted', async () => {
    const at = `/subscriptions/${OTHER}`;
    const group = `${at}/resourceGroups/tagged`;
    await send(201, 'PUT', `${at}/tagNames/Stage`);
    await send(200, 'PUT', `${at}/tagNames/stage`);
    await send(201, 'PUT', `${at}/tagNames/Stage/tagValues/test`);
    await send(200, 'PUT', `${at}/tagNames/Stage/tagValues/test`);
    await fails(404, 'NotFound', 'PUT', `${at}/tagNames/Nothing/tagValues/test`);
    await fails(400, 'InvalidTagName', 'PUT', `${at}/tagNames/azureThing`);
    await fails(400, 'InvalidTagNameCharacters', 'PUT', `${at}/tagNames/a%3Cb`);
    await send(201, 'PUT', group, { location: 'westus', tags: { stage: 'live', cost: '7' } });
    const { value } = await send(200, 'GET', `${at}/tagNames`);
    assert.deepEqual(
      value.map(({ tagName, count, values }: Wire) => [
        tagName,
        count.value,
        values.map((one: Wire) => [one.tagValue, one.count.value]),
      ]),
      [
        [
          'Stage',
          1,
          [
            ['live', 1],
            ['test', 0],
          ],
        ],
        ['cost', 1, [['7', 1]]],
      ],
    );
    await fails(409, 'Conflict', 'DELETE', `${at}/tagNames/Stage/tagValues/live`);
    await fails(409, 'Conflict', 'DELETE', `${at}/tagNames/Stage`);
    await send(200, 'DELETE', `${at}/tagNames/Stage/tagValues/test`);
    await send(204, 'DELETE', `${at}/tagNames/Stage/tagValues/test`);
    await send(200, 'PATCH', group, { tags: {} });
    await send(200, 'DELETE', `${at}/tagNames/Stage`);
    await send(204, 'DELETE', `${at}/tagNames/Stage`);
    assert.deepEqual((await send(200, 'GET', `${at}/tagNames`)).value, []);
  });
});

describe('lists of resources', () => {
  const list = async (query: string, from = `${S}/resources`) =>
    named(await send(200, 'GET', `${from}?${query}`)).sort();

  test('are filtered', async () => {
    const cases: [filter: string, found: string[]][] = [
      ["resourceType eq 'Microsoft.VirtualMachineImages/imageTemplates'", ['Web']],
      ["resourceType eq 'microsoft.compute/GALLERIES' and name eq 'GALLERY'", ['gallery']],
      ["resourceGroup eq 'GROUND' and substringof('uild', name)", ['builder']],
      ["startswith(name, 'WE')", ['Web']],
      ["location eq 'West US' and name eq 'builder'", ['builder']],
      ["location eq 'eastus'", []],
      ["name eq 'builder' or name eq 'Web'", ['Web', 'builder']],
      ["not (resourceGroup eq 'Ground') and substringof('out', name)", []],
      ["plan/publisher eq 'nobody'", []],
    ];
    for (const [filter, found] of cases)
      assert.deepEqual(await list(`$filter=${encodeURIComponent(filter)}`), found, filter);
    const { properties } = await send(200, 'GET', ground.identityId, undefined, IDENTITY_API);
    assert.deepEqual(await list(`$filter=identity/principalId eq '${properties.principalId}'`), ['Web']);
    const inGroup = await list("$filter=resourceType eq 'Microsoft.Compute/galleries'", `${ground.group}/resources`);
    assert.deepEqual(inGroup, ['gallery']);
    for (const filter of ['colour eq 1', "colour eq 'red'", 'name', "nothing('a')"])
      await fails(400, 'InvalidFilterInQueryString', 'GET', `${S}/resources?$filter=${encodeURIComponent(filter)}`);
  });

  test('go on over pages, and say more where that is asked for', async () => {
    const whole = await list('');
    const paged: string[] = [];
    for (let next: string | undefined = `${S}/resources?$top=2`; next !== undefined; ) {
      const body: Wire = await send(200, 'GET', next);
      assert.ok(body.value.length <= 2);
      paged.push(...named(body));
      next = body.nextLink;
    }
    assert.deepEqual(paged.sort(), whole);
    const [plain] = (await send(200, 'GET', `${S}/resources?$filter=name eq 'Web'`)).value;
    assert.deepEqual(Object.keys(plain).sort(), ['id', 'identity', 'location', 'name', 'tags', 'type']);
    const query = "$filter=name eq 'Web'&$expand=createdTime,changedTime,provisioningState";
    const [expanded] = (await send(200, 'GET', `${S}/resources?${query}`)).value;
    assert.equal(expanded.provisioningState, 'Succeeded');
    assert.ok(!Number.isNaN(Date.parse(expanded.createdTime)) && expanded.createdTime <= expanded.changedTime);
  });

  test('have what is stored, whatever its type, but no parts of others', async () => {
    const { kysely } = server.service.database;
    const at = `${ground.group}/providers/Example.Unknown/things`;
    await putResource(kysely, { id: `${at}/tracked`, location: 'westus', properties: {}, apiVersion: '2020-01-01' });
    await putResource(kysely, { id: `${at}/tracked/parts/part`, properties: {}, apiVersion: '2020-01-01' });
    assert.deepEqual(await list("$filter=resourceGroup eq 'Ground' and substringof('track', name)"), ['tracked']);
    await removeResource(kysely, `${at}/tracked`);
    assert.ok(!(await list('')).some(name => name === 'Ground' || name === SUBSCRIPTION));
  });
});

test('lists of groups are filtered, and go on over pages', async () => {
  const names = ['paged-1', 'paged-2', 'paged-3'];
  for (const name of names)
    await send(201, 'PUT', `${S}/resourceGroups/${name}`, { location: 'westus', tags: { paged: 'yes' } });
  const filter = encodeURIComponent("tagName eq 'paged' and tagValue eq 'yes'");
  const found: string[] = [];
  let pages = 0;
  for (let next: string | undefined = `${S}/resourcegroups?$top=2&$filter=${filter}`; next !== undefined; pages += 1) {
    const body: Wire = await send(200, 'GET', next);
    found.push(...named(body));
    next = body.nextLink;
  }
  assert.deepEqual([found, pages], [names, 2]);
  for (const name of names) {
    const path = `${S}/resourceGroups/${name}?forceDeletionTypes=Microsoft.Compute/virtualMachines`;
    const { status, headers } = await server.request('DELETE', path, { apiVersion: V });
    assert.equal(status, 202);
    assert.match(String(headers.location), /\/operationresults\//);
  }
});

test('generic verbs by id: nested, with the api-version of the provider document', async () => {
  const { resourceTypes } = await send(200, 'GET', `${S}/providers/Microsoft.Compute`);
  const { apiVersions } = resourceTypes.find((one: Wire) => one.resourceType === 'galleries/images');
  const version = apiVersions.find((one: string) => !one.includes('preview'));
  const untidy = `${ground.group}/providers/Microsoft.Compute//galleries/gallery//images/definition`;
  const shown = await send(200, 'GET', untidy, undefined, version);
  assert.equal(shown.id, ground.definitionId);
  await send(204, 'HEAD', untidy, undefined, version);
  await send(404, 'HEAD', `${untidy}x`, undefined, version);
  await send(400, 'GET', untidy, undefined, '1999-01-01');
});

test('nothing is moved or exported, in words', async () => {
  for (const action of ['moveResources', 'validateMoveResources']) {
    const move = (body: unknown, path = ground.group) =>
      server.request('POST', `${path}/${action}`, { apiVersion: V, body });
    const target = `${S}/resourceGroups/elsewhere`;
    const { status, body } = await move({ resources: [ground.template('WEB')], targetResourceGroup: target });
    const { code, message, details } = (body as Wire).error;
    assert.deepEqual([status, code], [409, 'ResourceMoveProviderValidationFailed']);
    assert.match(message, /^Resource move validation failed\. Please see details\./);
    assert.deepEqual(
      [details[0].code, details[0].target.toLowerCase(), details[0].message],
      [
        'ResourceMoveNotSupported',
        ground.template('web').toLowerCase(),
        "Resource move is not supported for resource types 'Microsoft.VirtualMachineImages/imageTemplates'.",
      ],
    );
    const code400 = async (body: unknown) => ((await move(body)).body as Wire).error.code;
    assert.equal(await code400({}), 'InvalidRequestContent');
    assert.equal(await code400({ resources: [ground.identityId] }), 'InvalidRequestContent');
    assert.equal(
      await code400({ resources: [`${ground.identityId}x`], targetResourceGroup: target }),
      'ResourceNotFound',
    );
    assert.equal(
      await code400({ resources: [`${target}/providers/A.B/c/d`], targetResourceGroup: target }),
      'InvalidParameter',
    );
    const missing = await move({ resources: ['x'], targetResourceGroup: target }, `${S}/resourceGroups/nope`);
    assert.equal((missing.body as Wire).error.code, 'ResourceGroupNotFound');
  }
  assert.match(
    await fails(405, 'MethodNotAllowed', 'POST', `${ground.group}/exportTemplate`, { resources: ['*'] }),
    /export/,
  );
});

describe('providers', () => {
  test('list their types: nested ones, extensions and polling, newest api-version first', async () => {
    const { value } = await send(200, 'GET', `${S}/providers?$expand=resourceTypes/aliases`);
    const types = new Map<string, Wire>();
    for (const { namespace, resourceTypes, registrationState } of value) {
      assert.equal(registrationState, 'Registered', namespace);
      for (const type of resourceTypes) {
        const name = `${namespace}/${type.resourceType}`;
        assert.ok(!types.has(name), `${name} is listed twice`);
        types.set(name, type);
        const days = type.apiVersions.map((one: string) => one.slice(0, 10));
        assert.deepEqual(days, [...days].sort().reverse(), name);
        assert.ok(days.length > 0, name);
        assert.ok(type.apiVersions.includes(type.defaultApiVersion), name);
      }
    }
    for (const name of [
      ...['imageTemplates', 'imageTemplates/runOutputs', 'imageTemplates/triggers', 'operations'].map(
        one => `Microsoft.VirtualMachineImages/${one}`,
      ),
      ...['locks', 'roleAssignments', 'roleDefinitions', 'providerOperations'].map(
        one => `Microsoft.Authorization/${one}`,
      ),
      ...['tags', 'resourceGroups', 'subscriptions/tagNames'].map(one => `Microsoft.Resources/${one}`),
      ...['galleries/images/versions', 'images', 'locations/operations'].map(one => `Microsoft.Compute/${one}`),
    ])
      assert.ok(types.has(name), name);
    assert.match(
      types.get('Microsoft.VirtualMachineImages/imageTemplates').capabilities,
      /SupportsTags, SupportsLocation/,
    );
    assert.ok(types.get('Microsoft.VirtualMachineImages/imageTemplates').locations.includes('East US'));
    assert.equal(types.get('Microsoft.Authorization/locks').capabilities, 'SupportsExtension');

    const own = await send(200, 'GET', `${S}/providers/microsoft.compute/resourceTypes`);
    const whole = value.find((one: Wire) => one.namespace === 'Microsoft.Compute');
    assert.deepEqual(own.value, whole.resourceTypes);
    assert.deepEqual(await send(200, 'GET', `${S}/providers/Microsoft.Compute/providerPermissions`), { value: [] });
    await fails(404, 'InvalidResourceNamespace', 'GET', `${S}/providers/Microsoft.Nothing/resourceTypes`);
  });

  test('say what roles can name', async () => {
    const path = '/providers/Microsoft.Authorization/providerOperations';
    const { name, resourceTypes, operations } = await send(
      200,
      'GET',
      `${path}/microsoft.virtualmachineimages`,
      undefined,
      '2022-04-01',
    );
    assert.equal(name, 'Microsoft.VirtualMachineImages');
    const templates = resourceTypes.find((one: Wire) => one.name === 'imageTemplates');
    assert.ok(
      templates.operations.some((one: Wire) => one.name === 'Microsoft.VirtualMachineImages/imageTemplates/run/action'),
    );
    assert.ok(operations.some((one: Wire) => one.name === 'Microsoft.VirtualMachineImages/register/action'));
    const all = await send(200, 'GET', path, undefined, '2018-01-01-preview');
    for (const one of ['Microsoft.Resources', 'Microsoft.Authorization', 'Microsoft.Compute'])
      assert.ok(named(all).includes(one), one);
    const resources = all.value.find((one: Wire) => one.name === 'Microsoft.Resources');
    const groups = resources.resourceTypes.find((one: Wire) => one.name === 'subscriptions/resourceGroups');
    assert.ok(
      groups.operations.some((one: Wire) => one.name === 'Microsoft.Resources/subscriptions/resourceGroups/delete'),
    );
  });

  test('that are not registered are not written to', async () => {
    const at = `/subscriptions/${OTHER}`;
    const group = `${at}/resourceGroups/unregistered`;
    await send(201, 'PUT', group, { location: 'westus' });
    await send(200, 'POST', `${at}/providers/Microsoft.ManagedIdentity/unregister`);
    const identity = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/identity`;
    const { error } = await send(409, 'PUT', identity, { location: 'westus' }, IDENTITY_API);
    assert.deepEqual(
      [error.code, error.details[0].target],
      ['MissingSubscriptionRegistration', 'Microsoft.ManagedIdentity'],
    );
    await send(404, 'GET', identity, undefined, IDENTITY_API);
    await send(200, 'POST', `${at}/providers/microsoft.managedidentity/register`);
    await send(201, 'PUT', identity, { location: 'westus' }, IDENTITY_API);
  });
});

describe('however an id is written', () => {
  /** The same path in another case, with doubled slashes and one at its end. */
  const written = (path: string) =>
    fc
      .tuple(
        fc.array(fc.boolean(), { minLength: path.length, maxLength: path.length }),
        fc.array(fc.nat(9), { minLength: path.length, maxLength: path.length }),
        fc.boolean(),
      )
      .map(([upper, slashes, end]) => {
        const text = [...path].map((sign, index) => {
          if (sign === '/') return index > 0 && slashes[index] === 0 ? '//' : '/';
          return upper[index] ? sign.toUpperCase() : sign.toLowerCase();
        });
        return `${text.join('')}${end ? '/' : ''}`;
      });
  const sameAnswer = async (method: string, path: string, apiVersion: string, body?: object) => {
    const ask = (target: string): Promise<Answer> =>
      server.request(method, target, { apiVersion, ...(body && { body }) });
    const first = await ask(path);
    assert.ok(first.status < 300, `${path}: ${first.text}`);
    await fc.assert(
      fc.asyncProperty(written(path), async target => {
        const { status, body } = await ask(target);
        assert.deepEqual({ status, body }, { status: first.status, body: first.body }, target);
      }),
      { numRuns: 12 },
    );
  };

  test('the answer to a read is the same', async () => {
    const assignment = `${ground.identityId}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
    const { properties } = await send(200, 'GET', ground.identityId, undefined, IDENTITY_API);
    await send(
      201,
      'PUT',
      assignment,
      {
        properties: {
          roleDefinitionId: `${S}/providers/Microsoft.Authorization/roleDefinitions/${READER}`,
          principalId: properties.principalId,
          principalType: 'ServicePrincipal',
        },
      },
      '2022-04-01',
    );
    const lock = `${ground.definitionId}/providers/Microsoft.Authorization/locks/Keep`;
    await send(201, 'PUT', lock, { properties: { level: 'CanNotDelete' } }, '2020-05-01');
    const reads: [path: string, apiVersion: string][] = [
      [S, '2022-12-01'],
      [`${S}/locations`, '2022-12-01'],
      [`${S}/resourceGroups`, V],
      [`${S}/resources`, V],
      [`${S}/providers/Microsoft.Compute`, V],
      [`${S}/providers/Microsoft.Features/providers/Microsoft.VirtualMachineImages/features/Triggers`, '2021-07-01'],
      [ground.group, V],
      [`${ground.group}/resources`, V],
      [`${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities`, IDENTITY_API],
      [ground.identityId, IDENTITY_API],
      [ground.definitionId, '2023-07-03'],
      [ground.template('Web'), NEWEST],
      [`${ground.template('Web')}/runOutputs`, NEWEST],
      [`${ground.definitionId}/providers/Microsoft.Resources/tags/default`, V],
      [lock, '2020-05-01'],
      [`${ground.group}/providers/Microsoft.Authorization/locks`, '2020-05-01'],
      ['/providers/Microsoft.VirtualMachineImages/operations', NEWEST],
    ];
    for (const [path, apiVersion] of reads) await sameAnswer('GET', path, apiVersion);
    await sameAnswer('HEAD', ground.group, V);
    await send(200, 'DELETE', lock.toUpperCase(), undefined, '2020-05-01');
    await send(200, 'DELETE', assignment.toLowerCase(), undefined, '2022-04-01');
  });

  test('a change reaches the same resource, which keeps its name', async () => {
    const body = { location: 'WEST us', tags: { a: 'b' } };
    await sameAnswer('PUT', ground.group, V, body);
    await sameAnswer('PATCH', ground.group, V, { tags: { c: 'd' } });
    await send(200, 'PUT', ground.identityId, body, IDENTITY_API);
    await sameAnswer('PUT', ground.identityId, IDENTITY_API, body);
    await sameAnswer('PUT', `${ground.identityId}/providers/Microsoft.Resources/tags/default`, V, {
      properties: { tags: { e: 'f' } },
    });
    await fc.assert(
      fc.asyncProperty(
        written(`${ground.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Fleeting`),
        async path => {
          const made = await send(201, 'PUT', path, { location: 'westus' }, IDENTITY_API);
          assert.equal(made.type, 'Microsoft.ManagedIdentity/userAssignedIdentities');
          assert.equal(made.name, path.replace(/\/$/, '').split('/').at(-1));
          await send(200, 'DELETE', path.toLowerCase(), undefined, IDENTITY_API);
          await send(204, 'DELETE', path, undefined, IDENTITY_API);
        },
      ),
      { numRuns: 10 },
    );
  });
});

test('every answer that Microsoft’s OpenAPI files know was of them, and nothing failed inside', () => {
  assert.deepEqual(server.errors, []);
  assert.deepEqual(
    server.violations.filter(one => !/nextLink/.test(one)),
    [],
  );
});
