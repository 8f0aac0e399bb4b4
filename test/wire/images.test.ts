/** Managed images as clients meet them: made from VHDs in storage accounts, read, changed, built from, deleted. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { record } from '../../src/providers/compute/image-create.ts';
import { getResource } from '../../src/providers/store.ts';
import { type Answer, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { makeGround, NEWEST, plainTemplate } from './ground.ts';
import { makeAccount, newGroup, type Uploaded, upload, type Vhds, vhdMaker } from './vhds.ts';

const ACCOUNT = 'imagevhds';
const API = '2024-07-01';

let server: TestServer;
let vhds: Vhds;
let group: string;

before(async () => {
  vhds = await vhdMaker();
  server = await startTestServer();
  group = await newGroup(server, 'images', 'westus');
  await makeAccount(server, group, ACCOUNT, 'westus');
});
after(async () => {
  await server?.close();
  await vhds?.remove();
});

// biome-ignore lint/suspicious/noExplicitAny: as a client reads it
const json = (answer: Answer, status = 200): any => {
  assert.equal(answer.status, status, answer.text);
  return answer.body;
};

const imageId = (name: string) => `${group}/providers/Microsoft.Compute/images/${name}`;
const blobUri = (name: string) => `${server.origin}/${ACCOUNT}/vhds/${name}`;
const store = (name: string, content: string | Buffer, as?: Uploaded) =>
  upload(server.service, [ACCOUNT, 'vhds', name], content, as);

/** As `az image create --source` sends it. */
const bodyOf = (uri: string, more: object = {}, osDisk: object = {}) => ({
  location: 'West US',
  tags: {},
  properties: {
    hyperVGeneration: 'V1',
    storageProfile: { osDisk: { blobUri: uri, osType: 'Linux', osState: 'Generalized', ...osDisk }, dataDisks: [] },
    ...more,
  },
});

const put = (name: string, body: unknown, options: object = {}) =>
  server.request('PUT', imageId(name), { apiVersion: API, body, ...options });
const get = (name: string) => server.request('GET', imageId(name), { apiVersion: API });

async function imported(name: string, body: unknown): Promise<void> {
  const made = await put(name, body);
  assert.equal(made.status, 201, made.text);
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
}

/** The disks of an image in the store, by their ids. */
async function disksOf(name: string) {
  const prefix = imageId(name).toLowerCase();
  const found = (await list(server.service.home.root)).filter(({ manifest }) => {
    const id = manifest.id.toLowerCase();
    return id === prefix || id.startsWith(`${prefix}/`);
  });
  return new Map(found.map(one => [one.manifest.id.toLowerCase().slice(prefix.length), one]));
}

const compare = (raw: string, disk: string) => run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', raw, disk]);

const nothingStaged = async () => {
  const { root } = server.service.home;
  assert.deepEqual(await readdir(join(root, 'regions/westus/.staged')).catch(() => []), []);
};

test('a VHD becomes a managed image: an operation, then the image as Azure shows it, and its disk byte for byte', async () => {
  const { raw, path } = await vhds.make('fixed', 'fixed');
  await store('fixed.vhd', path);
  const body = bodyOf(blobUri('fixed.vhd'));
  const made = await put('fixed', body);
  const creating = json(made, 201);
  assert.equal(creating.properties.provisioningState, 'Creating');
  assert.match(
    String(made.headers['azure-asyncoperation']),
    /\/providers\/Microsoft\.Compute\/locations\/westus\/operations\/[0-9a-f-]{36}\?api-version=2024-07-01$/,
  );
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
  const image = json(await get('fixed'));
  assert.deepEqual(image, {
    location: 'westus',
    tags: {},
    properties: {
      storageProfile: {
        osDisk: {
          osType: 'Linux',
          osState: 'Generalized',
          diskSizeGB: 1,
          blobUri: blobUri('fixed.vhd'),
          caching: 'None',
          storageAccountType: 'Standard_LRS',
        },
        dataDisks: [],
      },
      provisioningState: 'Succeeded',
      hyperVGeneration: 'V1',
    },
    id: imageId('fixed'),
    name: 'fixed',
    type: 'Microsoft.Compute/images',
  });
  const [stored] = (await disksOf('fixed')).values();
  await compare(raw, stored!.path);
  const { operationId, runId, templateId, source, ...manifest } = stored!.manifest;
  assert.ok(operationId);
  assert.deepEqual(
    { runId, templateId, source },
    { runId: undefined, templateId: undefined, source: { name: blobUri('fixed.vhd') } },
  );
  assert.equal(manifest.format, 'qcow2');
  assert.equal(manifest.firmware, 'bios');
  await nothingStaged();
});

