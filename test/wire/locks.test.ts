/** Locks over HTTPS: what each kind forbids where, that nothing slips through while one is made, and that Kiln's own work is held like anybody else's. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { CONTRIBUTOR, OWNER, READER, USER_ACCESS_ADMINISTRATOR } from '../../src/arm/role-ids.ts';
import { lockResource } from '../../src/providers/store.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { makeGround, NEWEST, plainTemplate } from './ground.ts';

const LOCKED = '00000000-0000-4000-8000-0000000000aa';
const LOCKS = 'providers/Microsoft.Authorization/locks';
const V = '2020-05-01';
const GROUP_API = '2021-04-01';
const IDENTITY_API = '2023-01-31';
const GALLERY_API = '2023-07-03';

let server: TestServer;
before(async () => {
  server = await startTestServer({ subscriptions: [LOCKED] });
});
after(() => server?.close());

// biome-ignore lint/suspicious/noExplicitAny: answers of many shapes, looked into member by member
type Wire = any;
const put = (path: string, apiVersion: string, body: object) => server.request('PUT', path, { apiVersion, body });
const get = (path: string, apiVersion: string) => server.request('GET', path, { apiVersion });
const lockAt = (scope: string, name: string) => `${scope}/${LOCKS}/${name}`;
const lock = (scope: string, level: string, name = 'keep') =>
  put(lockAt(scope, name), V, { properties: { level, notes: 'kept' } });
const unlock = (scope: string, name = 'keep') => server.request('DELETE', lockAt(scope, name), { apiVersion: V });

async function made(answer: Answer): Promise<Wire> {
  assert.ok([200, 201, 202].includes(answer.status), answer.text);
  if (answer.headers['azure-asyncoperation']) {
    const end = (await server.settled(answer)).body as Wire;
    assert.equal(end.status, 'Succeeded', JSON.stringify(end));
  }
  return answer.body;
}

/** A group with something flat, and something in something. */
async function place(subscription: string, name: string) {
  const group = `/subscriptions/${subscription}/resourceGroups/${name}`;
  const location = 'westus';
  const identity = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/identity`;
  const gallery = `${group}/providers/Microsoft.Compute/galleries/${name.replaceAll('-', '_')}`;
  const definition = `${gallery}/images/definition`;
  await made(await put(group, GROUP_API, { location }));
  const { properties } = await made(await put(identity, IDENTITY_API, { location }));
  await made(await put(gallery, GALLERY_API, { location }));
  const image = { osType: 'Linux', osState: 'Generalized', identifier: { publisher: 'p', offer: 'o', sku: 's' } };
  await made(await put(definition, GALLERY_API, { location, properties: image }));
  const principalId = properties.principalId as string;
  return { subscription: `/subscriptions/${subscription}`, group, identity, gallery, definition, principalId };
}
type Place = Awaited<ReturnType<typeof place>>;

const isLocked = ({ status, body }: Answer) => status === 409 && (body as Wire).error.code === 'ScopeLocked';

/** What is tried, in this order, and on what. */
const TRIED: Readonly<Record<string, (at: Place) => Promise<Answer>>> = {
  'read identity': at => get(at.identity, IDENTITY_API),
  'list group': at => get(`${at.group}/resources`, GROUP_API),
  'put identity': at => put(at.identity, IDENTITY_API, { location: 'westus', tags: { a: 'b' } }),
  'put new': at => put(at.identity.replace(/identity$/, 'second'), IDENTITY_API, { location: 'westus' }),
  'patch gallery': at => server.request('PATCH', at.gallery, { apiVersion: GALLERY_API, body: { tags: { a: 'b' } } }),
  'patch definition': at =>
    server.request('PATCH', at.definition, { apiVersion: GALLERY_API, body: { tags: { a: 'b' } } }),
  'patch group': at => server.request('PATCH', at.group, { apiVersion: GROUP_API, body: { tags: { a: 'b' } } }),
  'assign role': at =>
    put(`${at.identity}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`, '2022-04-01', {
      properties: {
        roleDefinitionId: `${at.subscription}/providers/Microsoft.Authorization/roleDefinitions/${READER}`,
        principalId: at.principalId,
        principalType: 'ServicePrincipal',
      },
    }),
  register: at =>
    server.request('POST', `${at.subscription}/providers/Microsoft.KeyVault/register`, { apiVersion: GROUP_API }),
  'delete group': at => server.request('DELETE', at.group, { apiVersion: GROUP_API }),
  'delete gallery': at => server.request('DELETE', at.gallery, { apiVersion: GALLERY_API }),
  'delete definition': at => server.request('DELETE', at.definition, { apiVersion: GALLERY_API }),
  'delete identity': at => server.request('DELETE', at.identity, { apiVersion: IDENTITY_API }),
};

/** What a lock at each scope forbids; all else goes through. */
const DELETIONS: Readonly<Record<string, readonly string[]>> = {
  subscription: ['delete group', 'delete gallery', 'delete definition', 'delete identity'],
  group: ['delete group', 'delete gallery', 'delete definition', 'delete identity'],
  gallery: ['delete group', 'delete gallery', 'delete definition'],
  definition: ['delete group', 'delete gallery', 'delete definition'],
  identity: ['delete group', 'delete identity'],
};
const WRITES: Readonly<Record<string, readonly string[]>> = {
  subscription: [
    'put identity',
    'put new',
    'patch gallery',
    'patch definition',
    'patch group',
    'assign role',
    'register',
  ],
  group: ['put identity', 'put new', 'patch gallery', 'patch definition', 'patch group', 'assign role'],
  gallery: ['patch gallery', 'patch definition'],
  definition: ['patch definition'],
  identity: ['put identity', 'assign role'],
};

describe('what a lock forbids', () => {
  for (const level of ['CanNotDelete', 'ReadOnly'])
    for (const scope of Object.keys(DELETIONS))
      test(`${level} on the ${scope}`, async () => {
        const forbidden = new Set([...DELETIONS[scope]!, ...(level === 'ReadOnly' ? WRITES[scope]! : [])]);
        const at = await place(scope === 'subscription' ? LOCKED : SUBSCRIPTION, `${level}-${scope}`);
        const where = at[scope as keyof Place];
        assert.equal((await lock(where, level)).status, 201);
        for (const [what, attempt] of Object.entries(TRIED)) {
          // It would take everything else with it; the next test has a group without locks deleted.
          if (what === 'delete group' && !forbidden.has(what)) continue;
          const answer = await attempt(at);
          if (forbidden.has(what)) {
            assert.ok(isLocked(answer), `${what}: ${answer.status} ${answer.text}`);
            const { message } = (answer.body as Wire).error;
            const verb = what.startsWith('delete') ? 'delete' : 'write';
            assert.match(
              message,
              new RegExp(
                `^The scope '[^']+' cannot perform ${verb} operation because following scope\\(s\\) are locked: '${where}'\\. Please remove the lock and try again\\.$`,
              ),
            );
            continue;
          }
          // A gallery whose definition is locked stays for that reason; one that is not locked only for having it.
          const full = what === 'delete gallery' && /nested resources/.test(answer.text);
          assert.ok(full || [200, 201, 202, 204].includes(answer.status), `${what}: ${answer.status} ${answer.text}`);
          if (answer.headers['azure-asyncoperation']) await server.settled(answer);
        }
        // Nothing that was refused has left a trace.
        for (const id of ['identity', 'gallery', 'definition'] as const)
          if (forbidden.has(`delete ${id}`))
            assert.equal((await get(at[id], id === 'identity' ? IDENTITY_API : GALLERY_API)).status, 200, id);
        const group = (await get(at.group, GROUP_API)).body as Wire;
        assert.equal(group.properties.provisioningState, 'Succeeded');
        if (forbidden.has('patch group')) assert.equal(group.tags, undefined);

        assert.equal((await unlock(where)).status, 200);
        assert.equal((await unlock(where)).status, 204);
        assert.equal((await TRIED['delete group']!(at)).status, 202);
      });
});

