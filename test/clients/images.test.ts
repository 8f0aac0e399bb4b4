/**
 * Managed images and platform images by Microsoft's own clients: az 2.45 (in the profile in which its image commands work) and @azure/arm-compute. The VHD is one
 * of qemu-img's, uploaded by az; its image is compared byte for byte.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ComputeManagementClient } from '@azure/arm-compute';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { type Vhds, vhdMaker } from '../wire/vhds.ts';
import { type Az, azOf } from './az.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { GROUP, imageId, LOCATION } from './templates.ts';

const ACCOUNT = 'clientvhds';

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('images by unmodified clients', () => {
  let served: Served;
  let rest: Rest;
  let az: Az;
  let vhds: Vhds;
  let client: ComputeManagementClient;
  let raw: string;
  let endpoint = '';
  const uri = (name: string) => `${endpoint}vhds/${name}`;

  before(async () => {
    vhds = await vhdMaker();
    served = await serve();
    rest = await restOf(served);
    az = azOf(served);
    const retryOptions = { maxRetries: 0 };
    client = new ComputeManagementClient(rest.credential, LOCAL_SUBSCRIPTION, {
      endpoint: served.origin,
      tlsOptions: { ca: rest.ca },
      retryOptions,
    });
    await az.json('group', 'create', '-n', GROUP, '-l', LOCATION);
    const account = ['-g', GROUP, '-n', ACCOUNT];
    const { primaryEndpoints } = await az.json('storage', 'account', 'create', ...account, '-l', LOCATION);
    endpoint = primaryEndpoints.blob;
    const [key] = await az.json('storage', 'account', 'keys', 'list', ...account);
    const connection = `DefaultEndpointsProtocol=https;AccountName=${ACCOUNT};AccountKey=${key.value};BlobEndpoint=${endpoint}`;
    const by = ['--connection-string', connection];
    await az.json('storage', 'container', 'create', '-n', 'vhds', ...by);
    const made = await vhds.make('disk', 'fixed');
    raw = made.raw;
    await az.json(
      'storage',
      'blob',
      'upload',
      '-c',
      'vhds',
      '-n',
      'disk.vhd',
      '--type',
      'page',
      '-f',
      made.path,
      ...by,
    );
    const text = await az.file('no disk');
    await az.json('storage', 'blob', 'upload', '-c', 'vhds', '-n', 'text.vhd', '-f', text, ...by);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(served.home, 'own.qcow2'), '3G']);
    const own = { file: 'own.qcow2', version: '2.10.0', hyperVGeneration: 'V1' };
    await writeFile(join(served.home, 'catalogue.json'), JSON.stringify({ 'Contoso:appliance:1': own }));
    // az 2.45 of Debian 12 does not fit its libraries; in this profile it asks them for versions that they have.
    await az.json('cloud', 'update', '--profile', '2020-09-01-hybrid');
  });
  after(async () => {
    rest?.close();
    const outcome = await served?.stop();
    await vhds?.remove();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  const identical = async (name: string) => {
    const image = (await list(served.home)).find(({ manifest }) => manifest.id === imageId(name));
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, image!.path]);
  };

  test('az image create, list, show, update, delete', async () => {
    const args = ['image', 'create', '-g', GROUP, '-n', 'by-az', '--os-type', 'Linux', '-l', LOCATION];
    const made = await az.json(...args, '--source', uri('disk.vhd'));
    assert.equal(made.provisioningState, 'Succeeded');
    assert.equal(made.storageProfile.osDisk.blobUri, uri('disk.vhd'));
    await identical('by-az');
    const names = (images: { name: string }[]) => images.map(({ name }) => name);
    assert.deepEqual(names(await az.json('image', 'list', '-g', GROUP)), ['by-az']);
    assert.deepEqual(names(await az.json('image', 'list')), ['by-az']);
    const shown = await az.json('image', 'show', '-g', GROUP, '-n', 'by-az');
    assert.deepEqual(
      [shown.id, shown.hyperVGeneration, shown.storageProfile.osDisk.diskSizeGb],
      [imageId('by-az'), 'V1', 1],
    );
    const updated = await az.json('image', 'update', '-g', GROUP, '-n', 'by-az', '--set', 'tags.team=web');
    assert.deepEqual(updated.tags, { team: 'web' });
    await az.json('image', 'delete', '-g', GROUP, '-n', 'by-az');
    await az.fails(3, /ResourceNotFound/, 'image', 'show', '-g', GROUP, '-n', 'by-az');
  });

  test('az says what is wrong with a source', async () => {
    const args = ['image', 'create', '-g', GROUP, '-n', 'wrong', '--os-type', 'Linux', '-l', LOCATION, '--source'];
    const { exitCode, stderr } = await az.run(...args, uri('none.vhd'));
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /\(ImageBlobNotFound\) Unable to find VHD blob with URI https:.*none\.vhd/);
    const text = await az.run(...args, uri('text.vhd'));
    assert.notEqual(text.exitCode, 0);
    assert.match(text.stderr, /\(InvalidVhd\) The specified cookie value in VHD footer/);
  });

  test('az vm image list-publishers, list-offers, list-skus, list --all, show', async () => {
    const names = (items: { name: string }[]) => items.map(({ name }) => name);
    const at = ['-l', LOCATION];
    const publishers = names(await az.json('vm', 'image', 'list-publishers', ...at));
    assert.ok(publishers.includes('Contoso') && publishers.includes('Canonical'), publishers.join());
    const publisher = ['-p', 'Contoso'];
    assert.deepEqual(names(await az.json('vm', 'image', 'list-offers', ...at, ...publisher)), ['appliance']);
    const offer = ['-f', 'appliance'];
    assert.deepEqual(names(await az.json('vm', 'image', 'list-skus', ...at, ...publisher, ...offer)), ['1']);
    const all = await az.json('vm', 'image', 'list', '--all', ...at, ...publisher);
    assert.deepEqual(
      all.map(({ urn }: { urn: string }) => urn),
      ['Contoso:appliance:1:2.10.0'],
    );
    const shown = await az.json('vm', 'image', 'show', ...at, '--urn', 'Contoso:appliance:1:latest');
    assert.deepEqual([shown.name, shown.hyperVGeneration], ['2.10.0', 'V1']);
    assert.equal(shown.osDiskImage.operatingSystem, 'Linux');
    await az.fails(3, /VMImage was not found/, 'vm', 'image', 'show', ...at, '--urn', 'Contoso:appliance:9:1.0.0');
  });

  test('@azure/arm-compute: images', async () => {
    const { images } = client;
    const made = await images.createOrUpdate(GROUP, 'by-sdk', {
      location: LOCATION,
      hyperVGeneration: 'V2',
      storageProfile: { osDisk: { osType: 'Linux', osState: 'Generalized', blobUri: uri('disk.vhd') } },
    });
    assert.deepEqual([made.provisioningState, made.hyperVGeneration], ['Succeeded', 'V2']);
    await identical('by-sdk');
    assert.deepEqual((await images.get(GROUP, 'by-sdk')).id, imageId('by-sdk'));
    const changed = await images.update(GROUP, 'by-sdk', { tags: { team: 'web' } });
    assert.deepEqual(changed.tags, { team: 'web' });
    assert.deepEqual(
      (await collect(images.listByResourceGroup(GROUP))).map(({ name }) => name).filter(name => name === 'by-sdk'),
      ['by-sdk'],
    );
    await assert.rejects(
      async () =>
        await images.createOrUpdate(GROUP, 'wrong-by-sdk', {
          location: LOCATION,
          storageProfile: { osDisk: { osType: 'Linux', osState: 'Generalized', blobUri: uri('text.vhd') } },
        }),
      /InvalidVhd\. The specified cookie value/,
    );
    await images.delete(GROUP, 'by-sdk');
    await assert.rejects(images.get(GROUP, 'by-sdk'), { code: 'ResourceNotFound' });
  });

  test('@azure/arm-compute: virtualMachineImages', async () => {
    const { virtualMachineImages } = client;
    const names = (items: { name: string }[]) => items.map(({ name }) => name);
    assert.ok(names(await virtualMachineImages.listPublishers(LOCATION)).includes('Contoso'));
    assert.deepEqual(names(await virtualMachineImages.listOffers(LOCATION, 'Contoso')), ['appliance']);
    assert.deepEqual(names(await virtualMachineImages.listSkus(LOCATION, 'Contoso', 'appliance')), ['1']);
    const options = { top: 1, orderby: 'name desc' };
    assert.deepEqual(names(await virtualMachineImages.list(LOCATION, 'Contoso', 'appliance', '1', options)), [
      '2.10.0',
    ]);
    const one = await virtualMachineImages.get(LOCATION, 'Contoso', 'appliance', '1', '2.10.0');
    assert.deepEqual([one.hyperVGeneration, one.architecture], ['V1', 'x64']);
    assert.equal(one.osDiskImage?.operatingSystem, 'Linux');
    assert.equal(one.imageDeprecationStatus?.imageState, 'Active');
  });
});