test('dynamic VHDs, block blobs, blobs of many blocks, data disks: each as its own disk', async () => {
  const named = { dynamic: 'page', block: 'block', blocks: 'blocks' } as const;
  const raws = new Map<string, string>();
  for (const [name, as] of Object.entries(named)) {
    const { raw, path } = await vhds.make(name, name === 'dynamic' ? 'dynamic' : 'fixed');
    raws.set(name, raw);
    await store(`folder/${name}.vhd`, path, as);
  }
  const uri = (name: string) => blobUri(`folder/${name}.vhd`);
  const dataDisks = [
    { lun: 5, blobUri: uri('block'), caching: 'ReadOnly' },
    { lun: 0, blobUri: uri('blocks'), diskSizeGB: 4 },
  ];
  const body = bodyOf(uri('dynamic'), { hyperVGeneration: 'V2' });
  Object.assign(body.properties.storageProfile, { dataDisks, zoneResilient: true });
  await imported('many', body);
  const { properties } = json(await get('many'));
  assert.equal(properties.hyperVGeneration, 'V2');
  assert.equal(properties.storageProfile.zoneResilient, true);
  assert.deepEqual(
    properties.storageProfile.dataDisks.map(({ lun, diskSizeGB, caching }: Record<string, unknown>) => ({
      lun,
      diskSizeGB,
      caching,
    })),
    [
      { lun: 5, diskSizeGB: 1, caching: 'ReadOnly' },
      { lun: 0, diskSizeGB: 4, caching: 'None' },
    ],
  );
  const disks = await disksOf('many');
  assert.deepEqual([...disks.keys()].sort(), ['', '/datadisks/0', '/datadisks/5']);
  await compare(raws.get('dynamic')!, disks.get('')!.path);
  await compare(raws.get('block')!, disks.get('/datadisks/5')!.path);
  await compare(raws.get('blocks')!, disks.get('/datadisks/0')!.path);
  assert.equal(disks.get('')!.manifest.firmware, 'uefi');

  const removed = await server.request('DELETE', imageId('many'), { apiVersion: API });
  assert.equal(removed.status, 202, removed.text);
  assert.match(String(removed.headers.location), /\/operations\/[0-9a-f-]{36}\?monitor=true&api-version=2024-07-01$/);
  assert.equal(json(await server.settled(removed)).status, 'Succeeded');
  assert.equal((await disksOf('many')).size, 0);
  assert.equal((await server.request('GET', String(removed.headers.location))).status, 200);
  assert.equal((await get('many')).status, 404);
  assert.equal((await server.request('DELETE', imageId('many'), { apiVersion: API })).status, 204);
});

test('a VHD that cannot be taken fails the operation in the words of Compute, and leaves nothing', async () => {
  const { path } = await vhds.make('spoilt', 'fixed');
  const good = await readFile(path);
  const spoilt = (change: (bytes: Buffer) => Buffer | undefined): Buffer => {
    const bytes = Buffer.from(good);
    return change(bytes) ?? bytes;
  };
  const cases: [name: string, content: Buffer, code: string, message: RegExp][] = [
    [
      'nofooter.vhd',
      good.subarray(0, -512),
      'InvalidVhd',
      /^The specified cookie value in VHD footer indicates that disk 'nofooter\.vhd' with blob https:.* is not a supported VHD\. Disk is expected to have cookie value 'conectix'\.$/,
    ],
    [
      'checksum.vhd',
      spoilt(bytes => void bytes.writeUInt8(bytes.at(-100)! ^ 1, bytes.length - 100)),
      'InvalidVhd',
      /^Only blobs formatted as VHDs can be imported\./,
    ],
    [
      'cut.vhd',
      Buffer.concat([good.subarray(0, 1024 * 1024), good.subarray(-512)]),
      'InvalidVhd',
      /its footer says 8389120/,
    ],
    ['qcow2.vhd', Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(1020)]), 'InvalidVhd', /cookie/],
    ['empty.vhd', Buffer.alloc(0), 'InvalidVhd', /cookie/],
  ];
  for (const [name, content, code, message] of cases) {
    await store(name, content, 'block');
    const made = await put('spoilt', bodyOf(blobUri(name)));
    assert.ok(made.status === 201 || made.status === 200, made.text);
    const { status, error } = json(await server.settled(made));
    assert.equal(status, 'Failed', name);
    assert.equal(error.code, code, name);
    assert.match(error.message, message, name);
    assert.equal(error.target, 'properties.storageProfile.osDisk.blobUri');
    assert.equal(json(await get('spoilt')).properties.provisioningState, 'Failed');
    assert.equal((await disksOf('spoilt')).size, 0);
    await nothingStaged();
  }
  const small = await put('spoilt', bodyOf(blobUri('nofooter.vhd'), {}, { diskSizeGB: 1 }));
  assert.equal(json(await server.settled(small)).status, 'Failed');
  // What failed can be made after all, by the same request with a good disk.
  await store('good.vhd', path);
  const again = await put('spoilt', bodyOf(blobUri('good.vhd')));
  assert.equal(again.status, 200, again.text);
  assert.equal(json(await server.settled(again)).status, 'Succeeded');
  assert.equal((await disksOf('spoilt')).size, 1);
});