test('a lock is made, shown, changed, listed and taken away, in the words of its api-version', async () => {
  const at = await place(SUBSCRIPTION, 'shown');
  const first = await put(lockAt(at.group, 'Note'), '2016-09-01', {
    properties: { level: 'CanNotDelete', notes: 'ours', owners: [{ applicationId: 'app' }] },
  });
  assert.equal(first.status, 201);
  assert.deepEqual(first.body, {
    id: lockAt(at.group, 'Note'),
    type: 'Microsoft.Authorization/locks',
    name: 'Note',
    properties: { level: 'CanNotDelete', notes: 'ours', owners: [{ applicationId: 'app' }] },
  });
  const path = lockAt(at.group.replace('resourceGroups', 'RESOURCEGROUPS'), 'nOTE');
  assert.deepEqual((await get(path, '2016-09-01')).body, first.body);
  const changed = await put(path, V, { properties: { level: 'readonly' } });
  assert.equal(changed.status, 200);
  const { properties, systemData, id } = changed.body as Wire;
  assert.deepEqual([id, properties], [lockAt(at.group, 'Note'), { level: 'ReadOnly' }]);
  assert.equal(systemData.createdBy, server.administrator.objectId);

  assert.equal((await lock(at.definition, 'CanNotDelete', 'deep')).status, 201);
  assert.equal((await lock(at.identity, 'CanNotDelete', 'flat')).status, 201);
  const names = async (scope: string, filter = '') =>
    ((await get(`${scope}/${LOCKS}${filter}`, V)).body as Wire).value.map((one: Wire) => one.name);
  assert.deepEqual((await names(at.group)).sort(), ['Note', 'deep', 'flat']);
  assert.deepEqual(await names(at.group, '?$filter=atScope()'), ['Note']);
  assert.deepEqual(await names(at.gallery), ['Note', 'deep']);
  assert.deepEqual(await names(at.gallery, '?$filter=atScope()'), ['Note']);
  assert.deepEqual(await names(at.definition, '?$filter=atScope()'), ['Note', 'deep']);
  assert.ok((await names(at.subscription)).length >= 3);

  const missing = await get(lockAt(at.group, 'nope'), V);
  assert.deepEqual([missing.status, (missing.body as Wire).error.code], [404, 'LockNotFound']);
  for (const [scope, name] of [
    [at.group, 'Note'],
    [at.definition, 'deep'],
    [at.identity, 'flat'],
  ] as const)
    assert.equal((await unlock(scope, name)).status, 200);
  assert.deepEqual(await names(at.group), []);
});

