/**
 * Galleries by Microsoft's own clients, unmodified: az 2.45 (`az sig …`) and @azure/arm-compute, on a server as people run it. Versions are made of a managed
 * image, another version and a VHD; their disks are compared.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ComputeManagementClient } from '@azure/arm-compute';
import { LOCAL_SUBSCRIPTION, LOCAL_TENANT } from '../../src/arm/ids.ts';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { openService } from '../../src/service.ts';
import { storeManagedImage } from '../wire/images-store.ts';
import { upload, type Vhds, vhdMaker } from '../wire/vhds.ts';
import { type Az, azOf } from './az.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { definitionId, GROUP, GROUP_ID, imageId, LOCATION } from './templates.ts';

const ACCOUNT = 'galleryvhds';

describe('galleries by unmodified clients', () => {
  let served: Served;
  let rest: Rest;
  let az: Az;
  let vhds: Vhds;
  let client: ComputeManagementClient;
  let raw: string;

  before(async () => {
    vhds = await vhdMaker();
    served = await serve();
    rest = await restOf(served);
    az = azOf(served);
    client = new ComputeManagementClient(rest.credential, LOCAL_SUBSCRIPTION, {
      endpoint: served.origin,
      tlsOptions: { ca: rest.ca },
      retryOptions: { maxRetries: 0 },
    });
    const put = async (path: string, apiVersion: string, body: object) => {
      const { status, body: answer } = await rest.send('PUT', `${path}?api-version=${apiVersion}`, body);
      assert.ok(status < 300, JSON.stringify(answer));
    };
    await put(GROUP_ID, '2021-04-01', { location: LOCATION });
    const account = { location: LOCATION, sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
    await put(`${GROUP_ID}/providers/Microsoft.Storage/storageAccounts/${ACCOUNT}`, '2022-09-01', account);
    const made = await vhds.make('disk', 'fixed');
    raw = made.raw;
    const service = await openService({ home: served.home, log: () => undefined });
    try {
      await upload(service, [ACCOUNT, 'vhds', 'disk.vhd'], made.path);
      await storeManagedImage(service, { id: imageId('base'), location: LOCATION });
    } finally {
      await service.close();
    }
  });
  after(async () => {
    rest?.close();
    const outcome = await served?.stop();
    await vhds?.remove();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  const replicas = async (id: string) =>
    (await list(served.home)).filter(({ manifest }) => manifest.id.toLowerCase() === id.toLowerCase());
  const regionsOf = async (id: string) => (await replicas(id)).map(({ manifest }) => manifest.location).sort();

  const gallery = ['-g', GROUP, '--gallery-name', 'tools'];
  const definition = [...gallery, '--gallery-image-definition', 'web'];
  const version = (name: string) => [...definition, '--gallery-image-version', name];
  const versionId = (name: string) => `${definitionId('tools', 'web')}/versions/${name}`;

  test('az sig create, list, show, update', async () => {
    const made = await az.json('sig', 'create', ...gallery, '--description', 'Tools');
    assert.deepEqual([made.location, made.provisioningState, made.description], [LOCATION, 'Succeeded', 'Tools']);
    assert.equal(made.identifier.uniqueName, `${LOCAL_SUBSCRIPTION}-TOOLS`);
    assert.deepEqual(await az.json('sig', 'show', ...gallery), made);
    assert.deepEqual(await az.json('sig', 'list', '-g', GROUP), [made]);
    const updated = await az.json('sig', 'update', ...gallery, '--set', 'tags.team=web');
    assert.deepEqual(updated.tags, { team: 'web' });
  });

  test('az sig image-definition create, list, show, update', async () => {
    const names = ['--publisher', 'Example', '--offer', 'web', '--sku', '12', '--os-type', 'Linux'];
    const made = await az.json('sig', 'image-definition', 'create', ...definition, ...names);
    assert.deepEqual(
      [made.osState, made.hyperVGeneration, made.architecture, made.provisioningState],
      ['Generalized', 'V1', 'x64', 'Succeeded'],
    );
    assert.deepEqual(await az.json('sig', 'image-definition', 'show', ...definition), made);
    assert.deepEqual(await az.json('sig', 'image-definition', 'list', ...gallery), [made]);
    const described = await az.json('sig', 'image-definition', 'update', ...definition, '--set', 'description=Web');
    assert.equal(described.description, 'Web');
    const taken = [...gallery, '--gallery-image-definition', 'other', ...names];
    await az.fails(1, /already exists\. Choose a different publisher/, 'sig', 'image-definition', 'create', ...taken);
  });

  test('az sig image-version create from a managed image, show, list, update', async () => {
    const source = ['--managed-image', 'base'];
    const regions = ['--target-regions', LOCATION, 'eastus=2=premium_lrs'];
    const made = await az.json('sig', 'image-version', 'create', ...version('1.0.0'), ...source, ...regions);
    assert.equal(made.provisioningState, 'Succeeded');
    assert.deepEqual(
      made.publishingProfile.targetRegions.map((one: Record<string, unknown>) => [
        one.name,
        one.regionalReplicaCount,
        one.storageAccountType,
      ]),
      [
        ['West US 2', 1, 'Standard_LRS'],
        ['East US', 2, 'Premium_LRS'],
      ],
    );
    assert.deepEqual(made.storageProfile.osDiskImage.sizeInGb, 1);
    assert.deepEqual(await regionsOf(versionId('1.0.0')), ['eastus', 'westus2']);
    const expand = ['--expand', 'ReplicationStatus'];
    const { replicationStatus } = await az.json('sig', 'image-version', 'show', ...version('1.0.0'), ...expand);
    assert.deepEqual([replicationStatus.aggregatedState, replicationStatus.summary.length], ['Completed', 2]);
    assert.equal((await az.json('sig', 'image-version', 'list', ...definition)).length, 1);
    const update = ['sig', 'image-version', 'update', ...version('1.0.0')];
    const grown = await az.json(...update, '--target-regions', LOCATION, 'eastus', 'uksouth', '--replica-count', '3');
    assert.equal(grown.publishingProfile.targetRegions.length, 3);
    assert.equal(grown.publishingProfile.replicaCount, 3);
    assert.deepEqual(await regionsOf(versionId('1.0.0')), ['eastus', 'uksouth', 'westus2']);
    const less = ['--target-regions', LOCATION];
    await az.fails(1, /cannot be removed from the replicated regions eastus, uksouth/, ...update, ...less);
    const allowed = ['--allow-replicated-location-deletion', 'true'];
    assert.equal(
      (await az.json(...update, ...less, ...allowed)).safetyProfile.allowDeletionOfReplicatedLocations,
      true,
    );
    assert.deepEqual(await regionsOf(versionId('1.0.0')), ['westus2']);
    const flag = ['--set', 'publishingProfile.excludeFromLatest=true'];
    assert.equal((await az.json(...update, ...flag)).publishingProfile.excludeFromLatest, true);
  });

  test('az sig image-version create from a VHD and from another version', async () => {
    const create = ['sig', 'image-version', 'create'];
    const uri = `${served.origin}/${ACCOUNT}/vhds/disk.vhd`;
    const vhd = ['--os-vhd-uri', uri, '--os-vhd-storage-account', ACCOUNT];
    const made = await az.json(...create, ...version('1.1.0'), ...vhd);
    assert.equal(made.storageProfile.osDiskImage.source.uri, uri);
    const [replica] = await replicas(versionId('1.1.0'));
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, replica!.path]);
    await az.json(...create, ...version('1.2.0'), '--image-version', versionId('1.1.0'));
    const [copy] = await replicas(versionId('1.2.0'));
    assert.equal(copy!.manifest.fsverity, replica!.manifest.fsverity);
    await az.fails(
      3,
      /is not found\. Please check source exists/,
      ...create,
      ...version('2.0.0'),
      '--managed-image',
      'none',
    );
    await az.fails(1, /image version name is invalid/, ...create, ...version('latest'), '--managed-image', 'base');
    const bad = ['--managed-image', 'base', '--target-regions', 'eastus'];
    await az.fails(1, /must contain the location of image version West US 2/, ...create, ...version('2.0.0'), ...bad);
  });

  test('az sig share', async () => {
    const shared = ['-g', GROUP, '--gallery-name', 'shared'];
    const permissions = ['--permissions', 'groups'];
    const made = await az.json('sig', 'create', ...shared, ...permissions);
    assert.equal(made.sharingProfile.permissions, 'Groups');
    await az.json(
      'sig',
      'share',
      'add',
      ...['-g', GROUP, '--gallery-name', 'shared'],
      '--subscription-ids',
      LOCAL_SUBSCRIPTION,
    );
    await az.json('sig', 'share', 'add', ...['-g', GROUP, '--gallery-name', 'shared'], '--tenant-ids', LOCAL_TENANT);
    const groups = (await az.json('sig', 'show', ...shared, '--select', 'Permissions')).sharingProfile.groups;
    assert.deepEqual(
      groups.map(({ type, ids }: { type: string; ids: string[] }) => [type, ids]),
      [
        ['Subscriptions', [LOCAL_SUBSCRIPTION]],
        ['AADTenants', [LOCAL_TENANT]],
      ],
    );
    const seen = await az.json('sig', 'list-shared', '--location', LOCATION);
    assert.deepEqual(
      seen.map(({ uniqueId }: { uniqueId: string }) => uniqueId),
      [`/SharedGalleries/${LOCAL_SUBSCRIPTION}-SHARED`],
    );
    const unique = ['--gallery-unique-name', `${LOCAL_SUBSCRIPTION}-SHARED`, '--location', LOCATION];
    assert.equal((await az.json('sig', 'show-shared', ...unique)).location, LOCATION);
    assert.deepEqual(await az.json('sig', 'image-definition', 'list-shared', ...unique), []);
    await az.json('sig', 'share', 'remove', ...shared, '--tenant-ids', LOCAL_TENANT);
    await az.json('sig', 'share', 'reset', ...shared);
    assert.deepEqual(await az.json('sig', 'list-shared', '--location', LOCATION), []);
    await az.json('sig', 'delete', ...shared);
  });

  test('@azure/arm-compute: galleries, images and versions', async () => {
    const { galleries, galleryImages, galleryImageVersions, gallerySharingProfile, sharedGalleries } = client;
    const made = await galleries.createOrUpdate(GROUP, 'sdk', {
      location: LOCATION,
      sharingProfile: { permissions: 'Groups' },
    });
    assert.deepEqual([made.name, made.provisioningState], ['sdk', 'Succeeded']);
    assert.equal((await galleries.update(GROUP, 'sdk', { description: 'SDK' })).description, 'SDK');
    const image = await galleryImages.createOrUpdate(GROUP, 'sdk', 'web', {
      location: LOCATION,
      osType: 'Linux',
      osState: 'Generalized',
      identifier: { publisher: 'p', offer: 'o', sku: 's' },
    });
    assert.deepEqual([image.hyperVGeneration, image.provisioningState], ['V1', 'Succeeded']);
    const one = await galleryImageVersions.createOrUpdate(GROUP, 'sdk', 'web', '1.0.0', {
      location: LOCATION,
      publishingProfile: { targetRegions: [{ name: 'West US 2' }, { name: 'eastus' }] },
      storageProfile: { source: { id: imageId('base') } },
      safetyProfile: { allowDeletionOfReplicatedLocations: true },
    });
    assert.equal(one.provisioningState, 'Succeeded');
    const expanded = await galleryImageVersions.get(GROUP, 'sdk', 'web', '1.0.0', { expand: 'ReplicationStatus' });
    assert.deepEqual(
      expanded.replicationStatus?.summary?.map(({ region, state, progress }) => [region, state, progress]),
      [
        ['West US 2', 'Completed', 100],
        ['East US', 'Completed', 100],
      ],
    );
    const less = await galleryImageVersions.update(GROUP, 'sdk', 'web', '1.0.0', {
      publishingProfile: { targetRegions: [{ name: LOCATION }] },
      storageProfile: {},
    });
    assert.equal(less.publishingProfile?.targetRegions?.length, 1);
    const id = `${definitionId('sdk', 'web')}/versions/1.0.0`;
    assert.deepEqual(await regionsOf(id), ['westus2']);
    assert.deepEqual(await names(galleries.listByResourceGroup(GROUP)), ['sdk', 'tools']);
    assert.deepEqual(await names(galleryImages.listByGallery(GROUP, 'sdk')), ['web']);
    assert.deepEqual(await names(galleryImageVersions.listByGalleryImage(GROUP, 'sdk', 'web')), ['1.0.0']);

    const groups = [{ type: 'Subscriptions', ids: [LOCAL_SUBSCRIPTION] }];
    const update = await gallerySharingProfile.update(GROUP, 'sdk', { operationType: 'Add', groups });
    assert.equal(update.operationType, 'Add');
    const unique = `${LOCAL_SUBSCRIPTION}-SDK`;
    assert.deepEqual(await names(sharedGalleries.list(LOCATION)), [unique]);
    assert.equal((await sharedGalleries.get(LOCATION, unique)).uniqueId, `/SharedGalleries/${unique}`);
    assert.deepEqual(await names(client.sharedGalleryImageVersions.list(LOCATION, unique, 'web')), ['1.0.0']);
    await gallerySharingProfile.update(GROUP, 'sdk', { operationType: 'Reset' });
    await assert.rejects(async () => await sharedGalleries.get(LOCATION, unique), { statusCode: 404 });

    const communityGalleryInfo = {
      publisherUri: 'https://example.org',
      publisherContact: 'a@example.org',
      eula: 'none',
    };
    const open = await galleries.createOrUpdate(GROUP, 'sdkOpen', {
      location: LOCATION,
      sharingProfile: {
        permissions: 'Community',
        communityGalleryInfo: { ...communityGalleryInfo, publicNamePrefix: 'sdktools' },
      },
    });
    const publicName = open.sharingProfile!.communityGalleryInfo!.publicNames![0]!;
    await gallerySharingProfile.update(GROUP, 'sdkOpen', { operationType: 'EnableCommunity' });
    assert.equal((await client.communityGalleries.get(LOCATION, publicName)).name, publicName);
    await gallerySharingProfile.update(GROUP, 'sdkOpen', { operationType: 'Reset' });
    await galleries.delete(GROUP, 'sdkOpen');

    await assert.rejects(async () => await galleries.delete(GROUP, 'sdk'), {
      code: 'CannotDeleteResource',
      statusCode: 409,
    });
    await galleryImageVersions.delete(GROUP, 'sdk', 'web', '1.0.0');
    assert.deepEqual(await replicas(id), []);
    await galleryImages.delete(GROUP, 'sdk', 'web');
    await galleries.delete(GROUP, 'sdk');
    await assert.rejects(async () => await galleries.get(GROUP, 'sdk'), { code: 'ResourceNotFound' });
  });

  test('az sig delete, from the versions up', async () => {
    await az.fails(1, /nested resources/i, 'sig', 'image-definition', 'delete', ...definition);
    for (const name of ['1.0.0', '1.1.0', '1.2.0']) await az.json('sig', 'image-version', 'delete', ...version(name));
    assert.deepEqual(await az.json('sig', 'image-version', 'list', ...definition), []);
    await az.json('sig', 'image-definition', 'delete', ...definition);
    await az.json('sig', 'delete', ...gallery);
    await az.fails(3, /ResourceNotFound/, 'sig', 'show', ...gallery);
    assert.deepEqual(
      (await list(served.home)).map(({ manifest }) => manifest.kind),
      ['ManagedImage'],
    );
  });
});

async function names(items: AsyncIterable<{ readonly name?: string }>): Promise<(string | undefined)[]> {
  const all: (string | undefined)[] = [];
  for await (const { name } of items) all.push(name);
  return all;
}