test('what is wrong with a request is said at once, with its place, and nothing is made', async () => {
  const { path } = await vhds.make('request', 'fixed');
  await store('request.vhd', path);
  const uri = blobUri('request.vhd');
  const disk = 'properties.storageProfile.osDisk';
  const absent = (type: string) => ({ id: `${group}/providers/Microsoft.Compute/${type}/none` });
  const cases: [body: unknown, status: number, code: string, target: string][] = [
    [bodyOf(blobUri('none.vhd')), 404, 'ImageBlobNotFound', `${disk}.blobUri`],
    [bodyOf(`${server.origin}/nobodysaccount/vhds/a.vhd`), 404, 'StorageAccountNotFound', `${disk}.blobUri`],
    [bodyOf('https://example.com/a.vhd'), 400, 'InvalidParameter', `${disk}.blobUri`],
    [bodyOf('not a url'), 400, 'InvalidParameter', `${disk}.blobUri`],
    [bodyOf(uri, {}, { osState: 'Specialized' }), 400, 'InvalidParameter', `${disk}.osState`],
    [bodyOf(uri, {}, { osState: undefined }), 400, 'InvalidParameter', `${disk}.osState`],
    [bodyOf(uri, {}, { osType: 'Plan9' }), 400, 'InvalidParameter', `${disk}.osType`],
    [bodyOf(uri, { hyperVGeneration: 'V3' }), 400, 'InvalidParameter', 'properties.hyperVGeneration'],
    [bodyOf(uri, {}, { snapshot: absent('snapshots') }), 400, 'InvalidParameter', disk],
    [bodyOf(uri, {}, { blobUri: undefined }), 400, 'InvalidParameter', disk],
    [
      bodyOf(uri, {}, { blobUri: undefined, snapshot: absent('snapshots') }),
      404,
      'ResourceNotFound',
      `${disk}.snapshot.id`,
    ],
    [
      bodyOf(uri, {}, { blobUri: undefined, managedDisk: absent('disks') }),
      404,
      'ResourceNotFound',
      `${disk}.managedDisk.id`,
    ],
    [
      { location: 'westus', properties: { sourceVirtualMachine: absent('virtualMachines') } },
      404,
      'NotFound',
      'properties.sourceVirtualMachine.id',
    ],
    [{ location: 'westus', properties: {} }, 400, 'InvalidParameter', 'properties.storageProfile'],
    [{ ...bodyOf(uri), location: 'eastus' }, 400, 'StorageAccountLocationMismatch', `${disk}.blobUri`],
    [{ ...bodyOf(uri), location: 'atlantis' }, 400, 'LocationNotAvailableForResourceType', 'location'],
  ];
  for (const [body, status, code, target] of cases) {
    const { error } = json(await put('refused', body), status);
    assert.equal(error.code, code, JSON.stringify(error));
    assert.equal(error.target, target, JSON.stringify(error));
    assert.equal((await get('refused')).status, 404);
  }
  const twice = bodyOf(uri);
  Object.assign(twice.properties.storageProfile, { dataDisks: [1, 1].map(lun => ({ lun, blobUri: uri })) });
  assert.match(json(await put('refused', twice), 400).error.message, /^A disk at LUN 1 already exists\.$/);
  assert.match(json(await put('-wrong', bodyOf(uri)), 400).error.message, /invalid according to its validation rule/);
  const elsewhere = `/subscriptions/${SUBSCRIPTION}/resourceGroups/none/providers/Microsoft.Compute/images/a`;
  const missing = await server.request('PUT', elsewhere, { apiVersion: API, body: bodyOf(uri) });
  assert.equal(json(missing, 404).error.code, 'ResourceGroupNotFound');
});