test('an action is a change, whatever it does: under ReadOnly nobody reads keys; tags are one, too', async () => {
  const at = await place(SUBSCRIPTION, 'actions');
  const account = `${at.group}/providers/Microsoft.Storage/storageAccounts/lockedkeys`;
  const api = '2023-05-01';
  const sku = { name: 'Standard_LRS' };
  await made(await put(account, api, { location: 'westus', kind: 'StorageV2', sku }));
  const keys = () => server.request('POST', `${account}/listKeys`, { apiVersion: api });
  const tagged = (scope: string) =>
    put(`${scope}/providers/Microsoft.Resources/tags/default`, '2022-09-01', { properties: { tags: { a: 'b' } } });
  await lock(at.group, 'CanNotDelete');
  assert.equal((await keys()).status, 200);
  assert.equal((await tagged(account)).status, 200);
  await lock(at.group, 'ReadOnly');
  assert.ok(isLocked(await keys()));
  assert.ok(isLocked(await tagged(account)));
  assert.ok(isLocked(await tagged(at.definition)));
  const tags = await get(`${account}/providers/Microsoft.Resources/tags/default`, '2022-09-01');
  assert.equal(tags.status, 200);
  for (const action of ['moveResources', 'exportTemplate'])
    assert.ok(
      isLocked(await server.request('POST', `${at.group}/${action}`, { apiVersion: GROUP_API, body: {} })),
      action,
    );
  await unlock(at.group);
  assert.equal((await keys()).status, 200);
});

test('locks that cannot be made', async () => {
  const at = await place(SUBSCRIPTION, 'refused');
  const refused = async (status: number, code: string, path: string, body: unknown) => {
    const answer = await server.request('PUT', path, { apiVersion: V, body });
    assert.deepEqual([answer.status, (answer.body as Wire).error?.code], [status, code], answer.text);
  };
  const level = 'CanNotDelete';
  const path = lockAt(at.group, 'bad');
  await refused(400, 'InvalidRequestContent', path, {});
  await refused(400, 'InvalidParameter', path, { properties: {} });
  await refused(400, 'InvalidParameter', path, { properties: { level: 'Locked' } });
  await refused(400, 'InvalidParameter', path, { properties: { level, notes: 'x'.repeat(513) } });
  await refused(400, 'InvalidParameter', path, { properties: { level, owners: ['me'] } });
  await refused(400, 'InvalidParameter', lockAt(at.group, 'x'.repeat(261)), { properties: { level } });
  await refused(400, 'InvalidParameter', lockAt(at.group, 'a%3Ab'), { properties: { level } });
  await refused(404, 'ResourceNotFound', lockAt(`${at.identity}x`, 'bad'), { properties: { level } });
  await refused(404, 'ResourceGroupNotFound', lockAt(`${at.group}x`, 'bad'), { properties: { level } });
  await refused(
    404,
    'InvalidResourceType',
    lockAt(`${at.group}/providers/Microsoft.ManagedIdentity/nothings/x`, 'bad'),
    {
      properties: { level },
    },
  );
  assert.deepEqual(((await get(`${at.group}/${LOCKS}?$filter=atScope()`, V)).body as Wire).value, []);
});

