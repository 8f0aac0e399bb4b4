/**
 * Who may do what where, from tables: role by action, and scope by scope, for every type of the registry. The requests name what is not there or say nothing, so
 * that whoever is allowed changes nothing: he hears of that, the others are refused.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  CONTRIBUTOR,
  MANAGED_IDENTITY_OPERATOR,
  OWNER,
  READER,
  USER_ACCESS_ADMINISTRATOR,
} from '../../src/arm/role-ids.ts';
import { openDirectory } from '../../src/directory/directory.ts';
import { openRoles } from '../../src/providers/authorization/open-roles.ts';
import { EXTENSIONS, LOCATION_READS, SUBSCRIPTION_ACTIONS } from '../../src/providers/registry.ts';
import { openTls } from '../../src/server/certificates.ts';
import { startServer } from '../../src/server/server.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestPrincipal, type TestServer } from '../server.ts';
import { type Ground, makeGround } from './ground.ts';
import { makeSample, SAMPLED, sampleId, sampleOf, versionOf } from './samples.ts';

const OTHER_SUBSCRIPTION = '00000000-0000-4000-8000-000000000002';
const AUTHORIZATION = 'Microsoft.Authorization';

let server: TestServer;
let ground: Ground;
let other: Ground;
before(async () => {
  server = await startTestServer({ subscriptions: [OTHER_SUBSCRIPTION] });
  ground = await makeGround(server, 'Access');
  other = await makeGround(server, 'Access2');
  for (const provider of SAMPLED)
    if (sampleOf(provider).writable) await makeSample(server, ground, provider.definition.type);
});
after(() => server?.close());

interface Request {
  /** What a role has to allow. */
  readonly action: string;
  readonly method: string;
  readonly path: string;
  readonly apiVersion: string;
  readonly body?: object;
  /** One who may not read all of it may read what is his. */
  readonly list?: true;
}

/** Everything that can be asked of a type in a group. `name`: of the resource that is meant. */
function requestsOf(group: string, name: (type: string) => string | undefined): Request[] {
  const resources = SAMPLED.flatMap((provider): Request[] => {
    const { type } = provider.definition;
    const apiVersion = versionOf(provider);
    const path = sampleId(group, type, name(type));
    const ask = (method: string, verb: string, more: Partial<Request> = {}): Request => ({
      ...{ action: `${type}/${verb}`, method, path, apiVersion },
      ...more,
    });
    return [
      ask('GET', 'read'),
      ask('HEAD', 'read'),
      ask('GET', 'read', { path: path.slice(0, path.lastIndexOf('/')), list: true }),
      ask('PUT', 'write', { body: {} }),
      ask('PATCH', 'write', { body: {} }),
      ask('DELETE', 'delete'),
      ...Object.entries(provider.actions ?? {}).map(([action, { permission, method = 'POST' }]) =>
        ask(method, permission, { path: `${path}/${action}`, ...(method === 'POST' && { body: {} }) }),
      ),
    ];
  });
  const extensions = EXTENSIONS.flatMap((extension): Request[] => {
    const { namespace, type, apiVersions } = extension;
    const path = `${group}/providers/${namespace}/${type}`;
    const one = `${path}/${randomUUID()}`;
    const ask = (method: 'GET' | 'PUT' | 'DELETE', at: string): Request => ({
      action: `${namespace}/${type}/${extension.permission({ method, segments: at === one ? ['name'] : [] })}`,
      method,
      path: at,
      apiVersion: apiVersions[0]!,
      ...(method === 'PUT' && { body: {} }),
    });
    return [ask('GET', path), ask('GET', one), ask('PUT', one), ask('DELETE', one)];
  });
  return [...resources, ...extensions];
}

const ABSENT: Readonly<Record<string, string>> = {
  'Microsoft.Compute/galleries/images/versions': '9.9.9',
  'Microsoft.Compute/galleries': 'absent',
  'Microsoft.Storage/storageAccounts': 'absent1',
  // No name of a container, so that nobody makes one by saying nothing.
  'Microsoft.Storage/storageAccounts/blobServices/containers': 'absent--1',
};
const absent = (type: string): string => ABSENT[type] ?? 'absent-1';

const send = ({ method, path, apiVersion, body }: Request, { token }: Pick<TestPrincipal, 'token'>) =>
  server.request(method, path, { apiVersion, token, ...(body && { body }) });

/** Several at a time. */
async function each(requests: readonly Request[], check: (request: Request) => Promise<void>): Promise<void> {
  const left = [...requests];
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) await check(next);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