test('whoever makes an image of a VHD has to be allowed to read it', async () => {
  const { path } = await vhds.make('linked', 'fixed');
  await store('linked.vhd', path);
  const target = await newGroup(server, 'images-of-another', 'westus');
  const builder = await server.principal('builder', { id: CONTRIBUTOR, scope: target });
  const reader = await server.principal('image reader', { id: READER, scope: group });
  const id = `${target}/providers/Microsoft.Compute/images/taken`;
  const body = bodyOf(blobUri('linked.vhd'));
  const refused = json(await server.request('PUT', id, { apiVersion: API, body, token: builder.token }), 403);
  assert.equal(refused.error.code, 'LinkedAuthorizationFailed');
  assert.match(refused.error.message, /'Microsoft\.Storage\/storageAccounts\/listKeys\/action'/);
  assert.equal((await server.request('GET', id, { apiVersion: API })).status, 404);
  assert.equal((await put('read-only', body, { token: reader.token })).status, 403);
  assert.equal((await server.request('PUT', id, { apiVersion: API, body })).status, 201);
});

test('an image that is there changes only its tags; a signature in its URL is not kept', async () => {
  const { path } = await vhds.make('tags', 'fixed');
  await store('tags.vhd', path);
  const body = bodyOf(`${blobUri('tags.vhd')}?sv=2024&sig=secret`);
  await imported('tagged', body);
  const before = json(await get('tagged'));
  assert.ok(!JSON.stringify(before).includes('secret'));
  const files = await disksOf('tagged');

  // az image update: everything that was read, with other tags.
  const updated = json(await put('tagged', { ...before, tags: { a: '1' } }));
  assert.deepEqual(updated, { ...before, tags: { a: '1' } });
  // The first request again.
  assert.deepEqual(json(await put('tagged', { ...body, tags: { b: '2' } })).tags, { b: '2' });
  const patch = (change: object) => server.request('PATCH', imageId('tagged'), { apiVersion: API, body: change });
  assert.deepEqual(json(await patch({ tags: { c: '3' } })), { ...before, tags: { c: '3' } });
  assert.deepEqual(json(await patch({})).tags, { c: '3' });
  for (const properties of [
    { hyperVGeneration: 'V2' },
    { storageProfile: { osDisk: { blobUri: blobUri('other.vhd') } } },
    { storageProfile: { osDisk: { diskSizeGB: 99 } } },
    { storageProfile: { dataDisks: [{ lun: 0, blobUri: blobUri('tags.vhd') }] } },
  ]) {
    const { error } = json(await patch({ tags: { d: '4' }, properties }), 409);
    assert.equal(error.code, 'PropertyChangeNotAllowed');
    assert.match(error.message, /^Changing property 'image\.properties\./);
    assert.match(JSON.stringify(error), /Only tags may be updated/);
  }
  const moved = json(await put('tagged', { ...body, location: 'eastus' }), 409);
  assert.equal(moved.error.code, 'InvalidResourceLocation');
  assert.deepEqual(json(await get('tagged')), { ...before, tags: { c: '3' } });
  assert.deepEqual(await disksOf('tagged'), files);
});

test('several that make the same image at once make it once', async () => {
  const { path } = await vhds.make('once', 'fixed');
  await store('once.vhd', path);
  const answers = await Promise.all(Array.from({ length: 4 }, () => put('once', bodyOf(blobUri('once.vhd')))));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 201]);
  const operations = new Set(answers.map(({ headers }) => headers['azure-asyncoperation']).filter(url => url));
  assert.equal(operations.size, 1);
  const first = answers.find(({ status }) => status === 201)!;
  assert.equal(json(await server.settled(first)).status, 'Succeeded');
  assert.equal((await disksOf('once')).size, 1);
});

test('an image whose disks are recorded twice, since the first answer was lost, keeps them', async () => {
  const { path } = await vhds.make('recorded', 'fixed');
  await store('recorded.vhd', path);
  await imported('recorded', bodyOf(blobUri('recorded.vhd')));
  const { kysely } = server.service.database;
  const { operation } = (await getResource(kysely, imageId('recorded')))!.properties as { operation: string };
  const again = (id: string) => kysely.transaction().execute(trx => record(trx, imageId('recorded'), id, []));
  assert.equal(await again(operation), true);
  assert.equal(await again(randomUUID()), false, 'the disks of another operation are nobody’s');
});