test('owners and user access administrators lock; others read', async () => {
  const at = await place(SUBSCRIPTION, 'roles');
  const tries: [role: string, write: number, remove: number][] = [
    [READER, 403, 403],
    [CONTRIBUTOR, 403, 403],
    [USER_ACCESS_ADMINISTRATOR, 201, 200],
    [OWNER, 201, 200],
  ];
  for (const [role, write, remove] of tries) {
    const { token } = await server.principal(role, { id: role, scope: at.group });
    const path = lockAt(at.identity, 'mine');
    const options = { apiVersion: V, token };
    const body = { properties: { level: 'ReadOnly' } };
    const answer = await server.request('PUT', path, { ...options, body });
    assert.equal(answer.status, write, `${role} ${answer.text}`);
    if (write === 403) assert.equal((answer.body as Wire).error.code, 'AuthorizationFailed');
    assert.equal((await server.request('GET', `${at.identity}/${LOCKS}`, options)).status, 200);
    assert.equal((await server.request('DELETE', path, options)).status, remove);
  }
});

test('a lock and a deletion at once: one of them comes too late', async () => {
  const outcomes = new Set<string>();
  for (let round = 0; round < 12; round += 1) {
    const group = `/subscriptions/${SUBSCRIPTION}/resourceGroups/race-${round}`;
    await made(await put(group, GROUP_API, { location: 'westus' }));
    const identity = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/identity`;
    await made(await put(identity, IDENTITY_API, { location: 'westus' }));
    const target = round % 2 === 0 ? identity : group;
    const [apiVersion, gone] = target === group ? [GROUP_API, 202] : [IDENTITY_API, 200];
    const deletion = () => server.request('DELETE', target, { apiVersion });
    const locking = () => lock(target, 'CanNotDelete');
    const [locked, deleted] =
      round % 4 < 2
        ? await Promise.all([locking(), deletion()])
        : await Promise.all([deletion(), locking()]).then(([a, b]) => [b, a] as const);
    if (deleted.status === gone) {
      assert.ok([404, 409].includes(locked.status), `deleted, and locked: ${locked.status} ${locked.text}`);
      outcomes.add('deleted');
    } else {
      assert.ok(isLocked(deleted), deleted.text);
      assert.equal(locked.status, 201);
      assert.equal((await get(target, apiVersion)).status, 200);
      outcomes.add('locked');
    }
    const { value } = (await get(`/subscriptions/${SUBSCRIPTION}/${LOCKS}`, V)).body as Wire;
    const left = value.filter((one: Wire) => one.id.startsWith(`${group}/`));
    assert.equal(left.length, deleted.status === gone ? 0 : 1, 'A lock has outlived what it was on.');
  }
  assert.ok(outcomes.size > 0);
});

test('a deletion that is under way is waited for: nobody is told of a lock that comes too late', async () => {
  const at = await place(SUBSCRIPTION, 'waits');
  const { kysely } = server.service.database;
  const waiting = async (count: number) => {
    for (const deadline = Date.now() + 10_000; ; await sleep(10)) {
      const { rows } = await sql<{ n: number }>`select count(*)::int as n from pg_locks where not granted`.execute(
        kysely,
      );
      if (rows[0]!.n >= count) return;
      assert.ok(Date.now() < deadline, `Nobody waits: ${rows[0]!.n}`);
    }
  };
  const held = Promise.withResolvers<void>();
  const taken = Promise.withResolvers<void>();
  // As a change of the identity does that takes its time.
  const holding = kysely.transaction().execute(async trx => {
    await lockResource(trx, at.identity);
    taken.resolve();
    await held.promise;
  });
  await taken.promise;
  const deletion = TRIED['delete identity']!(at);
  await waiting(1);
  const locking = lock(at.identity, 'CanNotDelete');
  await waiting(2);
  held.resolve();
  await holding;
  assert.deepEqual([(await deletion).status, (await locking).status], [200, 404]);
});

test('an image template publishes nothing into what is locked, and says why', async () => {
  const ground = await makeGround(server, 'publishing');
  const path = ground.template('web');
  const readOnly = `/subscriptions/${SUBSCRIPTION}/resourceGroups/readonly`;
  await made(await put(readOnly, GROUP_API, { location: 'westus' }));
  const roleDefinitionId = `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  const { properties } = (await get(ground.identityId, IDENTITY_API)).body as Wire;
  await made(
    await put(`${readOnly}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`, '2022-04-01', {
      properties: { roleDefinitionId, principalId: properties.principalId, principalType: 'ServicePrincipal' },
    }),
  );
  const template = plainTemplate(ground) as Wire;
  template.properties.distribute[0].imageId = `${readOnly}/providers/Microsoft.Compute/images/out`;

  await lock(readOnly, 'ReadOnly');
  const refused = await server.settled(await put(path, NEWEST, template));
  const said = (refused.body as Wire).error;
  assert.deepEqual([(refused.body as Wire).status, said.code], ['Failed', 'ScopeLocked']);
  assert.match(said.message, /cannot perform write operation because following scope\(s\) are locked/);
  assert.equal((await server.request('DELETE', path, { apiVersion: NEWEST })).status, 202);
  for (; (await get(path, NEWEST)).status !== 404; ) await sleep(20);

  await unlock(readOnly);
  await made(await put(path, NEWEST, template));
  await lock(readOnly, 'ReadOnly');
  const run = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  assert.equal(run.status, 202, run.text);
  const end = (await server.settled(run)).body as Wire;
  assert.equal(end.status, 'Failed');
  assert.match(end.error.message, /The scope '.*images\/out' cannot perform write operation/);
  const { lastRunStatus } = ((await get(path, NEWEST)).body as Wire).properties;
  assert.equal(lastRunStatus.runState, 'Failed');
  assert.match(lastRunStatus.message, /locked/);
  // A lock against deletion is none against publishing.
  await unlock(readOnly);
  await lock(readOnly, 'CanNotDelete');
  const second = await server.settled(await server.request('POST', `${path}/run`, { apiVersion: NEWEST }));
  assert.equal((second.body as Wire).status, 'Succeeded', second.text);
  await unlock(readOnly);

  await lock(path, 'ReadOnly', 'template');
  assert.ok(isLocked(await server.request('POST', `${path}/run`, { apiVersion: NEWEST })));
  assert.ok(isLocked(await server.request('DELETE', path, { apiVersion: NEWEST })));
  await unlock(path, 'template');
});

test('a template whose staging group is locked stays, whole', async () => {
  const ground = await makeGround(server, 'staged');
  const path = ground.template('web');
  const { properties } = await made(await put(path, NEWEST, plainTemplate(ground))).then(
    async () => (await get(path, NEWEST)).body as Wire,
  );
  const staging = properties.exactStagingResourceGroup;
  assert.match(staging, /\/IT_/);
  const { value } = (await get(`${staging}/resources`, GROUP_API)).body as Wire;
  const account = value[0].id;
  assert.equal((await lock(account, 'CanNotDelete')).status, 201);
  for (const [scope, version] of [
    [path, NEWEST],
    [ground.group, GROUP_API],
    [staging, GROUP_API],
  ] as const)
    assert.ok(isLocked(await server.request('DELETE', scope, { apiVersion: version })), scope);
  assert.equal(((await get(path, NEWEST)).body as Wire).properties.provisioningState, 'Succeeded');
  assert.equal((await get(ground.identityId, IDENTITY_API)).status, 200);
  assert.equal((await unlock(account)).status, 200);
  const deletion = await server.request('DELETE', path, { apiVersion: NEWEST });
  assert.equal(deletion.status, 202);
  assert.equal(((await server.settled(deletion)).body as Wire).status, 'Succeeded');
  assert.equal((await get(staging, GROUP_API)).status, 404);
});

test('every answer that Microsoft’s OpenAPI files know was of them, and nothing failed inside', () => {
  assert.deepEqual(server.errors, []);
  // The real service's keys have FULL permissions, whatever its files say (az-wire 11).
  const known = /nextLink|permissions is none of Read, Full/;
  assert.deepEqual(
    server.violations.filter(one => !known.test(one)),
    [],
  );
});