const codeOf = ({ body }: Answer): string | undefined =>
  (body as { error?: { code?: string } } | undefined)?.error?.code;
const isRefused = (answer: Answer): boolean =>
  answer.status === 403 && (answer.body === undefined || codeOf(answer) === 'AuthorizationFailed');

interface Row {
  readonly role: string;
  /** A built-in role's. */
  readonly id?: string;
  readonly custom?: { readonly actions: readonly string[]; readonly notActions?: readonly string[] };
  /** The table: what is allowed, in lower case. Written down here anew, not read from the role. */
  readonly allows: (action: string) => boolean;
}

const reads = (action: string) => action.endsWith('/read');
const of = (namespace: string) => (action: string) => action.startsWith(`${namespace.toLowerCase()}/`);
const oneOf =
  (...actions: string[]) =>
  (action: string) =>
    actions.some(one => one.toLowerCase() === action);
/** What most roles for one kind of resource have besides. */
const readsRoles = (action: string) => of(AUTHORIZATION)(action) && reads(action);

const QUICKSTART = [
  'Microsoft.Compute/galleries/read',
  'Microsoft.Compute/galleries/images/read',
  'Microsoft.Compute/galleries/images/versions/read',
  'Microsoft.Compute/galleries/images/versions/write',
  'Microsoft.Compute/images/write',
  'Microsoft.Compute/images/read',
  'Microsoft.Compute/images/delete',
];
const SHARE = 'microsoft.compute/galleries/share/action';

const ROLES: readonly Row[] = [
  { role: 'nothing', allows: () => false },
  { role: 'Owner', id: OWNER, allows: () => true },
  {
    role: 'Contributor',
    id: CONTRIBUTOR,
    allows: action => !(of(AUTHORIZATION)(action) && /\/(write|delete)$/.test(action)) && action !== SHARE,
  },
  { role: 'Reader', id: READER, allows: reads },
  {
    role: 'User Access Administrator',
    id: USER_ACCESS_ADMINISTRATOR,
    allows: action => reads(action) || of(AUTHORIZATION)(action),
  },
  {
    role: 'Role Based Access Control Administrator',
    id: 'f58310d9-a9f6-439a-9e8d-f62e7b41a168',
    allows: action => reads(action) || /^microsoft\.authorization\/roleassignments\/(write|delete)$/.test(action),
  },
  {
    role: 'Managed Identity Operator',
    id: MANAGED_IDENTITY_OPERATOR,
    allows: action => readsRoles(action) || (of('Microsoft.ManagedIdentity')(action) && reads(action)),
  },
  {
    role: 'Managed Identity Contributor',
    id: 'e40ec5ca-96e0-45a2-b4ff-59039f2c2b59',
    allows: action => readsRoles(action) || of('Microsoft.ManagedIdentity')(action),
  },
  {
    role: 'Network Contributor',
    id: '4d97b98b-1d4f-4787-a291-c67834d212e7',
    allows: action => readsRoles(action) || of('Microsoft.Network')(action),
  },
  {
    role: 'Storage Account Contributor',
    id: '17d1049b-9a84-46fb-8f53-869881c3d3ab',
    allows: action => readsRoles(action) || of('Microsoft.Storage/storageAccounts')(action),
  },
  {
    role: 'Compute Gallery Artifacts Publisher',
    id: '85a2d0d9-2eba-4c9c-b355-11c2cc0788ab',
    allows: action =>
      readsRoles(action) ||
      (/^microsoft\.compute\/(galleries|images|locations\/(community|shared)galleries)\//.test(action) &&
        action !== SHARE),
  },
  {
    role: 'Compute Gallery Image Reader',
    id: 'cf7c76d2-98a3-4358-a134-615aa78bf44d',
    allows: oneOf('Microsoft.Compute/galleries/images/read', 'Microsoft.Compute/galleries/images/versions/read'),
  },
  { role: 'Compute Gallery Sharing Admin', id: '1ef6a3be-d0ac-425d-8c01-acb62866290b', allows: oneOf(SHARE) },
  {
    role: 'Locks Contributor',
    id: '28bf596f-4eb7-45ce-b5bc-6cf482fec137',
    allows: of(`${AUTHORIZATION}/locks`),
  },
  { role: 'the quickstart’s role', custom: { actions: QUICKSTART }, allows: oneOf(...QUICKSTART) },
  {
    role: 'all but what is taken away again',
    custom: {
      actions: ['Microsoft.Compute/*', 'microsoft.virtualmachineimages/*', '*/READ'],
      notActions: ['Microsoft.Compute/*/delete', 'Microsoft.Compute/galleries/images/versions/*', '*/run/action'],
    },
    allows(action) {
      if (of('Microsoft.Compute/galleries/images/versions')(action)) return false;
      if (of('Microsoft.Compute')(action)) return !action.endsWith('/delete');
      if (of('Microsoft.VirtualMachineImages')(action)) return !action.endsWith('/run/action');
      return reads(action);
    },
  },
  { role: 'only runs', custom: { actions: ['*/run/action'] }, allows: action => action.endsWith('/run/action') },
];

