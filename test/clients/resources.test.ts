/**
 * Groups, locks, tags, generic resources, providers and features with the unmodified Azure CLI, and the same with Microsoft's libraries for JavaScript
 * (@azure/arm-resources 8, @azure/arm-locks 2): what people type around an image builder all day. The server takes up no builds.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ManagementLockClient } from '@azure/arm-locks';
import { isRestError, ResourceManagementClient } from '@azure/arm-resources';
import { LOCAL_SUBSCRIPTION, LOCAL_TENANT } from '../../src/arm/ids.ts';
import { type Az, azOf, type Printed } from './az.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { LOCATION } from './templates.ts';

const S = `/subscriptions/${LOCAL_SUBSCRIPTION}`;
const IDENTITIES = 'Microsoft.ManagedIdentity/userAssignedIdentities';
const IDENTITY_API = '2023-01-31';

let served: Served;
before(async () => {
  served = await serve(['--workers', '1']);
});
after(async () => {
  const outcome = await served?.stop();
  assert.equal(outcome?.exitCode, 0, outcome?.stderr);
});

const namesOf = (list: Printed[]): string[] => list.map(({ name }) => name).sort();

describe('az', () => {
  let az: Az;
  const GROUP = 'cli';
  const ID = `${S}/resourceGroups/${GROUP}`;
  const identityId = `${ID}/providers/${IDENTITIES}/builder`;
  const galleryId = `${ID}/providers/Microsoft.Compute/galleries/gallery`;
  const definitionId = `${galleryId}/images/web`;
  const groupDeleted = (name: string) =>
    az.json('group', 'wait', '-n', name, '--deleted', '--interval', '1', '--timeout', '60');
  before(() => {
    az = azOf(served);
  });

  test('account: list, tenants, locations', async () => {
    const accounts = await az.json('account', 'list', '--refresh', '--all');
    assert.deepEqual(
      accounts.map((one: Printed) => [one.id, one.tenantId, one.state]),
      [[LOCAL_SUBSCRIPTION, LOCAL_TENANT, 'Enabled']],
    );
    const region = "[?name=='westus2'].[displayName, regionalDisplayName, metadata.regionType]";
    assert.deepEqual(await az.json('account', 'list-locations', '--query', region), [
      ['West US 2', '(US) West US 2', 'Physical'],
    ]);
    const { value } = await az.json('rest', '--method', 'get', '--url', '/tenants?api-version=2020-01-01');
    assert.equal(value[0].tenantId, LOCAL_TENANT);
  });

  test('group: create, update, list, exists, wait, export', async () => {
    await az.json('group', 'create', '-n', GROUP, '-l', LOCATION, '--tags', 'team=web');
    await az.json('group', 'wait', '-n', GROUP, '--created', '--interval', '1', '--timeout', '20');
    const updated = await az.json('group', 'update', '-n', GROUP, '--set', 'tags.cost=42');
    assert.deepEqual(updated.tags, { team: 'web', cost: '42' });
    assert.deepEqual((await az.json('group', 'update', '-n', GROUP, '--tags', 'cost=43')).tags, { cost: '43' });
    await az.json('group', 'wait', '-n', GROUP, '--updated', '--interval', '1', '--timeout', '20');
    assert.deepEqual(namesOf(await az.json('group', 'list', '--tag', 'cost=43')), [GROUP]);
    assert.deepEqual(await az.json('group', 'list', '--tag', 'cost=44'), []);
    assert.equal(await az.json('group', 'exists', '-n', GROUP.toUpperCase()), true);
    const owner = `${S}/resourceGroups/owner`;
    const managed = await az.json('group', 'create', '-n', 'managed', '-l', LOCATION, '--managed-by', owner);
    assert.equal(managed.managedBy, owner);
    await az.json('group', 'delete', '-n', 'managed', '--yes');
    assert.equal(await az.json('group', 'exists', '-n', 'managed'), false);
    await az.fails(1, /cannot be exported/, 'group', 'export', '-n', GROUP);
    await az.fails(1, /\(InvalidParameter\).*trailing/, 'group', 'create', '-n', 'bad.', '-l', LOCATION);
  });

  test('resource: create, show, list, update, tag, wait, move, delete', async () => {
    const named = ['-g', GROUP, '--resource-type', IDENTITIES, '-n', 'builder'];
    const full = JSON.stringify({ location: LOCATION, tags: { a: 'b' } });
    const made = await az.json('resource', 'create', ...named, '--is-full-object', '--properties', full);
    assert.deepEqual([made.id.toLowerCase(), made.tags], [identityId.toLowerCase(), { a: 'b' }]);
    await az.json('resource', 'wait', ...named, '--exists', '--interval', '1', '--timeout', '20');
    assert.deepEqual(await az.json('resource', 'show', ...named), made);
    assert.deepEqual(await az.json('resource', 'show', '--ids', identityId.toLowerCase()), made);
    const updated = await az.json('resource', 'update', ...named, '--set', 'tags.c=d');
    assert.deepEqual(updated.tags, { a: 'b', c: 'd' });
    assert.deepEqual((await az.json('resource', 'tag', '--ids', identityId, '--tags', 'x=y')).tags, { x: 'y' });
    const incremental = ['resource', 'tag', '--ids', identityId, '--tags', 'z=1', '--is-incremental'];
    assert.deepEqual((await az.json(...incremental)).tags, { x: 'y', z: '1' });

    await az.json('sig', 'create', '-g', GROUP, '--gallery-name', 'gallery');
    await az.json(
      ...['sig', 'image-definition', 'create', '-g', GROUP, '--gallery-name', 'gallery'],
      ...['--gallery-image-definition', 'web', '--publisher', 'p', '--offer', 'o', '--sku', 's', '--os-type', 'Linux'],
    );
    const nested = ['--namespace', 'Microsoft.Compute', '--parent', 'galleries/gallery', '--resource-type', 'images'];
    assert.equal((await az.json('resource', 'show', '-g', GROUP, ...nested, '-n', 'web')).id, definitionId);
    const listed = async (...args: string[]) => namesOf(await az.json('resource', 'list', ...args));
    assert.deepEqual(await listed('-g', GROUP), ['builder', 'gallery', 'gallery/web']);
    assert.deepEqual(await listed('--resource-type', 'Microsoft.Compute/galleries/images'), ['gallery/web']);
    assert.deepEqual(await listed('--tag', 'x=y'), ['builder']);
    assert.deepEqual(await listed('--name', 'builder'), ['builder']);
    assert.deepEqual(await listed('-l', LOCATION), ['builder', 'gallery', 'gallery/web']);
    await az.fails(
      1,
      /ResourceMoveProviderValidationFailed/,
      'resource',
      'move',
      '--ids',
      identityId,
      '--destination-group',
      'x',
    );
    await az.fails(1, /\S/, 'resource', 'invoke-action', '--ids', identityId, '--action', 'dance');
  });

  test('lock: on the group, on a resource, on what is in one, on the subscription', async () => {
    const kept = await az.json('lock', 'create', '-n', 'keep', '-g', GROUP, '-t', 'CanNotDelete', '--notes', 'ours');
    assert.deepEqual([kept.level, kept.notes, kept.name], ['CanNotDelete', 'ours', 'keep']);
    assert.equal(kept.id, `${ID}/providers/Microsoft.Authorization/locks/keep`);
    assert.deepEqual(await az.json('lock', 'show', '-n', 'keep', '-g', GROUP), kept);
    assert.deepEqual(await az.json('lock', 'show', '--ids', kept.id), kept);
    const said =
      /\(ScopeLocked\) The scope '[^']+' cannot perform delete operation because following scope\(s\) are locked: '[^']+\/cli'\. Please remove the lock and try again\./;
    await az.fails(1, said, 'group', 'delete', '-n', GROUP, '--yes');
    // 2.45 keeps the reason to itself.
    await az.fails(1, /failed to be deleted/, 'resource', 'delete', '--ids', identityId);
    await az.json('resource', 'tag', '--ids', identityId, '--tags', 'x=y');
    const strict = await az.json('lock', 'update', '-n', 'keep', '-g', GROUP, '-t', 'ReadOnly');
    assert.deepEqual([strict.level, strict.notes], ['ReadOnly', 'ours']);
    await az.fails(1, /\(ScopeLocked\).*cannot perform write/, 'resource', 'tag', '--ids', identityId, '--tags', 'x=z');
    await az.fails(1, /\(ScopeLocked\)/, 'group', 'update', '-n', GROUP, '--tags', 'a=b');
    await az.json('lock', 'delete', '-n', 'keep', '-g', GROUP);

    const type = ['--resource-type', IDENTITIES, '--resource', 'builder'];
    const own = await az.json('lock', 'create', '-n', 'own', '-g', GROUP, ...type, '-t', 'CanNotDelete');
    assert.equal(own.id, `${identityId}/providers/Microsoft.Authorization/locks/own`);
    const deep = ['--namespace', 'Microsoft.Compute', '--parent', 'galleries/gallery', '--resource-type', 'images'];
    const deepLock = await az.json(
      ...['resource', 'lock', 'create', '-n', 'deep', '-g', GROUP, '-t', 'CanNotDelete', ...deep, '--resource', 'web'],
    );
    assert.equal(deepLock.id, `${definitionId}/providers/Microsoft.Authorization/locks/deep`);
    assert.deepEqual(namesOf(await az.json('lock', 'list', '-g', GROUP)), ['deep', 'own']);
    assert.deepEqual(namesOf(await az.json('group', 'lock', 'list', '-g', GROUP, '--filter-string', 'atScope()')), []);
    assert.deepEqual(namesOf(await az.json('resource', 'lock', 'list', '-g', GROUP, ...type)), ['own']);
    await az.fails(1, /\(ScopeLocked\)/, 'sig', 'delete', '-g', GROUP, '--gallery-name', 'gallery');
    await az.fails(1, /\(ScopeLocked\)/, 'group', 'delete', '-n', GROUP, '--yes');
    await az.json('lock', 'delete', '--ids', own.id, deepLock.id);

    await az.json('account', 'lock', 'create', '-n', 'all', '-t', 'ReadOnly');
    await az.fails(1, /\(ScopeLocked\)/, 'group', 'create', '-n', 'another', '-l', LOCATION);
    assert.deepEqual(namesOf(await az.json('account', 'lock', 'list')), ['all']);
    await az.json('account', 'lock', 'delete', '-n', 'all');
    await az.fails(3, /\(LockNotFound\)/, 'account', 'lock', 'show', '-n', 'all');
    await az.fails(
      3,
      /\(ResourceNotFound\)/,
      'lock',
      'create',
      '-n',
      'x',
      '-g',
      GROUP,
      ...type.with(-1, 'nope'),
      '-t',
      'ReadOnly',
    );
  });

  test('tag: of resources, and the names of the subscription', async () => {
    const on = ['--resource-id', identityId];
    const tags = ({ properties }: Printed) => properties.tags;
    assert.deepEqual(tags(await az.json('tag', 'create', ...on, '--tags', 'Team=web', 'Cost=1')), {
      Team: 'web',
      Cost: '1',
    });
    const update = async (operation: string, ...given: string[]) =>
      tags(await az.json('tag', 'update', ...on, '--operation', operation, '--tags', ...given));
    assert.deepEqual(await update('Merge', 'cost=2', 'New=x'), { Team: 'web', Cost: '2', New: 'x' });
    assert.deepEqual(await update('Delete', 'New=x'), { Team: 'web', Cost: '2' });
    assert.deepEqual(await update('Replace', 'Only=this'), { Only: 'this' });
    assert.deepEqual(tags(await az.json('tag', 'list', ...on)), { Only: 'this' });
    assert.deepEqual((await az.json('resource', 'show', '--ids', identityId)).tags, { Only: 'this' });
    await az.fails(1, /\(InvalidTagNameCharacters\)/, 'tag', 'create', ...on, '--tags', 'a/b=c');
    await az.json('tag', 'delete', ...on, '--yes');
    assert.deepEqual(tags(await az.json('tag', 'list', ...on)), {});

    await az.json('tag', 'create', '-n', 'Stage');
    await az.json('tag', 'add-value', '-n', 'Stage', '--value', 'test');
    const stage: Printed = (await az.json('tag', 'list')).find((one: Printed) => one.tagName === 'Stage');
    assert.deepEqual([stage.count.value, stage.values[0].tagValue], [0, 'test']);
    await az.json('tag', 'remove-value', '-n', 'Stage', '--value', 'test');
    await az.json('tag', 'delete', '-n', 'Stage', '--yes');
    assert.ok(!(await az.json('tag', 'list')).some((one: Printed) => one.tagName === 'Stage'));
  });

  test('provider and feature', async () => {
    const state = '[namespace, registrationState]';
    const one = ['-n', 'Microsoft.KeyVault'];
    await az.json('provider', 'unregister', ...one, '--wait');
    assert.deepEqual(await az.json('provider', 'show', ...one, '--query', state), [
      'Microsoft.KeyVault',
      'Unregistered',
    ]);
    await az.json('provider', 'register', ...one, '--wait');
    assert.deepEqual(await az.json('provider', 'show', ...one, '--query', state), ['Microsoft.KeyVault', 'Registered']);
    const versions = "resourceTypes[?resourceType=='imageTemplates'].apiVersions[0] | [0]";
    const shown = ['provider', 'show', '-n', 'Microsoft.VirtualMachineImages', '--query', versions];
    assert.equal(await az.json(...shown), '2025-10-01');
    assert.deepEqual(await az.json('provider', 'permission', 'list', '-n', 'Microsoft.Compute'), {
      nextLink: null,
      value: [],
    });
    const operations = await az.json('provider', 'operation', 'show', '--namespace', 'Microsoft.VirtualMachineImages');
    assert.ok(operations.resourceTypes.some(({ name }: Printed) => name === 'imageTemplates'));
    assert.ok(namesOf(await az.json('provider', 'operation', 'list')).includes('Microsoft.Authorization'));

    const flag = ['--namespace', 'Microsoft.VirtualMachineImages', '--name', 'Triggers'];
    assert.equal((await az.json('feature', 'register', ...flag)).properties.state, 'Registered');
    assert.ok(
      namesOf(await az.json('feature', 'list', '--namespace', 'Microsoft.VirtualMachineImages')).includes(
        'Microsoft.VirtualMachineImages/Triggers',
      ),
    );
    assert.equal((await az.json('feature', 'unregister', ...flag)).properties.state, 'Unregistered');
    assert.ok((await az.json('feature', 'list')).length > 0);
  });

  test('everything goes with the group', async () => {
    await az.json('resource', 'delete', '--ids', definitionId);
    await az.fails(3, /\(ResourceNotFound\)/, 'resource', 'show', '--ids', definitionId);
    await az.json('group', 'delete', '-n', GROUP, '--yes', '--no-wait');
    await groupDeleted(GROUP);
    assert.equal(await az.json('group', 'exists', '-n', GROUP), false);
    assert.deepEqual(await az.json('resource', 'list', '--resource-type', IDENTITIES), []);
  });
});

describe('the libraries for JavaScript', () => {
  const GROUP = 'sdk';
  let rest: Rest;
  let resources: ResourceManagementClient;
  let locks: ManagementLockClient;
  before(async () => {
    rest = await restOf(served);
    const options = { endpoint: served.origin, tlsOptions: { ca: rest.ca }, retryOptions: { maxRetries: 0 } };
    resources = new ResourceManagementClient(rest.credential, LOCAL_SUBSCRIPTION, options);
    locks = new ManagementLockClient(rest.credential, LOCAL_SUBSCRIPTION, options);
  });
  after(() => rest?.close());

  const refused = (code: string, statusCode: number) => (error: unknown) => {
    const restError = error as { code?: string; statusCode?: number };
    assert.deepEqual([restError.code, restError.statusCode], [code, statusCode]);
    return true;
  };

  test('resource groups', async () => {
    const { resourceGroups } = resources;
    const made = await resourceGroups.createOrUpdate(GROUP, { location: LOCATION, tags: { a: 'b' } });
    assert.deepEqual([made.name, made.properties?.provisioningState], [GROUP, 'Succeeded']);
    assert.deepEqual((await resourceGroups.update(GROUP, { tags: { c: 'd' } })).tags, { c: 'd' });
    assert.equal((await resourceGroups.checkExistence(GROUP)).body, true);
    assert.equal((await resourceGroups.checkExistence('nope')).body, false);
    assert.deepEqual(namesOf(await collect(resourceGroups.list({ filter: "tagName eq 'c' and tagValue eq 'd'" }))), [
      GROUP,
    ]);
    await assert.rejects(
      resourceGroups.get('nope'),
      error => isRestError(error) && refused('ResourceGroupNotFound', 404)(error),
    );
  });

  test('generic resources, by name and by id', async () => {
    const named = [GROUP, 'Microsoft.ManagedIdentity', '', 'userAssignedIdentities', 'builder', IDENTITY_API] as const;
    const made = await resources.resources.createOrUpdate(...named, { location: LOCATION }).pollUntilDone();
    assert.equal(made.type, IDENTITIES);
    const id = made.id!;
    assert.equal((await resources.resources.getById(id, IDENTITY_API)).name, 'builder');
    assert.equal((await resources.resources.get(...named)).id, id);
    assert.equal((await resources.resources.checkExistence(...named)).body, true);
    assert.equal((await resources.resources.checkExistenceById(`${id}x`, IDENTITY_API)).body, false);
    const patched = await resources.resources.updateById(id, IDENTITY_API, { tags: { e: 'f' } }).pollUntilDone();
    assert.deepEqual(patched.tags, { e: 'f' });
    const [listed] = await collect(
      resources.resources.listByResourceGroup(GROUP, { expand: 'createdTime,provisioningState' }),
    );
    assert.deepEqual([listed?.name, listed?.provisioningState], ['builder', 'Succeeded']);
    assert.ok(listed?.createdTime instanceof Date);
    const all = await collect(resources.resources.list({ filter: `resourceType eq '${IDENTITIES}'` }));
    assert.deepEqual(namesOf(all), ['builder']);
    const move = { resources: [id], targetResourceGroup: `${S}/resourceGroups/x` };
    const validation = async () => await resources.resources.validateMoveResources(GROUP, move).pollUntilDone();
    await assert.rejects(validation, refused('ResourceMoveProviderValidationFailed', 409));
  });

  test('locks', async () => {
    const { managementLocks } = locks;
    const lock = { level: 'CanNotDelete', notes: 'ours' };
    const made = await managementLocks.createOrUpdateAtResourceGroupLevel(GROUP, 'keep', lock);
    assert.deepEqual([made.level, made.notes, made.type], ['CanNotDelete', 'ours', 'Microsoft.Authorization/locks']);
    const scope = `${S}/resourceGroups/${GROUP}/providers/${IDENTITIES}/builder`;
    await managementLocks.createOrUpdateByScope(scope, 'deep', { level: 'ReadOnly' });
    assert.equal((await managementLocks.getByScope(scope, 'deep')).level, 'ReadOnly');
    assert.deepEqual(namesOf(await collect(managementLocks.listAtResourceGroupLevel(GROUP))), ['deep', 'keep']);
    assert.deepEqual(namesOf(await collect(managementLocks.listByScope(scope, { filter: 'atScope()' }))), [
      'deep',
      'keep',
    ]);
    assert.ok((await collect(managementLocks.listAtSubscriptionLevel())).length >= 2);
    const deletion = async () => await resources.resources.deleteById(scope, IDENTITY_API).pollUntilDone();
    await assert.rejects(deletion, refused('ScopeLocked', 409));
    await assert.rejects(
      async () => await resources.resourceGroups.delete(GROUP).pollUntilDone(),
      refused('ScopeLocked', 409),
    );
    await managementLocks.deleteByScope(scope, 'deep');
    await managementLocks.deleteAtResourceGroupLevel(GROUP, 'keep');
    await managementLocks.deleteAtResourceGroupLevel(GROUP, 'keep');
    await assert.rejects(managementLocks.getAtResourceGroupLevel(GROUP, 'keep'), refused('LockNotFound', 404));
    await managementLocks.createOrUpdateAtSubscriptionLevel('all', lock);
    await managementLocks.deleteAtSubscriptionLevel('all');
  });

  test('tags', async () => {
    const { tagsOperations: tags } = resources;
    const scope = `${S}/resourceGroups/${GROUP}`;
    const made = await tags.createOrUpdateAtScope(scope, { properties: { tags: { a: 'b' } } }).pollUntilDone();
    assert.deepEqual(made.properties.tags, { a: 'b' });
    const merge = { operation: 'Merge', properties: { tags: { c: 'd' } } };
    assert.deepEqual((await tags.updateAtScope(scope, merge).pollUntilDone()).properties.tags, { a: 'b', c: 'd' });
    assert.deepEqual((await tags.getAtScope(scope)).properties.tags, { a: 'b', c: 'd' });
    await tags.createOrUpdate('Stage');
    await tags.createOrUpdateValue('Stage', 'test');
    assert.deepEqual(
      (await collect(tags.list())).map(({ tagName }) => tagName),
      ['Stage', 'a', 'c', 'e'],
    );
    await tags.deleteValue('Stage', 'test');
    await tags.delete('Stage');
    await tags.deleteAtScope(scope).pollUntilDone();
    assert.deepEqual((await resources.resourceGroups.get(GROUP)).tags, undefined);
  });

  test('providers', async () => {
    const namespace = 'Microsoft.VirtualMachineImages';
    const { providers } = resources;
    const found = (await collect(providers.list())).find(one => one.namespace === namespace);
    assert.equal(found?.registrationState, 'Registered');
    assert.equal((await providers.unregister(namespace)).registrationState, 'Unregistered');
    assert.equal((await providers.register(namespace)).registrationState, 'Registered');
    const types = (await resources.providerResourceTypes.list(namespace)).value ?? [];
    assert.ok(types.some(one => one.resourceType === 'imageTemplates/triggers'));
    assert.deepEqual((await providers.providerPermissions(namespace)).value, []);
    assert.equal((await providers.getAtTenantScope(namespace)).namespace, namespace);
  });

  test('a group is deleted, waited for by its Location', async () => {
    await resources.resourceGroups.delete(GROUP).pollUntilDone();
    assert.equal((await resources.resourceGroups.checkExistence(GROUP)).body, false);
  });
});

async function collect<Item>(pages: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of pages) items.push(item);
  return items;
}
