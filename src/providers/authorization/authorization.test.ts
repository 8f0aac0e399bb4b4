/** Roles on a real database; a second process's changes come through a second connection. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { Caller } from '../../arm/caller.ts';
import { LOCAL_TENANT, resourceGroupId, resourceId } from '../../arm/ids.ts';
import { CONTRIBUTOR, MANAGED_IDENTITY_OPERATOR, OWNER, READER } from '../../arm/role-ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { type Database, openDatabase } from '../../database/connection.ts';
import { openHome } from '../../home.ts';
import { galleries } from '../compute/galleries.ts';
import type { ExtensionCall, ExtensionProvider } from '../extension.ts';
import { deleteResource, putValidated } from '../life.ts';
import type { Answer, ProviderEnvironment } from '../provider.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { ensureSubscription } from '../resources/subscriptions.ts';
import { compilePermissions } from './actions.ts';
import { BUILT_IN_ROLES } from './built-in-roles.ts';
import { identityMay } from './identity-may.ts';
import { type OpenRoles, openRoles } from './open-roles.ts';
import { roleAssignments } from './role-assignments.ts';
import { roleDefinitions } from './role-definitions.ts';

delete process.env.DATABASE_URL;
const S = '11111111-2222-3333-4444-555555555555';
const GROUP = resourceGroupId(S, 'Web');
const GALLERY = resourceId(S, 'Web', 'Microsoft.Compute/galleries', 'g');

let root: string;
let database: Database;
let roles: OpenRoles;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-roles-'));
  await chmod(root, 0o755); // PostgreSQL runs as another user when the tests run as root
  database = await openDatabase({ home: await openHome({ home: join(root, 'home'), env: {} }), log: () => {} });
  // Nothing but a notification makes it forget.
  roles = await openRoles(database, undefined, Number.POSITIVE_INFINITY);
  await assign(admin.objectId, OWNER, '/');
  await ensureSubscription(database.kysely, S);
  for (const name of ['Web', 'Webshop'])
    await putValidated(database.kysely, resourceGroups, {
      id: resourceGroupId(S, name),
      body: { location: 'eastus' },
      apiVersion: '2021-04-01',
    });
});
after(async () => {
  await roles?.close();
  await database?.close();
  await rm(root, { recursive: true, force: true });
});

const caller = (objectId: string = randomUUID()): Caller => ({
  objectId,
  clientId: randomUUID(),
  tenantId: LOCAL_TENANT,
  type: 'ServicePrincipal',
  displayName: 'test',
});

async function assign(principal: string, role: string, scope: string, by = database): Promise<string> {
  const id = randomUUID();
  await by.kysely
    .insertInto('role_assignment')
    .values({
      id,
      scope: scope.toLowerCase(),
      display_scope: scope,
      principal_id: principal,
      principal_type: 'ServicePrincipal',
      role_definition_id: role,
    })
    .execute();
  return id;
}

async function principal(): Promise<string> {
  const id = randomUUID();
  await database.kysely
    .insertInto('principal')
    .values({
      object_id: id,
      client_id: randomUUID(),
      type: 'ServicePrincipal',
      kind: 'Application',
      display_name: 'p',
    })
    .execute();
  return id;
}

interface Wire {
  readonly id: string;
  readonly name: string;
  readonly properties: JsonObject;
}

/** As the front door calls: the permission has been checked on the scope. */
async function send(
  provider: ExtensionProvider,
  method: ExtensionCall['method'],
  scope: string,
  segments: string[] = [],
  options: { body?: unknown; filter?: string; by?: Caller } = {},
): Promise<{ status: number; body: Wire & { value: Wire[] } }> {
  const by = options.by ?? admin;
  return (await provider.handle({
    environment: { database: database.kysely } as ProviderEnvironment,
    caller: by,
    apiVersion: provider.apiVersions[0]!,
    correlationId: randomUUID(),
    query: new URLSearchParams(options.filter === undefined ? {} : { $filter: options.filter }),
    origin: 'https://localhost',
    may: (action, at) => roles.may(by, action, at),
    method,
    scope,
    segments,
    body: options.body,
    signal: new AbortController().signal,
    requireScope: async () => undefined,
  })) as Answer as { status: number; body: Wire & { value: Wire[] } };
}