async function defineRole({ role, custom }: Row, scope: string): Promise<string> {
  const id = randomUUID();
  const made = await server.request('PUT', `${scope}/providers/${AUTHORIZATION}/roleDefinitions/${id}`, {
    apiVersion: '2022-04-01',
    body: { properties: { roleName: `${role} ${id}`, permissions: [custom], assignableScopes: [scope] } },
  });
  assert.equal(made.status, 201, made.text);
  return id;
}

describe('a role allows what the table says, and nothing else', () => {
  for (const row of ROLES)
    test(row.role, async () => {
      const id = row.custom ? await defineRole(row, ground.group) : row.id;
      const who = await server.principal(row.role, id === undefined ? undefined : { id, scope: ground.group });
      await each(requestsOf(ground.group, absent), async request => {
        const allowed = row.allows(request.action.toLowerCase());
        const answer = await send(request, who);
        const said = `${request.action}: ${request.method} ${request.path}: ${answer.status} ${answer.text}`;
        if (request.list && !allowed) {
          // Somebody who may read something there sees that, and nothing of this.
          if (answer.status === 200) assert.deepEqual((answer.body as { value: unknown[] }).value, [], said);
          else assert.ok(isRefused(answer), said);
        } else assert.equal(isRefused(answer), !allowed, said);
      });
      // Nothing holds beside the group.
      const beside = requestsOf(other.group, absent).filter(({ method }) => method === 'GET' || method === 'PUT');
      await each(beside, async request => {
        const answer = await send(request, who);
        assert.ok(isRefused(answer), `${request.action}: ${request.method} ${request.path}: ${answer.text}`);
      });
    });
});

