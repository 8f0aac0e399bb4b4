/** The unmodified Azure CLI on what Image Builder's commands need around them: sign-in, subscriptions, providers, groups, identities, galleries, roles. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { LOCAL_SUBSCRIPTION, LOCAL_TENANT } from '../../src/arm/ids.ts';
import { run } from '../../src/processes/process.ts';
import { KILN } from '../kiln.ts';
import { type Az, azOf } from './az.ts';
import { assignRole, CONTRIBUTOR } from './az-ground.ts';
import { type Served, serve } from './served.ts';
import { GROUP, GROUP_ID, IDENTITY, IDENTITY_ID, LOCATION } from './templates.ts';

describe('az, around the templates', () => {
  let served: Served;
  let az: Az;
  before(async () => {
    served = await serve();
    az = azOf(served);
  });
  after(async () => {
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  test('two lines of a shell are all that a user types', async () => {
    const env = { PATH: served.env.PATH!, HOME: served.home };
    const script = 'eval "$("$0" --home "$1" env)" && az image builder list';
    const { stdout } = await run('bash', ['-c', script, KILN, served.home], { env });
    assert.deepEqual(JSON.parse(stdout), []);
  });

  test('account, locations', async () => {
    const account = await az.json('account', 'show');
    assert.deepEqual([account.id, account.tenantId, account.state], [LOCAL_SUBSCRIPTION, LOCAL_TENANT, 'Enabled']);
    assert.equal(account.user.type, 'servicePrincipal');
    const locations: { name: string; displayName: string; id: string }[] = await az.json('account', 'list-locations');
    const found = locations.find(({ name }) => name === LOCATION);
    assert.equal(found?.displayName, 'West US 2');
    assert.equal(found?.id, `/subscriptions/${LOCAL_SUBSCRIPTION}/locations/${LOCATION}`);
    assert.ok(locations.length > 50);
  });

  test('a wrong secret is refused in words', async () => {
    const id = served.env.AZURE_CLIENT_ID!;
    const args = ['login', '--service-principal', '-u', id, '-p', 'wrong', '--tenant', LOCAL_TENANT];
    await az.fails(1, /AADSTS7000215/, ...args);
    // The sign-in that worked before is still there.
    assert.equal((await az.json('account', 'show')).id, LOCAL_SUBSCRIPTION);
  });

  test('providers and features', async () => {
    const provider = await az.json('provider', 'show', '-n', 'Microsoft.VirtualMachineImages');
    assert.equal(provider.registrationState, 'Registered');
    const types = new Map<string, string[]>(
      provider.resourceTypes.map((type: { resourceType: string; apiVersions: string[] }) => [
        type.resourceType,
        type.apiVersions,
      ]),
    );
    assert.equal(types.get('imageTemplates')?.[0], '2025-10-01');
    assert.ok(types.get('imageTemplates')?.includes('2022-02-14'));
    assert.ok(types.has('imageTemplates/runOutputs') && types.has('imageTemplates/triggers'));
    await az.json('provider', 'register', '-n', 'Microsoft.VirtualMachineImages', '--wait');
    await az.json('provider', 'register', '-n', 'Microsoft.Compute');
    const all: { namespace: string }[] = await az.json('provider', 'list');
    for (const namespace of [
      'Microsoft.Compute',
      'Microsoft.ManagedIdentity',
      'Microsoft.Network',
      'Microsoft.Storage',
    ])
      assert.ok(
        all.some(one => one.namespace === namespace),
        namespace,
      );
    // az ends with 3 for every 404.
    await az.fails(3, /InvalidResourceNamespace/, 'provider', 'show', '-n', 'Microsoft.Nothing');
    const flag = ['--namespace', 'Microsoft.VirtualMachineImages', '--name', 'Triggers'];
    assert.equal((await az.json('feature', 'register', ...flag)).properties.state, 'Registered');
    assert.equal((await az.json('feature', 'show', ...flag)).properties.state, 'Registered');
  });

  test('groups: create, show, exists, list, delete, wait', async () => {
    const made = await az.json('group', 'create', '-n', GROUP, '-l', 'West US 2', '--tags', 'a=1', 'b=two words');
    assert.deepEqual(made, {
      id: GROUP_ID,
      name: GROUP,
      type: 'Microsoft.Resources/resourceGroups',
      location: LOCATION,
      managedBy: null,
      properties: { provisioningState: 'Succeeded' },
      tags: { a: '1', b: 'two words' },
    });
    assert.deepEqual(await az.json('group', 'show', '-n', GROUP.toUpperCase()), made);
    assert.equal(await az.json('group', 'exists', '-n', GROUP), true);
    assert.equal(await az.json('group', 'exists', '-n', 'nope'), false);
    await az.fails(
      3,
      /\(ResourceGroupNotFound\) Resource group 'nope' could not be found\./,
      'group',
      'show',
      '-n',
      'nope',
    );
    await az.fails(1, /\(InvalidResourceGroupLocation\)/, 'group', 'create', '-n', GROUP, '-l', 'eastus');
    await az.fails(1, /\(LocationNotAvailableForResourceGroup\)/, 'group', 'create', '-n', 'other', '-l', 'atlantis');

    await az.json('group', 'create', '-n', 'other', '-l', LOCATION, '--tags', 'c=3');
    const names = async (...args: string[]) =>
      (await az.json('group', 'list', ...args)).map((group: { name: string }) => group.name).sort();
    assert.deepEqual(await names(), [GROUP, 'other']);
    assert.deepEqual(await names('--tag', 'c=3'), ['other']);
    await az.json('group', 'delete', '-n', 'other', '--yes', '--no-wait');
    await az.json('group', 'wait', '-n', 'other', '--deleted', '--interval', '1', '--timeout', '30');
    assert.equal(await az.json('group', 'exists', '-n', 'other'), false);
  });

  test('identities and their roles', async t => {
    const made = await az.json('identity', 'create', '-g', GROUP, '-n', IDENTITY);
    assert.equal(made.id.toLowerCase(), IDENTITY_ID.toLowerCase());
    assert.equal(made.location, LOCATION);
    for (const field of ['clientId', 'principalId', 'tenantId']) assert.match(made[field], /^[0-9a-f-]{36}$/);
    assert.deepEqual(await az.json('identity', 'show', '-g', GROUP, '-n', IDENTITY), made);
    assert.deepEqual(await az.json('identity', 'list', '-g', GROUP), [made]);

    const role = await az.json(
      ...['role', 'definition', 'create', '--role-definition'],
      await az.file({
        Name: 'Image makers',
        IsCustom: true,
        Description: 'As the quickstart has it',
        Actions: ['Microsoft.Compute/galleries/read', 'Microsoft.Compute/images/write'],
        NotActions: [],
        AssignableScopes: [GROUP_ID],
      }),
    );
    assert.deepEqual([role.roleName, role.roleType], ['Image makers', 'CustomRole']);
    await assignRole(az, made.principalId, GROUP_ID, role.name);
    await assignRole(az, made.principalId, GROUP_ID);
    const url = `${GROUP_ID}/providers/Microsoft.Authorization/roleAssignments?api-version=2020-04-01-preview&$filter=principalId eq '${made.principalId}'`;
    const { value } = await az.json('rest', '--method', 'get', '--url', url);
    const roles = value.map((one: { properties: { roleDefinitionId: string } }) =>
      one.properties.roleDefinitionId.split('/').at(-1),
    );
    assert.deepEqual(roles.sort(), [CONTRIBUTOR, role.name].sort());
    const again = { roleDefinitionId: role.id, principalId: made.principalId, principalType: 'ServicePrincipal' };
    const second = `${GROUP_ID}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}?api-version=2022-04-01`;
    const body = JSON.stringify({ properties: again });
    await az.fails(1, /RoleAssignmentExists/, 'rest', '--method', 'put', '--url', second, '--body', body);

    await t.test('a principal without a role sees nothing', async () => {
      const created = await run(KILN, ['--home', served.home, '--json', 'principal', 'create', 'stranger']);
      const stranger = JSON.parse(created.stdout);
      const config = `${served.home}/stranger`;
      const env = { ...served.env, AZURE_CONFIG_DIR: config };
      await run('cp', ['-r', served.env.AZURE_CONFIG_DIR!, config]);
      const theirs = azOf({ ...served, env });
      const { appId, password } = stranger;
      const login = ['login', '--service-principal', '-u', appId, '-p', password, '--tenant', LOCAL_TENANT];
      await theirs.fails(1, /No subscriptions found/, ...login);
    });

    await az.json('identity', 'create', '-g', GROUP, '-n', 'second', '-l', 'eastus');
    await az.json('identity', 'delete', '-g', GROUP, '-n', 'second');
    await az.fails(3, /ResourceNotFound/, 'identity', 'show', '-g', GROUP, '-n', 'second');
  });

  test('galleries and definitions', async () => {
    const gallery = await az.json('sig', 'create', '-g', GROUP, '--gallery-name', 'gallery');
    assert.deepEqual([gallery.location, gallery.provisioningState], [LOCATION, 'Succeeded']);
    assert.equal(gallery.identifier.uniqueName, `${LOCAL_SUBSCRIPTION}-GALLERY`);
    const which = ['-g', GROUP, '--gallery-name', 'gallery', '--gallery-image-definition', 'web'];
    const names = ['--publisher', 'Example', '--offer', 'web', '--sku', '12'];
    const made = await az.json(
      ...['sig', 'image-definition', 'create', ...which, ...names],
      ...['--os-type', 'Linux', '--hyper-v-generation', 'V2'],
    );
    assert.deepEqual(made.identifier, { publisher: 'Example', offer: 'web', sku: '12' });
    assert.deepEqual([made.osType, made.osState, made.hyperVGeneration], ['Linux', 'Generalized', 'V2']);
    assert.deepEqual(await az.json('sig', 'image-definition', 'show', ...which), made);
    const definitions = await az.json('sig', 'image-definition', 'list', '-g', GROUP, '--gallery-name', 'gallery');
    assert.deepEqual(definitions, [made]);
    assert.deepEqual(await az.json('sig', 'image-version', 'list', ...which), []);
    assert.equal((await az.json('sig', 'show', '-g', GROUP, '--gallery-name', 'gallery')).name, 'gallery');
    await az.fails(1, /nested resources/i, 'sig', 'delete', '-g', GROUP, '--gallery-name', 'gallery');
    await az.json('sig', 'image-definition', 'delete', ...which);
    await az.json('sig', 'delete', '-g', GROUP, '--gallery-name', 'gallery');
    assert.deepEqual(await az.json('sig', 'list', '-g', GROUP), []);
  });
});