const admin = caller();

async function eventually(test: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 20_000; !(await test()); await sleep(20))
    assert.ok(Date.now() < deadline, 'It never came true.');
}

test('a role holds on its scope and below it, by whole segments and in any case', async () => {
  const one = caller();
  await assign(one.objectId, READER, GROUP);
  const may = (scope: string, action = 'Microsoft.Compute/galleries/read') => roles.may(one, action, scope);
  assert.equal(await may(GROUP), true);
  assert.equal(await may(GALLERY.toUpperCase()), true);
  assert.equal(await may(GALLERY, 'microsoft.compute/GALLERIES/Read'), true);
  assert.equal(await may(GALLERY, 'Microsoft.Compute/galleries/write'), false);
  for (const scope of [`/subscriptions/${S}`, '/', '', resourceGroupId(S, 'Webshop'), resourceGroupId(S, 'We')])
    assert.equal(await may(scope), false, scope);
  assert.deepEqual(await roles.scopes(one), [GROUP.toLowerCase()]);
  await assert.rejects(roles.require(one, 'Microsoft.Compute/galleries/write', GALLERY), {
    code: 'AuthorizationFailed',
    message: `The client '${one.clientId}' with object id '${one.objectId}' does not have authorization to perform action 'Microsoft.Compute/galleries/write' over scope '${GALLERY}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
  });
});

test('assignments add up; what one role takes away another may give', async () => {
  const one = caller();
  const share = 'Microsoft.Compute/galleries/share/action';
  await assign(one.objectId, CONTRIBUTOR, GROUP);
  assert.equal(await roles.may(one, 'Microsoft.Compute/galleries/delete', GALLERY), true);
  assert.equal(await roles.may(one, share, GALLERY), false);
  assert.equal(await roles.may(one, 'Microsoft.Authorization/roleAssignments/write', GALLERY), false);
  await assign(one.objectId, OWNER, GALLERY);
  assert.equal(await roles.may(one, share, GALLERY), true);
  assert.equal(await roles.may(one, share, GROUP), false);
});

test('a stranger, and one whose id is no GUID, may nothing', async () => {
  assert.equal(await roles.may(caller(), '*/read', '/'), false);
  assert.equal(await roles.may({ objectId: "' or 1=1" }, 'a/read', '/'), false);
  assert.deepEqual(await roles.scopes(caller()), []);
});

test('another process gives and takes a role', async () => {
  const other = await openDatabase({ home: await openHome({ home: join(root, 'home'), env: {} }), log: () => {} });
  try {
    const one = caller();
    const ask = () => roles.may(one, 'Microsoft.Compute/images/read', GROUP);
    assert.equal(await ask(), false);
    const id = await assign(one.objectId, READER, `/subscriptions/${S}`, other);
    assert.equal(await ask(), true, 'a new role works at once');
    await other.kysely.deleteFrom('role_assignment').where('id', '=', id).execute();
    await eventually(async () => !(await ask()));
  } finally {
    await other.close();
  }
});

test('identities are asked for by their rows', async () => {
  const id = await principal();
  assert.equal(await identityMay(database.kysely, id, 'Microsoft.Compute/images/write', GROUP), false);
  await assign(id, CONTRIBUTOR, GROUP);
  assert.equal(await identityMay(database.kysely, id, 'Microsoft.Compute/images/write', GROUP), true);
});

test('patterns of actions', () => {
  const covers = (pattern: string, action: string) =>
    compilePermissions([{ actions: [pattern], notActions: [], dataActions: [], notDataActions: [] }]).control(
      action.toLowerCase(),
    );
  for (const [pattern, action, expected] of [
    ['*', 'M.X/a/read', true],
    ['*/read', 'M.X/a/b/read', true],
    ['*/read', 'M.X/a/readx', false],
    ['M.X/*', 'M.X/a/write', true],
    ['M.X/*', 'M.XY/a/write', false],
    ['M.X/*/write', 'M.X/a/b/write', true],
    ['M.X/a/*/assign/action', 'M.X/a/assign/action', true],
    ['M.X/a/*/assign/action', 'M.X/ab/assign/action', false],
    ['M.X/a*b*c/read', 'M.X/a1b2c/read', true],
    ['M.X/a*ba/read', 'M.X/aba/read', true],
    ['M.X/ab*ba/read', 'M.X/aba/read', false],
    ['m.x/A/READ', 'M.X/a/read', true],
  ] as const)
    assert.equal(covers(pattern, action), expected, `${pattern} ${action}`);
  const role = BUILT_IN_ROLES.find(({ id }) => id === MANAGED_IDENTITY_OPERATOR)!;
  const { control } = compilePermissions(role.permissions);
  assert.equal(control('microsoft.managedidentity/userassignedidentities/assign/action'), true);
  assert.equal(control('microsoft.managedidentity/userassignedidentities/write'), false);
});

test('a pattern covers as the regular expression of its words does', () => {
  const piece = fc.constantFrom('a', 'b', '*');
  const pattern = fc.array(piece, { minLength: 1, maxLength: 8 }).map(pieces => pieces.join(''));
  const action = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 12 });
  fc.assert(
    fc.property(pattern, action, (pattern, action) => {
      const { control } = compilePermissions([
        { actions: [pattern], notActions: [], dataActions: [], notDataActions: [] },
      ]);
      assert.equal(control(action), new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(action));
    }),
  );
});

test('role assignments are made, found, listed and deleted', async () => {
  const id = await principal();
  const name = randomUUID();
  const body = {
    properties: {
      roleDefinitionId: `/subscriptions/${S}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`,
      principalId: id,
      principalType: 'ServicePrincipal',
    },
  };
  const made = await send(roleAssignments, 'PUT', GROUP, [name], { body });
  assert.equal(made.status, 201);
  assert.equal(made.body.id, `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${name}`);
  assert.equal(made.body.properties.scope, GROUP);
  assert.equal(made.body.properties.roleDefinitionId, body.properties.roleDefinitionId);
  assert.equal(made.body.properties.createdBy, admin.objectId);
  assert.equal(await roles.may({ objectId: id }, 'Microsoft.Compute/images/write', GROUP), true);

  assert.equal((await send(roleAssignments, 'PUT', GROUP, [name], { body })).status, 200);
  await assert.rejects(send(roleAssignments, 'PUT', GROUP.toUpperCase(), [randomUUID()], { body }), {
    code: 'RoleAssignmentExists',
    message: 'The role assignment already exists.',
  });
  await assert.rejects(send(roleAssignments, 'PUT', GALLERY, [name], { body }), {
    code: 'RoleAssignmentUpdateNotPermitted',
  });
  assert.deepEqual((await send(roleAssignments, 'GET', GROUP.toLowerCase(), [name])).body, made.body);
  await assert.rejects(send(roleAssignments, 'GET', GALLERY, [name]), { code: 'RoleAssignmentNotFound' });

  const below = randomUUID();
  await send(roleAssignments, 'PUT', GALLERY, [below], { body });
  const listed = async (scope: string, filter?: string) => {
    const { body } = await send(roleAssignments, 'GET', scope, [], filter === undefined ? {} : { filter });
    return body.value.map(one => one.name).filter(one => one === name || one === below);
  };
  assert.deepEqual(await listed(GROUP), [name, below].sort());
  assert.deepEqual(await listed(GROUP, 'atScope()'), [name]);
  assert.deepEqual(await listed(GALLERY, 'atScope()'), [name, below].sort());
  assert.deepEqual(await listed(GROUP, `principalId eq '${id}'`), [name, below].sort());
  assert.deepEqual(await listed(GROUP, `atScope() and assignedTo('${id}')`), [name]);
  assert.deepEqual(await listed(GROUP, `principalId eq '${randomUUID()}'`), []);
  assert.deepEqual(await listed(resourceGroupId(S, 'Webshop')), []);
  await assert.rejects(listed(GROUP, "color eq 'red'"), { code: 'InvalidFilterInQueryString' });

  assert.equal((await send(roleAssignments, 'DELETE', GALLERY, [name])).status, 204, 'of another scope');
  assert.equal((await send(roleAssignments, 'DELETE', GROUP, [name])).status, 200);
  assert.equal((await send(roleAssignments, 'DELETE', GROUP, [name])).status, 204);
});

test('assignments that mean nothing are refused', async () => {
  const id = await principal();
  const put = (properties: object, scope = GROUP, name: string = randomUUID()) =>
    send(roleAssignments, 'PUT', scope, [name], {
      body: { properties: { roleDefinitionId: READER, principalId: id, ...properties } },
    });
  await assert.rejects(put({}, GROUP, 'mine'), { code: 'InvalidRoleAssignmentId' });
  await assert.rejects(put({}, resourceGroupId(S, 'Nowhere')), { code: 'ResourceGroupNotFound' });
  await assert.rejects(put({ roleDefinitionId: randomUUID() }), { code: 'RoleDefinitionDoesNotExist' });
  await assert.rejects(put({ roleDefinitionId: 'Reader' }), { code: 'InvalidParameter' });
  await assert.rejects(put({ principalId: 'me' }), { code: 'InvalidParameter' });
  await assert.rejects(put({ principalId: null }), { code: 'InvalidRequestContent' });
  await assert.rejects(put({ principalType: 'User' }), { code: 'UnmatchedPrincipalType' });
  await assert.rejects(put({ principalType: 'Robot' }), { code: 'InvalidParameter' });
  await assert.rejects(put({ condition: 'true' }), { code: 'NotSupported' });
  const nobody = randomUUID();
  await assert.rejects(put({ principalId: nobody }), {
    code: 'PrincipalNotFound',
    message: `Principal ${nobody.replaceAll('-', '')} does not exist in the directory ${LOCAL_TENANT}.`,
  });
  assert.equal((await put({ principalId: nobody, principalType: 'ServicePrincipal' })).status, 201);
  assert.equal((await put({})).status, 201);
});

test('what was assigned on a resource goes with it', async () => {
  const id = await principal();
  const gallery = { id: GALLERY, body: { location: 'eastus' }, apiVersion: galleries.apiVersions[0]! };
  await putValidated(database.kysely, galleries, gallery);
  for (const scope of [GALLERY, `${GALLERY}/images/d`]) await assign(id, READER, scope);
  const may = () => roles.may({ objectId: id }, 'Microsoft.Compute/galleries/images/read', `${GALLERY}/images/d`);
  assert.equal(await may(), true);
  await deleteResource(database.kysely, GALLERY);
  await putValidated(database.kysely, galleries, gallery);
  await eventually(async () => !(await may()));
});

const custom = (roleName: string, scopes: string[], actions = ['Microsoft.Compute/images/*']) => ({
  properties: { roleName, description: 'd', permissions: [{ actions, notActions: [] }], assignableScopes: scopes },
});

test('custom roles: made, found by name, assigned, changed, deleted', async () => {
  const name = randomUUID();
  const made = await send(roleDefinitions, 'PUT', GROUP, [name], { body: custom('Image maker', [GROUP]) });
  assert.equal(made.status, 201);
  assert.equal(made.body.id, `/subscriptions/${S}/providers/Microsoft.Authorization/roleDefinitions/${name}`);
  assert.equal(made.body.properties.type, 'CustomRole');
  assert.deepEqual(made.body.properties.permissions, [
    { actions: ['Microsoft.Compute/images/*'], notActions: [], dataActions: [], notDataActions: [] },
  ]);
  const named = async (scope: string, filter: string) =>
    (await send(roleDefinitions, 'GET', scope, [], { filter })).body.value.map(one => one.name);
  assert.deepEqual(await named(GROUP, "roleName eq 'image maker'"), [name]);
  assert.deepEqual(await named(GALLERY, "type eq 'CustomRole'"), [name]);
  assert.deepEqual(await named(`/subscriptions/${S}`, "roleName eq 'Image maker'"), [name]);
  assert.deepEqual(await named(resourceGroupId(S, 'Webshop'), "roleName eq 'Image maker'"), []);
  assert.deepEqual(await named(GROUP, "roleName eq 'Contributor'"), [CONTRIBUTOR]);

  const id = await principal();
  const assignment = randomUUID();
  const body = { properties: { roleDefinitionId: made.body.id, principalId: id } };
  await assert.rejects(send(roleAssignments, 'PUT', resourceGroupId(S, 'Webshop'), [randomUUID()], { body }), {
    code: 'RoleDefinitionDoesNotExist',
  });
  await send(roleAssignments, 'PUT', GROUP, [assignment], { body });
  assert.equal(await roles.may({ objectId: id }, 'Microsoft.Compute/images/delete', GROUP), true);

  const less = custom('Image reader', [GROUP], ['Microsoft.Compute/images/read']);
  assert.equal((await send(roleDefinitions, 'PUT', GROUP, [name], { body: less })).status, 201);
  await eventually(async () => !(await roles.may({ objectId: id }, 'Microsoft.Compute/images/delete', GROUP)));
  assert.equal(await roles.may({ objectId: id }, 'Microsoft.Compute/images/read', GROUP), true);

  await assert.rejects(send(roleDefinitions, 'DELETE', GROUP, [name]), { code: 'RoleDefinitionHasAssignments' });
  await send(roleAssignments, 'DELETE', GROUP, [assignment]);
  assert.equal((await send(roleDefinitions, 'DELETE', GROUP, [name])).status, 200);
  assert.equal((await send(roleDefinitions, 'DELETE', GROUP, [name])).status, 204);
  await assert.rejects(send(roleDefinitions, 'GET', GROUP, [name]), { code: 'RoleDefinitionDoesNotExist' });
});

test('roles cannot be defined where the caller has no say', async () => {
  const one = caller();
  await assign(one.objectId, OWNER, GROUP);
  const other = resourceGroupId(S, 'Webshop');
  const put = (scopes: string[], name: string = randomUUID()) =>
    send(roleDefinitions, 'PUT', GROUP, [name], { body: custom(`of ${name}`, scopes), by: one });
  assert.equal((await put([GROUP])).status, 201);
  await assert.rejects(put([GROUP, other]), { code: 'AuthorizationFailed' });
  const shared = randomUUID();
  await send(roleDefinitions, 'PUT', GROUP, [shared], { body: custom('Shared', [GROUP, other]) });
  await assert.rejects(put([GROUP], shared), { code: 'AuthorizationFailed' });
  await assert.rejects(send(roleDefinitions, 'DELETE', GROUP, [shared], { by: one }), { code: 'AuthorizationFailed' });
});

test('role definitions that mean nothing are refused', async () => {
  const put = (properties: object, name: string = randomUUID()) =>
    send(roleDefinitions, 'PUT', GROUP, [name], {
      body: { properties: { ...custom(`r ${name}`, [GROUP]).properties, ...properties } },
    });
  await assert.rejects(put({}, 'mine'), { code: 'InvalidParameter' });
  await assert.rejects(put({}, CONTRIBUTOR), { code: 'Conflict' });
  for (const properties of [
    { roleName: '' },
    { roleName: 7 },
    { permissions: [] },
    { permissions: [{ actions: [] }] },
    { permissions: [{ actions: 'x/read' }] },
    { permissions: null },
    { assignableScopes: [] },
    { assignableScopes: ['/'] },
    { assignableScopes: [GALLERY] },
    { assignableScopes: ['/subscriptions/<subscriptionID>/resourceGroups/<rgName>'] },
    { assignableScopes: [3] },
  ])
    await assert.rejects(put(properties), { code: 'InvalidParameter' }, JSON.stringify(properties));
  await assert.rejects(put({ permissions: [{ actions: ['read everything'] }] }), {
    code: 'InvalidActionOrNotAction',
    message: "'read everything' does not match any of the actions supported by the providers.",
    target: 'properties.permissions[0].actions[0]',
  });
  await assert.rejects(put({ assignableScopes: [resourceGroupId(S, 'Nowhere')] }), { code: 'ResourceGroupNotFound' });
  await assert.rejects(put({ assignableScopes: [`/subscriptions/${randomUUID()}`] }), { code: 'SubscriptionNotFound' });
  assert.equal((await put({ roleName: 'Taken' })).status, 201);
  await assert.rejects(put({ roleName: 'TAKEN' }), { code: 'RoleDefinitionWithSameNameExists' });
  await assert.rejects(put({ roleName: 'contributor' }), { code: 'RoleDefinitionWithSameNameExists' });
});