test('a role holds where it is assigned and below, by whole segments', async () => {
  const gallery = sampleId(ground.group, 'Microsoft.Compute/galleries');
  const definition = sampleId(ground.group, 'Microsoft.Compute/galleries/images');
  const version = sampleId(ground.group, 'Microsoft.Compute/galleries/images/versions', '9.9.9');
  const template = sampleId(ground.group, 'Microsoft.VirtualMachineImages/imageTemplates');
  const scopes = [
    ...['/', `/subscriptions/${SUBSCRIPTION}`, `/subscriptions/${OTHER_SUBSCRIPTION}`, ground.group, other.group],
    ...[gallery, `${gallery}0`, gallery.slice(0, -1), definition, `${definition}0`, version, template],
  ];
  const requests = [
    ...requestsOf(ground.group, absent).filter(({ method }) => method === 'PUT' || method === 'POST'),
    ...requestsOf(ground.group, () => undefined).filter(({ method, list }) => method === 'GET' && !list),
  ];
  for (const [id, allows] of [
    [READER, reads],
    [OWNER, () => true],
  ] as const)
    for (const scope of scopes) {
      const who = await server.principal('scoped', { id, scope });
      await each(requests, async request => {
        // An extension's scope is what it hangs on.
        const at = request.path.split(/\/providers\/(?:Microsoft\.Authorization|Kiln\.Builds)\//)[0]!.toLowerCase();
        const under = scope === '/' || `${at}/`.startsWith(`${scope.toLowerCase()}/`);
        const answer = await send(request, who);
        const expected = under && allows(request.action.toLowerCase());
        const said = `${scope}: ${request.action}: ${request.method} ${request.path}: ${answer.status} ${answer.text}`;
        assert.equal(!isRefused(answer), expected, said);
      });
    }
});

test('one who may not read a resource does not hear whether it is there', async () => {
  const strangers = [
    await server.principal('nobody'),
    await server.principal('of the other group', { id: OWNER, scope: other.group }),
    await server.principal('of one gallery', {
      id: OWNER,
      scope: sampleId(ground.group, 'Microsoft.Compute/galleries', 'another'),
    }),
  ];
  const nowhere = `/subscriptions/${SUBSCRIPTION}/resourceGroups/Nowhere`;
  const there = requestsOf(ground.group, () => undefined);
  const missing = requestsOf(ground.group, absent);
  const noGroup = requestsOf(nowhere, () => undefined);
  const blank = ({ path }: Request, text: string) =>
    text
      .replaceAll(path.toLowerCase(), 'ID')
      .replaceAll(path, 'ID')
      .replaceAll(path.slice(0, path.lastIndexOf('/')).toLowerCase(), 'OVER')
      .replaceAll(path.slice(0, path.lastIndexOf('/')), 'OVER')
      .replaceAll(ground.group, 'GROUP')
      .replaceAll(nowhere, 'GROUP');
  for (const who of strangers)
    for (const [index, request] of there.entries()) {
      const answer = await send(request, who);
      // Whoever owns one gallery there may list: what he sees is his.
      if (request.list && answer.status === 200) {
        assert.deepEqual((answer.body as { value: unknown[] }).value, []);
        continue;
      }
      assert.ok(isRefused(answer), `${request.method} ${request.path}: ${answer.text}`);
      for (const twin of [missing[index]!, noGroup[index]!]) {
        const same = await send(twin, who);
        assert.equal(same.status, answer.status, `${twin.method} ${twin.path}`);
        if (twin.path.includes(ground.group) || who !== strangers[2])
          assert.equal(blank(twin, same.text), blank(request, answer.text));
      }
    }
});

test('lists of a group and of a subscription show what the caller may read', async () => {
  const gallery = sampleId(ground.group, 'Microsoft.Compute/galleries');
  const who = await server.principal('of one', { id: READER, scope: gallery });
  const ids = async (path: string, apiVersion: string) => {
    const { status, body, text } = await server.request('GET', path, { apiVersion, token: who.token });
    assert.equal(status, 200, text);
    return (body as { value: { id: string }[] }).value.map(({ id }) => id);
  };
  const subscription = `/subscriptions/${SUBSCRIPTION}`;
  for (const scope of [ground.group, subscription]) {
    assert.deepEqual(await ids(`${scope}/providers/Microsoft.Compute/galleries`, '2023-07-03'), [gallery]);
    assert.deepEqual(await ids(`${scope}/providers/Microsoft.VirtualMachineImages/imageTemplates`, '2024-02-01'), []);
    const resources = await ids(`${scope}/resources`, '2021-04-01');
    assert.ok(resources.includes(gallery) && resources.every(id => id.startsWith(gallery)), String(resources));
  }
  assert.deepEqual(await ids(`${subscription}/resourcegroups`, '2021-04-01'), [ground.group]);
  assert.deepEqual(await ids('/subscriptions', '2022-12-01'), [subscription]);
});

test('what is linked to has to be allowed, and nothing is said of it otherwise', async () => {
  const who = await server.principal('maker', { id: CONTRIBUTOR, scope: ground.group });
  const put = async (identityId: string, imageId: string) => {
    const answer = await server.request('PUT', ground.template(`linked-${randomUUID().slice(0, 8)}`), {
      apiVersion: '2024-02-01',
      token: who.token,
      body: {
        location: 'westus',
        identity: { type: 'UserAssigned', userAssignedIdentities: { [identityId]: {} } },
        properties: {
          source: {
            type: 'PlatformImage',
            publisher: 'Canonical',
            offer: 'UbuntuServer',
            sku: '18.04-LTS',
            version: 'latest',
          },
          distribute: [{ type: 'ManagedImage', runOutputName: 'out', imageId, location: 'westus' }],
        },
      },
    });
    return answer;
  };
  const image = `${ground.group}/providers/Microsoft.Compute/images/out`;
  const there = await put(other.identityId, image);
  assert.equal(codeOf(there), 'LinkedAuthorizationFailed', there.text);
  assert.equal(there.status, 403);
  assert.match(there.text, /assign\/action/);
  const nowhere = await put(other.identityId.replace('builder', 'nobody'), image);
  assert.equal(codeOf(nowhere), 'LinkedAuthorizationFailed', nowhere.text);
  const plain = (text: string) => text.replaceAll(/nobody|builder/g, 'X').replaceAll(/linked-[0-9a-f]{8}/g, 'T');
  assert.equal(plain(nowhere.text), plain(there.text));
  const operator = { id: MANAGED_IDENTITY_OPERATOR, scope: other.identityId };
  const allowed = await server.principal('operator', operator);
  const assignments = `${ground.group}/providers/${AUTHORIZATION}/roleAssignments/${randomUUID()}`;
  await server.request('PUT', assignments, {
    apiVersion: '2022-04-01',
    body: { properties: { principalId: allowed.objectId, roleDefinitionId: CONTRIBUTOR } },
  });
  const made = await server.request('PUT', ground.template('linked'), {
    apiVersion: '2024-02-01',
    token: allowed.token,
    body: {
      location: 'westus',
      identity: { type: 'UserAssigned', userAssignedIdentities: { [other.identityId]: {} } },
      properties: {
        source: {
          type: 'PlatformImage',
          publisher: 'Canonical',
          offer: 'UbuntuServer',
          sku: '18.04-LTS',
          version: 'latest',
        },
        distribute: [{ type: 'VHD', runOutputName: 'out' }],
      },
    },
  });
  assert.equal(made.status, 201, made.text);
});

test('who may assign roles on a group may not on what is beside it', async () => {
  const who = await server.principal('administrator of one', { id: USER_ACCESS_ADMINISTRATOR, scope: ground.group });
  const assign = (scope: string) =>
    server.request('PUT', `${scope}/providers/${AUTHORIZATION}/roleAssignments/${randomUUID()}`, {
      apiVersion: '2022-04-01',
      token: who.token,
      body: { properties: { principalId: who.objectId, roleDefinitionId: OWNER } },
    });
  for (const scope of [other.group, `/subscriptions/${SUBSCRIPTION}`, ''])
    assert.ok(isRefused(await assign(scope)), scope);
  const gallery = sampleId(ground.group, 'Microsoft.Compute/galleries');
  assert.equal((await assign(gallery)).status, 201, 'No rule of Azure keeps one from giving himself more.');
});

test('what is asked of a subscription has to be allowed on it', async () => {
  const subscription = `/subscriptions/${SUBSCRIPTION}`;
  const group = 'Microsoft.Resources/subscriptions/resourceGroups';
  const absentGroup = `${subscription}/resourceGroups/Absent`;
  const requests: Request[] = [
    ...LOCATION_READS.map(({ namespace, path, apiVersions, permission }) => ({
      ...{ action: permission, method: 'GET', apiVersion: apiVersions[0]! },
      path: `${subscription}/providers/${namespace}/locations/westus/${path.replaceAll(/\{(\w+)\}/g, '$1')}`,
    })),
    ...SUBSCRIPTION_ACTIONS.map(({ namespace, name, apiVersions, permission }) => ({
      ...{ action: permission, method: 'POST', apiVersion: apiVersions[0]!, body: {} },
      path: `${subscription}/providers/${namespace}/${name}`,
    })),
    { action: `${group}/write`, method: 'PUT', path: absentGroup, apiVersion: '2021-04-01', body: {} },
    { action: `${group}/write`, method: 'PATCH', path: absentGroup, apiVersion: '2021-04-01', body: {} },
    { action: `${group}/delete`, method: 'DELETE', path: absentGroup, apiVersion: '2021-04-01' },
    ...['register', 'unregister'].map(verb => ({
      ...{ action: `Microsoft.KeyVault/${verb}/action`, method: 'POST', apiVersion: '2021-04-01' },
      path: `${subscription}/providers/Microsoft.KeyVault/${verb}`,
    })),
  ];
  for (const { role, id, allows } of ROLES.filter(one => one.id !== undefined || one.role === 'nothing')) {
    const on = await server.principal(role, id === undefined ? undefined : { id, scope: subscription });
    const beside = await server.principal(role, id === undefined ? undefined : { id, scope: ground.group });
    await each(requests, async request => {
      const said = `${role}: ${request.action}: ${request.method} ${request.path}`;
      const answer = await send(request, on);
      assert.equal(isRefused(answer), !allows(request.action.toLowerCase()), `${said}: ${answer.text}`);
      assert.ok(isRefused(await send(request, beside)), `${said}, by a role on a group`);
    });
  }
});

test('types that Kiln does not model are no way around roles', async () => {
  // Of a namespace that no other test unregisters.
  const account = `${ground.group}/providers/Microsoft.Batch/batchAccounts/account-1`;
  const apiVersion = '2024-07-01';
  const made = await server.request('PUT', account, { apiVersion, body: { location: 'westus', properties: {} } });
  assert.ok(made.status < 300, made.text);
  const missing = account.replace('account-1', 'account-2');
  for (const [role, scope, readsIt, writesIt] of [
    [undefined, ground.group, false, false],
    [OWNER, other.group, false, false],
    [READER, ground.group, true, false],
    [CONTRIBUTOR, account, true, true],
  ] as const) {
    const who = await server.principal('of accounts', role && { id: role, scope });
    const requests: [method: string, allowed: boolean, body?: object][] = [
      ['GET', readsIt],
      ['HEAD', readsIt],
      ['PUT', writesIt, { location: 'westus', properties: {} }],
      ['PATCH', writesIt, { tags: {} }],
    ];
    for (const [method, allowed, body] of requests) {
      const request = { action: '', method, path: account, apiVersion, ...(body && { body }) };
      const answer = await send(request, who);
      assert.equal(isRefused(answer), !allowed, `${role} ${method}: ${answer.text}`);
      if (allowed) continue;
      const same = await send({ ...request, path: missing }, who);
      assert.equal(same.text.replaceAll('account-2', 'account-1'), answer.text);
    }
  }
});

test('what is taken away is refused at once, by a second server, too', async () => {
  const { service } = server;
  const origin = () => server.origin;
  const directory = await openDirectory({ home: service.home, database: service.database, origin, log: () => {} });
  const roles = await openRoles(service.database);
  const second = await startServer({
    ...{ host: '127.0.0.1', port: 0, tls: await openTls(service.home, { hosts: [] }), log: () => {} },
    ...{ environment: service.environment, directory, roles },
  });
  try {
    const gallery = sampleId(ground.group, 'Microsoft.Compute/galleries');
    const refusedSoon = async (token: string, status: number) => {
      for (const door of [server.origin, second.origin]) {
        let answer: Answer;
        for (let tries = 0; ; tries += 1) {
          answer = await server.request('GET', `${door}${gallery}?api-version=2023-07-03`, { token });
          if (answer.status !== 200) break;
          assert.ok(tries < 200, `${door} goes on answering.`);
        }
        assert.equal(answer.status, status, answer.text);
      }
    };
    const answered = async (token: string) => {
      for (const door of [server.origin, second.origin]) {
        const answer = await server.request('GET', `${door}${gallery}?api-version=2023-07-03`, { token });
        assert.equal(answer.status, 200, answer.text);
      }
    };
    const assign = async (who: TestPrincipal, role: string) => {
      const path = `${ground.group}/providers/${AUTHORIZATION}/roleAssignments/${randomUUID()}`;
      const body = { properties: { principalId: who.objectId, roleDefinitionId: role } };
      const answer = await server.request('PUT', path, { apiVersion: '2022-04-01', body });
      assert.equal(answer.status, 201, answer.text);
      return path;
    };
    const one = await server.principal('one');
    const path = await assign(one, READER);
    await answered(one.token);
    assert.equal((await server.request('DELETE', path, { apiVersion: '2022-04-01' })).status, 200);
    await refusedSoon(one.token, 403);

    // A custom role that allows less from now on.
    const two = await server.principal('two');
    const row: Row = {
      role: 'gallery reader',
      custom: { actions: ['Microsoft.Compute/galleries/read'] },
      allows: reads,
    };
    const role = await defineRole(row, ground.group);
    await assign(two, role);
    await answered(two.token);
    const definition = `${ground.group}/providers/${AUTHORIZATION}/roleDefinitions/${role}`;
    const body = {
      properties: {
        roleName: `less ${role}`,
        permissions: [{ actions: ['Microsoft.Compute/galleries/*'], notActions: ['Microsoft.Compute/galleries/read'] }],
        assignableScopes: [ground.group],
      },
    };
    assert.equal((await server.request('PUT', definition, { apiVersion: '2022-04-01', body })).status, 201);
    await refusedSoon(two.token, 403);
    assert.equal(
      codeOf(await server.request('DELETE', definition, { apiVersion: '2022-04-01' })),
      'RoleDefinitionHasAssignments',
    );

    // A principal that is gone: its token is nobody's.
    const three = await server.principal('three');
    await assign(three, READER);
    await answered(three.token);
    await service.database.kysely.deleteFrom('principal').where('object_id', '=', three.objectId).execute();
    await refusedSoon(three.token, 401);
  } finally {
    await second.close();
    await roles.close();
    await directory.close();
  }
});

test('nothing that was answered breaks the contract', () => {
  // The real service's list of subscriptions has no nextLink at its end either.
  assert.deepEqual(
    server.violations.filter(one => !/GET \/subscriptions: .*'nextLink'/.test(one)),
    [],
  );
  assert.deepEqual(server.errors, []);
});