test('the VHD that a run has left in its staging account becomes an image', async () => {
  const ground = await makeGround(server, 'images-of-artifacts');
  const template = ground.template('vhd');
  const body = plainTemplate(ground) as { properties: object };
  Object.assign(body.properties, { distribute: [{ type: 'VHD', runOutputName: 'disk' }] });
  const provisioned = await server.request('PUT', template, { apiVersion: NEWEST, body });
  assert.equal(json(await server.settled(provisioned)).status, 'Succeeded');
  const built = await server.request('POST', `${template}/run`, { apiVersion: NEWEST });
  assert.equal(json(await server.settled(built)).status, 'Succeeded');
  const output = json(await server.request('GET', `${template}/runOutputs/disk`, { apiVersion: NEWEST }));
  await imported('artifact', bodyOf(output.properties.artifactUri));
  const artifact = (await list(server.service.home.root)).find(({ manifest }) => manifest.kind === 'VHD')!;
  const [stored] = (await disksOf('artifact')).values();
  const compared = ['compare', '-f', 'vpc', '-F', 'qcow2', artifact.path, stored!.path];
  await run('qemu-img', compared);
});

test('images are listed by group and subscription', async () => {
  const other = await newGroup(server, 'images-listed', 'westus');
  const { path } = await vhds.make('listed', 'fixed');
  await store('listed.vhd', path);
  const id = `${other}/providers/Microsoft.Compute/images/listed`;
  const made = await server.request('PUT', id, { apiVersion: '2020-06-01', body: bodyOf(blobUri('listed.vhd')) });
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
  const ids = async (scope: string): Promise<string[]> => {
    const answer = await server.request('GET', `${scope}/providers/Microsoft.Compute/images`, {
      apiVersion: '2020-06-01',
    });
    return json(answer).value.map((image: { id: string }) => image.id);
  };
  assert.deepEqual(await ids(other), [id]);
  assert.ok((await ids(`/subscriptions/${SUBSCRIPTION}`)).includes(id));
  const expanded = await server.request('GET', `${id}?$expand=properties`, { apiVersion: API });
  assert.equal(json(expanded).name, 'listed');
});

test('a template builds on an image that was imported; it is not deleted while that goes on', async () => {
  const ground = await makeGround(server, 'images-built-on');
  const { path } = await vhds.make('base', 'dynamic');
  await store('base.vhd', path);
  const id = `${ground.group}/providers/Microsoft.Compute/images/base`;
  const made = await server.request('PUT', id, { apiVersion: API, body: bodyOf(blobUri('base.vhd')) });
  assert.equal(json(await server.settled(made)).status, 'Succeeded');
  const template = ground.template('on-image');
  const body = plainTemplate(ground) as { properties: object };
  Object.assign(body.properties, { source: { type: 'ManagedImage', imageId: id } });
  const provisioned = await server.request('PUT', template, { apiVersion: NEWEST, body });
  assert.equal(json(await server.settled(provisioned)).status, 'Succeeded');

  server.machines.hold();
  const run = await server.request('POST', `${template}/run`, { apiVersion: NEWEST });
  assert.equal(run.status, 202, run.text);
  const refused = json(await server.request('DELETE', id, { apiVersion: API }), 409);
  assert.equal(refused.error.code, 'OperationNotAllowed');
  assert.match(refused.error.message, /the image template 'on-image' is being built/);
  assert.equal((await server.request('POST', `${template}/cancel`, { apiVersion: NEWEST })).status, 204);
  server.machines.release();
  assert.equal(json(await server.settled(run)).status, 'Canceled');
  const again = await server.request('POST', `${template}/run`, { apiVersion: NEWEST });
  assert.equal(json(await server.settled(again)).status, 'Succeeded');
  const built = json(
    await server.request('GET', `${ground.group}/providers/Microsoft.Compute/images/out`, { apiVersion: API }),
  );
  assert.deepEqual(built.properties.storageProfile.osDisk, {
    osType: 'Linux',
    osState: 'Generalized',
    diskSizeGB: 1,
    caching: 'None',
    storageAccountType: 'Standard_LRS',
  });
  assert.deepEqual(built.properties.storageProfile.dataDisks, []);
  const removed = await server.request('DELETE', id, { apiVersion: API });
  assert.equal(json(await server.settled(removed)).status, 'Succeeded');
});

test("no answer was wrong by the OpenAPI files, and nothing failed for a reason of Kiln's own", t => {
  assert.deepEqual(server.errors, []);
  if (!server.contract) return t.skip('the OpenAPI files are not there');
  assert.deepEqual(server.violations, []);
});
