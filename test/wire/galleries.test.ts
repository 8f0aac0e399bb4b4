/** Galleries over HTTP, as the contract (2.3) and the recordings have them: definitions, versions with real disks in the region store, regions, sharing. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LOCAL_TENANT } from '../../src/arm/ids.ts';
import { CONTRIBUTOR, READER } from '../../src/arm/role-ids.ts';
import { passOverFile } from '../../src/disks/pass.ts';
import { dataDiskId } from '../../src/images/data-disks.ts';
import { list, type StoredImage } from '../../src/images/store.ts';
import { type Answer, type RequestOptions, SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { storeDisk, storeManagedImage } from './images-store.ts';

const OTHER = '00000000-0000-4000-8000-000000000002';
const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/galleries`;
const COMPUTE = `${GROUP}/providers/Microsoft.Compute`;
const GALLERY = `${COMPUTE}/galleries/tools`;
const IMAGE = `${COMPUTE}/images/base`;
const VERSION = '2023-07-03';
const location = 'eastus2';

let server: TestServer;

// biome-ignore lint/suspicious/noExplicitAny: answers are looked at member by member
type Body = any;
interface Told extends Omit<Answer, 'body'> {
  readonly body: Body;
}

async function send(method: string, path: string, body?: object, options: RequestOptions = {}): Promise<Told> {
  return await server.request(method, path, { apiVersion: VERSION, ...options, ...(body && { body }) });
}

/** Sends a change and polls it to its end. @returns the answer, and the operation's last status */
async function change(method: string, path: string, body?: object, options: RequestOptions = {}) {
  const answer = await send(method, path, body, options);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
  const ended = (await server.settled(answer)).body as Body;
  return { answer, ended };
}

async function refused(method: string, path: string, body: object | undefined, wanted: [number, string, RegExp]) {
  const answer = await send(method, path, body);
  assert.deepEqual([answer.status, answer.body?.error?.code], wanted.slice(0, 2), answer.text);
  assert.match(answer.body.error.message, wanted[2]);
  return answer.body.error;
}

const DEFINITION = {
  osType: 'Linux',
  osState: 'Generalized',
  identifier: { publisher: 'Publisher', offer: 'offer', sku: 'sku' },
};

/** @returns its path. Each has a sku of its own. */
async function definition(name: string, properties: object = {}, gallery = GALLERY): Promise<string> {
  const path = `${gallery}/images/${name}`;
  const identifier = { ...DEFINITION.identifier, sku: name };
  const { ended } = await change('PUT', path, {
    location,
    properties: { ...DEFINITION, identifier, ...properties },
  });
  assert.equal(ended.status, 'Succeeded');
  return path;
}

const versionBody = (regions: readonly (string | object)[] = [location], more: object = {}, source: object = {}) => ({
  location,
  properties: {
    publishingProfile: { targetRegions: regions.map(one => (typeof one === 'string' ? { name: one } : one)), ...more },
    storageProfile: { source: { id: IMAGE }, ...source },
  },
});

async function version(path: string, ...of: Parameters<typeof versionBody>): Promise<Body> {
  const { ended } = await change('PUT', path, versionBody(...of));
  assert.equal(ended.status, 'Succeeded', JSON.stringify(ended));
  return (await send('GET', path)).body;
}

async function files(id: string): Promise<StoredImage[]> {
  const all = await list(server.service.home.root);
  return all.filter(({ manifest }) => manifest.id.toLowerCase() === id.toLowerCase());
}

const regionsOf = async (id: string) => (await files(id)).map(({ manifest }) => manifest.location).sort();
const status = async (path: string) =>
  (await send('GET', `${path}?$expand=ReplicationStatus`)).body.properties.replicationStatus;

before(async () => {
  server = await startTestServer({ subscriptions: [OTHER] });
  await send('PUT', GROUP, { location }, { apiVersion: '2021-04-01' });
  await storeManagedImage(server.service, { id: IMAGE, location });
});
after(async () => {
  await server?.close();
});

test('a gallery is written by an operation, in the form of the recordings', async () => {
  const { answer, ended } = await change('PUT', GALLERY, { location, tags: {} }, { apiVersion: '2021-10-01' });
  assert.equal(answer.status, 201);
  assert.deepEqual(answer.body, {
    location,
    tags: {},
    properties: { identifier: { uniqueName: `${SUBSCRIPTION}-TOOLS` }, provisioningState: 'Creating' },
    ...{ id: GALLERY, name: 'tools', type: 'Microsoft.Compute/galleries' },
  });
  const url = new URL(String(answer.headers['azure-asyncoperation']));
  assert.match(
    url.pathname + url.search,
    /^\/subscriptions\/[^/]+\/providers\/Microsoft\.Compute\/locations\/eastus2\/capsOperations\/[0-9a-f-]{36}\?api-version=2021-10-01$/,
  );
  assert.equal(answer.headers.location, undefined);
  const { startTime, endTime, ...rest } = ended;
  assert.deepEqual(rest, { status: 'Succeeded', name: url.pathname.split('/').at(-1) });
  for (const time of [startTime, endTime]) assert.match(time, /^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/);
  assert.equal((await send('GET', GALLERY)).body.properties.provisioningState, 'Succeeded');
  const again = await change('PUT', GALLERY, { location, tags: { a: 'b' }, properties: { description: 'Tools' } });
  assert.deepEqual([again.answer.status, again.answer.body.properties.provisioningState], [200, 'Updating']);
  const patched = await change('PATCH', GALLERY, { tags: { c: 'd' } });
  assert.deepEqual(
    [patched.answer.status, patched.answer.body.tags, patched.answer.body.properties.description],
    [200, { c: 'd' }, 'Tools'],
  );
  await refused('PUT', `${COMPUTE}/galleries/no-dashes`, { location }, [
    400,
    'InvalidParameter',
    /^Gallery name is invalid\. /,
  ]);
});

test('a definition has its rules, and deletions theirs', async () => {
  const path = await definition('plain');
  const { body } = await send('GET', path);
  assert.deepEqual(body.properties, {
    ...{ hyperVGeneration: 'V1', architecture: 'x64', ...DEFINITION },
    identifier: { ...DEFINITION.identifier, sku: 'plain' },
    provisioningState: 'Succeeded',
  });
  for (const list of [`${COMPUTE}/galleries`, `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Compute/galleries`])
    assert.deepEqual(
      (await send('GET', list)).body.value.map(({ id }: Body) => id),
      [GALLERY],
    );
  assert.deepEqual((await send('GET', `${GALLERY}/images`)).body.value, [body]);
  const patched = await change('PATCH', path, { properties: { description: 'Plain', eula: 'https://example.org' } });
  assert.deepEqual([patched.answer.status, patched.answer.body.properties.description], [200, 'Plain']);
  const whole = { location, properties: body.properties };
  const changed = (properties: object) => ({ ...whole, properties: { ...whole.properties, ...properties } });
  const forbidden = (field: string): [number, string, RegExp] => [
    409,
    'PropertyChangeNotAllowed',
    new RegExp(`^Changing property 'galleryImage\\.properties\\.${field}' is not allowed\\.$`),
  ];
  for (const [field, value] of [
    ['osType', 'Windows'],
    ['osState', 'Specialized'],
    ['hyperVGeneration', 'V2'],
  ] as const)
    await refused('PUT', path, changed({ [field]: value }), forbidden(field));
  await refused('PUT', `${GALLERY}/images/twin`, whole, [
    409,
    'Conflict',
    /^Gallery image: plain identified by \(publisher:Publisher, offer:offer, sku:plain\) already exists\./,
  ]);
  await refused('PUT', `${GALLERY}/images/bad`, changed({ identifier: { publisher: 'a b', offer: 'o', sku: 's' } }), [
    400,
    'InvalidParameter',
    /^Asset name galleryImage\.properties\.identifier\.publisher is not valid\./,
  ]);
  await refused('DELETE', GALLERY, undefined, [
    409,
    'CannotDeleteResource',
    /^Can not delete resource before nested resources are deleted\.$/,
  ]);
  const feature = await refused('PUT', path, changed({ features: [{ name: 'SecurityType', value: 'Loose' }] }), [
    400,
    'InvalidParameter',
    /^The value of parameter galleryImage\.properties\.features\[0\]\.value is invalid\. ./,
  ]);
  assert.equal(feature.target, 'properties.features[0].value');
  const { answer, ended } = await change('DELETE', path);
  assert.deepEqual([answer.status, answer.text, ended.status], [202, '', 'Succeeded']);
  const poll = String(answer.headers['azure-asyncoperation']);
  assert.equal(answer.headers.location, poll.replace('?', '?monitor=true&'));
  assert.equal((await server.request('GET', String(answer.headers.location))).status, 200);
  assert.equal((await send('DELETE', path)).status, 204);
});

test('a version is copied from a managed image into every region that it names', async () => {
  const path = `${await definition('copied')}/versions/1.1.2`;
  const regions = [location, { name: 'West US 2', regionalReplicaCount: 3, storageAccountType: 'Premium_LRS' }];
  const body = versionBody(regions, { replicaCount: 2 });
  const { answer, ended } = await change('PUT', path, { ...body, tags: { a: 'b' } }, { apiVersion: '2022-03-03' });
  assert.equal(answer.status, 201);
  const { publishedDate, ...profile } = answer.body.properties.publishingProfile;
  assert.ok(Date.parse(publishedDate) <= Date.now());
  const targetRegions = [
    { name: 'East US 2', regionalReplicaCount: 2, storageAccountType: 'Standard_LRS' },
    { name: 'West US 2', regionalReplicaCount: 3, storageAccountType: 'Premium_LRS' },
  ];
  assert.deepEqual(profile, {
    ...{ targetRegions, replicaCount: 2, excludeFromLatest: false, storageAccountType: 'Standard_LRS' },
  });
  assert.deepEqual(answer.body.properties.storageProfile, { source: { id: IMAGE } });
  assert.equal(answer.body.properties.provisioningState, 'Creating');
  assert.equal(ended.status, 'Succeeded');
  const made = (await send('GET', path)).body;
  assert.deepEqual(made.properties.storageProfile, {
    source: { id: IMAGE },
    osDiskImage: { hostCaching: 'ReadWrite', source: {}, sizeInGB: 1 },
  });
  assert.deepEqual(made.properties.safetyProfile, {
    reportedForPolicyViolation: false,
    allowDeletionOfReplicatedLocations: false,
  });
  assert.deepEqual([made.properties.provisioningState, made.tags], ['Succeeded', { a: 'b' }]);
  assert.ok(!('replicationStatus' in made.properties));
  const [image] = await files(IMAGE);
  const replicas = await files(path);
  assert.deepEqual(
    replicas.map(({ manifest }) => [manifest.location, manifest.kind, manifest.fsverity, manifest.tags]),
    ['eastus2', 'westus2'].map(region => [region, 'SharedImage', image!.manifest.fsverity, { a: 'b' }]),
  );
  const inodes = new Set(await Promise.all([image!, ...replicas].map(async one => (await stat(one.path)).ino)));
  assert.equal(inodes.size, 3, 'each region has a file of its own');
  for (const { path: file, manifest } of replicas) assert.equal((await passOverFile(file)).fsverity, manifest.fsverity);
  const complete = (region: string) => ({ region, state: 'Completed', details: '', progress: 100 });
  assert.deepEqual(await status(path), {
    aggregatedState: 'Completed',
    summary: [complete('East US 2'), complete('West US 2')],
  });
  const listed = await send('GET', path.replace(/\/1\.1\.2$/, ''));
  assert.deepEqual(listed.body.value, [made]);
});

test('data disks are copied with their disk, and go with it', async () => {
  const source = `${COMPUTE}/images/with-data`;
  const stored = await storeManagedImage(server.service, { id: source, location });
  const data = await storeDisk(server.service, { id: dataDiskId(source, 3), location });
  const path = `${await definition('with-data')}/versions/1.0.0`;
  const made = await version(path, [location, 'westus2'], {}, { source: { id: source } });
  assert.deepEqual(made.properties.storageProfile.dataDiskImages, [{ lun: 3, sizeInGB: 1, hostCaching: 'None' }]);
  for (const [id, { manifest }] of [
    [path, stored],
    [dataDiskId(path, 3), data],
  ] as const)
    assert.deepEqual(
      (await files(id)).map(one => [one.manifest.location, one.manifest.fsverity]),
      ['eastus2', 'westus2'].map(region => [region, manifest.fsverity]),
    );
  await change('DELETE', path);
  assert.deepEqual([await files(path), await files(dataDiskId(path, 3))], [[], []]);
});

test('regions come and go; the source stays', async () => {
  const path = `${await definition('moving')}/versions/1.0.0`;
  await version(path, [location, 'westus2']);
  // As az updates: without the source.
  const update = (regions: readonly (string | object)[], safety?: boolean) => ({
    location,
    properties: {
      publishingProfile: { targetRegions: regions.map(one => (typeof one === 'string' ? { name: one } : one)) },
      storageProfile: { osDiskImage: { hostCaching: 'ReadOnly' } },
      ...(safety !== undefined && { safetyProfile: { allowDeletionOfReplicatedLocations: safety } }),
    },
  });
  const { answer, ended } = await change('PUT', path, update([location, 'WESTUS2', 'japan east']));
  assert.deepEqual([answer.status, answer.body.properties.provisioningState], [200, 'Updating']);
  assert.equal(ended.status, 'Succeeded');
  assert.deepEqual(await regionsOf(path), ['eastus2', 'japaneast', 'westus2']);
  const { storageProfile } = (await send('GET', path)).body.properties;
  assert.deepEqual([storageProfile.source.id, storageProfile.osDiskImage.hostCaching], [IMAGE, 'ReadOnly']);
  const error = await refused('PUT', path, update([location]), [
    409,
    'Conflict',
    /cannot be removed from the replicated regions westus2, japaneast/,
  ]);
  assert.equal(error.target, 'properties.publishingProfile.targetRegions');
  assert.deepEqual(await regionsOf(path), ['eastus2', 'japaneast', 'westus2']);
  await change('PUT', path, update([location, 'westus2'], true));
  assert.deepEqual(await regionsOf(path), ['eastus2', 'westus2']);
  // The source is not needed any more: replicas are copied from each other.
  const gone = await send('PATCH', path, {
    properties: { publishingProfile: { targetRegions: [{ name: location }, { name: 'uksouth' }] } },
  });
  assert.equal(gone.status, 200);
  assert.equal(((await server.settled(gone)).body as Body).status, 'Succeeded');
  assert.deepEqual(await regionsOf(path), ['eastus2', 'uksouth']);
  await refused('PUT', path, update(['uksouth']), [
    400,
    'InvalidParameter',
    /^Gallery image version publishing profile regions UK South must contain the location of image version East US 2$/,
  ]);
  const other = { ...update([location, 'uksouth']), properties: { ...update([location, 'uksouth']).properties } };
  await refused(
    'PUT',
    path,
    { ...other, properties: { ...other.properties, storageProfile: { source: { id: `${IMAGE}2` } } } },
    [
      409,
      'PropertyChangeNotAllowed',
      /^Changing property 'galleryImageVersion\.properties\.storageProfile\.source\.id' is not allowed\.$/,
    ],
  );
  await change('PATCH', path, { tags: { only: 'tags' } });
  const { body } = await send('GET', path);
  assert.deepEqual([body.tags, body.properties.provisioningState], [{ only: 'tags' }, 'Succeeded']);
});

test('replicationStatus is true of files that are gone, and a PUT brings them back', async () => {
  const path = `${await definition('lost')}/versions/1.0.0`;
  await version(path, [location, 'westus2']);
  const lost = (await files(path)).find(({ manifest }) => manifest.location === 'westus2')!;
  await unlink(lost.path);
  const { aggregatedState, summary } = await status(path);
  assert.deepEqual(
    [aggregatedState, summary.map(({ region, state }: Body) => [region, state])],
    [
      'Unknown',
      [
        ['East US 2', 'Completed'],
        ['West US 2', 'Unknown'],
      ],
    ],
  );
  await change('PUT', path, versionBody([location, 'westus2']));
  assert.equal((await status(path)).aggregatedState, 'Completed');
  assert.deepEqual(await regionsOf(path), ['eastus2', 'westus2']);
});

test('a source that fails when it is copied is told by region, and can be tried again', async () => {
  // Nothing is copied before the test says so.
  const held = await startTestServer({ concurrency: 0 });
  try {
    const ask = async (method: string, path: string, body?: object, apiVersion = VERSION): Promise<Told> =>
      await held.request(method, path, { apiVersion, ...(body && { body }) });
    await ask('PUT', GROUP, { location }, '2021-04-01');
    await ask('PUT', GALLERY, { location });
    await ask('PUT', `${GALLERY}/images/fragile`, { location, properties: DEFINITION });
    const image = await storeManagedImage(held.service, { id: IMAGE, location });
    const path = `${GALLERY}/images/fragile/versions/1.0.0`;
    const answer = await ask('PUT', path, versionBody([location, 'westus2']));
    assert.equal(answer.status, 201, answer.text);
    const look = async () => (await ask('GET', `${path}?$expand=ReplicationStatus`)).body.properties;
    const waiting = await look();
    assert.deepEqual(
      [waiting.provisioningState, waiting.replicationStatus],
      [
        'Creating',
        {
          aggregatedState: 'InProgress',
          summary: ['East US 2', 'West US 2'].map(region => ({
            ...{ region, state: 'Replicating', details: '', progress: 0 },
          })),
        },
      ],
    );
    const second = await ask('PUT', path, versionBody([location]));
    assert.deepEqual([second.status, second.body.error.code], [409, 'Conflict']);
    await unlink(image.path);
    await held.service.engine.serve({ concurrency: 1 });
    const ended = (await held.settled(answer)).body as Body;
    assert.deepEqual([ended.status, ended.error.code], ['Failed', 'NotFound']);
    assert.match(ended.error.message, /is not found\. Please check source exists/);
    const failed = await look();
    assert.deepEqual([failed.provisioningState, failed.replicationStatus.aggregatedState], ['Failed', 'Failed']);
    for (const { state, details } of failed.replicationStatus.summary) {
      assert.equal(state, 'Failed');
      assert.match(details, /is not found/);
    }
    await storeManagedImage(held.service, { id: IMAGE, location });
    const again = await ask('PUT', path, versionBody([location, 'westus2']));
    assert.equal(((await held.settled(again)).body as Body).status, 'Succeeded');
    const whole = await look();
    assert.deepEqual([whole.provisioningState, whole.replicationStatus.aggregatedState], ['Succeeded', 'Completed']);
    // A region that cannot be written: the others stay what they are, and it can be given up without leave.
    const regions = join(held.service.home.root, 'regions');
    await writeFile(join(regions, 'uksouth'), 'no directory');
    const grown = await ask('PUT', path, versionBody([location, 'westus2', 'uksouth']));
    assert.equal(((await held.settled(grown)).body as Body).status, 'Failed');
    const partly = await look();
    assert.equal(partly.provisioningState, 'Failed');
    assert.deepEqual(
      partly.replicationStatus.summary.map(({ state }: Body) => state),
      ['Completed', 'Completed', 'Failed'],
    );
    const kept = await ask('PUT', path, versionBody([location, 'uksouth']));
    assert.deepEqual([kept.status, kept.body.error.code], [409, 'Conflict']);
    const back = await ask('PUT', path, versionBody([location, 'westus2']));
    assert.equal(((await held.settled(back)).body as Body).status, 'Succeeded');
    assert.deepEqual(
      held.errors.filter(error => !/ENOTDIR|EEXIST/.test(error)),
      [],
    );
  } finally {
    await held.close();
  }
});

test('more versions at once than there are connections to the database', async () => {
  const path = await definition('many-at-once');
  const names = Array.from({ length: 12 }, (_, index) => `${path}/versions/1.0.${index}`);
  const answers = await Promise.all(names.map(name => send('PUT', name, versionBody())));
  for (const answer of answers) assert.equal(answer.status, 201, answer.text);
  for (const answer of answers)
    assert.equal(((await server.settled(answer)).body as Body).status, 'Succeeded', answer.text);
});

test('another version is a source, with its replica where the new one is', async () => {
  const from = `${await definition('from')}/versions/1.0.0`;
  await version(from, [location, 'westus2']);
  const path = `${await definition('to')}/versions/2.0.0`;
  const made = await version(path, [location], {}, { source: { id: from } });
  assert.equal(made.properties.storageProfile.source.id, from);
  assert.equal((await files(path))[0]!.manifest.source.name, from);
  const elsewhere = {
    ...versionBody(['japaneast'], {}, { source: { id: from } }),
    location: 'japaneast',
  };
  await refused('PUT', `${path.replace('/2.0.0', '')}/2.0.1`, elsewhere, [
    404,
    'NotFound',
    /is not found\. .* same region/,
  ]);
  const arm = await definition('arm', { architecture: 'Arm64' });
  await refused('PUT', `${arm}/versions/1.0.0`, versionBody([location], {}, { source: { id: from } }), [
    400,
    'InvalidParameter',
    /has a different architecture \['x64'\] than the parent gallery image architecture \['Arm64'\]/,
  ]);
});

test('what a version must not be is said in the words of Azure, with its place', async () => {
  const path = `${await definition('rules')}/versions`;
  const put = (body: object, ...wanted: [number, string, RegExp]) => refused('PUT', `${path}/1.0.0`, body, wanted);
  const invalid = (body: object, message: RegExp) => put(body, 400, 'InvalidParameter', message);
  for (const name of ['latest', '1.0', '1.0.2147483648', 'a.b.c'])
    assert.equal(
      (
        await refused('PUT', `${path}/${name}`, versionBody(), [
          400,
          'InvalidParameter',
          /^The image version name is invalid\./,
        ])
      ).target,
      'galleryImageVersionName',
    );
  await invalid(
    versionBody([location, 'East US 2']),
    /^Duplicate regions are not allowed in target publishing regions\.$/,
  );
  await invalid(
    versionBody(['westus2']),
    /^Gallery image version publishing profile regions West US 2 must contain the location/,
  );
  await invalid(
    versionBody([location, 'atlantis']),
    /^The value of parameter galleryImageVersion\.properties\.publishingProfile\.targetRegions is invalid\. .*atlantis/,
  );
  const zrs = await invalid(
    versionBody([location, { name: 'westus', storageAccountType: 'Standard_ZRS' }]),
    /^ZRS storage account type is not supported in this region\.$/,
  );
  assert.equal(zrs.target, 'properties.publishingProfile.targetRegions[1].storageAccountType');
  await invalid(
    versionBody([location], { endOfLifeDate: '2001-01-01T00:00:00Z' }),
    /^EndOfLifeDate must be set to a future date\.$/,
  );
  await invalid(
    versionBody([location], { replicationMode: 'Deep' }),
    /^The value of parameter .*replicationMode is invalid\. .*Shallow/,
  );
  const sources = (source: object) => versionBody([location], {}, source);
  const one = /^The gallery artifact version source can only be specified either directly under storageProfile/;
  await invalid(sources({ source: {} }), one);
  await invalid(sources({ source: { id: IMAGE, virtualMachineId: `${COMPUTE}/virtualMachines/v` } }), one);
  await invalid(sources({ osDiskImage: { source: { id: `${COMPUTE}/snapshots/s` } } }), one);
  await invalid(
    sources({ source: { id: GALLERY } }),
    /^The source id: .* must either be a managed image, virtual machine or another gallery image version$/,
  );
  const absent = (source: object) =>
    put(sources(source), 404, 'NotFound', /^Source .* is not found\. Please check source exists/);
  await absent({ source: { id: `${COMPUTE}/images/nobody` } });
  await absent({ source: { id: `${COMPUTE}/virtualMachines/v` } });
  await absent({ source: {}, osDiskImage: { source: { id: `${COMPUTE}/snapshots/s` } } });
  await absent({ source: { communityGalleryImageId: '/CommunityGalleries/none/Images/i/Versions/1.0.0' } });
  const west = { ...versionBody(['westus2']), location: 'westus2' };
  await put(west, 404, 'NotFound', /in the same region as gallery image version being created/);
  const into = async (name: string, properties: object, message: RegExp) => {
    const other = await definition(name, properties);
    return await refused('PUT', `${other}/versions/1.0.0`, versionBody(), [400, 'InvalidParameter', message]);
  };
  const generation = await into(
    'gen2',
    { hyperVGeneration: 'V2' },
    /^The resource with id '.*\/images\/base' has a different Hypervisor generation \['V1'\] than the parent gallery image Hypervisor generation \['V2'\]$/,
  );
  assert.equal(generation.target, 'properties.storageProfile.source.id');
  await into(
    'windows',
    { osType: 'Windows' },
    /has a different OS type \['Linux'\] than the parent gallery image OS type generation \['Windows'\]$/,
  );
  await into(
    'special',
    { osState: 'Specialized' },
    /^Cannot create Gallery Image Version from: .* since the OS State in the parent gallery image \('Specialized'\) is not 'Generalized'\.$/,
  );
  assert.equal((await send('GET', `${path}/1.0.0`)).status, 404, 'nothing was stored');
  await refused('PUT', `${GALLERY}/images/nothing/versions/1.0.0`, versionBody(), [
    404,
    'ParentResourceNotFound',
    /Parent resource 'tools\/nothing' not found/,
  ]);
});

test('who may not read the source cannot copy it', async () => {
  const path = await definition('guarded');
  const writer = await server.principal('gallery writer', { id: CONTRIBUTOR, scope: GALLERY });
  const answer = await send('PUT', `${path}/versions/1.0.0`, versionBody(), { token: writer.token });
  assert.deepEqual([answer.status, answer.body.error.code], [403, 'LinkedAuthorizationFailed']);
  assert.match(
    answer.body.error.message,
    /does not have permission to perform action 'Microsoft\.Compute\/images\/read'/,
  );
  const reader = await server.principal('gallery reader', { id: READER, scope: GALLERY });
  const denied = await send('PUT', `${path}/versions/1.0.0`, versionBody(), { token: reader.token });
  assert.deepEqual([denied.status, denied.body.error.code], [403, 'AuthorizationFailed']);
});

test('a version that is deleted is gone with its files, and its definition can be', async () => {
  const parent = await definition('deleted');
  const path = `${parent}/versions/1.0.0`;
  await version(path, [location, 'westus2']);
  await refused('DELETE', parent, undefined, [409, 'CannotDeleteResource', /nested resources/]);
  const { answer, ended } = await change('DELETE', path);
  assert.deepEqual([answer.status, ended.status], [202, 'Succeeded']);
  assert.match(String(answer.headers.location), /capsOperations\/[0-9a-f-]{36}\?monitor=true&api-version=/);
  assert.equal((await send('GET', path)).status, 404);
  assert.deepEqual(await files(path), []);
  assert.equal((await send('DELETE', path)).status, 204);
  // The same again: nothing of the first is in its way.
  await version(path, [location]);
  assert.deepEqual(await regionsOf(path), ['eastus2']);
  await change('DELETE', path);
  await change('DELETE', parent);
});

test('one that is to live until its end of life is kept', async () => {
  const path = `${await definition('blocked')}/versions/1.0.0`;
  const body = versionBody([location], { endOfLifeDate: '2999-01-01T00:00:00Z' });
  const safe = { ...body.properties, safetyProfile: { blockDeletionBeforeEndOfLife: true } };
  await change('PUT', path, { ...body, properties: safe }, { apiVersion: '2024-03-03' });
  await refused('DELETE', path, undefined, [409, 'Conflict', /before its end-of-life date, 2999/]);
  await change(
    'PATCH',
    path,
    { properties: { safetyProfile: { blockDeletionBeforeEndOfLife: false } } },
    { apiVersion: '2024-03-03' },
  );
  await change('DELETE', path);
});

const share = (body: object, gallery = GALLERY) => send('POST', `${gallery}/share`, body);
const locations = (subscription: string, path: string, region = location) =>
  `/subscriptions/${subscription}/providers/Microsoft.Compute/locations/${region}/${path}`;

test('a gallery is shared with subscriptions and tenants, who see what is ready where they look', async () => {
  const gallery = `${COMPUTE}/galleries/shared`;
  await change('PUT', gallery, { location, properties: {} });
  const add = { operationType: 'Add', groups: [{ type: 'Subscriptions', ids: [OTHER] }] };
  const early = await share(add, gallery);
  assert.deepEqual([early.status, early.body.error.target], [400, 'operationType']);
  await change('PUT', gallery, { location, properties: { sharingProfile: { permissions: 'Groups' } } });
  const parent = await definition('web', {}, gallery);
  await version(`${parent}/versions/1.0.0`, [location, 'westus2']);
  await version(`${parent}/versions/1.0.1`, [location], { excludeFromLatest: true });
  const unique = `${SUBSCRIPTION}-SHARED`;
  const root = `sharedGalleries/${unique}`;
  assert.deepEqual((await send('GET', locations(OTHER, 'sharedGalleries'))).body, { value: [] });
  assert.equal((await send('GET', locations(OTHER, root))).status, 404);

  const answer = await share(add, gallery);
  assert.deepEqual([answer.status, answer.body], [200, add]);
  const plain = (await send('GET', gallery)).body.properties;
  assert.deepEqual(plain.sharingProfile, { permissions: 'Groups' });
  assert.deepEqual(plain.sharingStatus.aggregatedState, 'Succeeded');
  assert.deepEqual(
    plain.sharingStatus.summary.map(({ region }: Body) => region),
    ['East US 2', 'West US 2'],
  );
  for (const query of ['$select=Permissions', '$expand=SharingProfile/Groups'])
    assert.deepEqual((await send('GET', `${gallery}?${query}`)).body.properties.sharingProfile, {
      permissions: 'Groups',
      groups: add.groups,
    });

  const uniqueId = `/SharedGalleries/${unique}`;
  const listed = (await send('GET', locations(OTHER, 'sharedGalleries'))).body.value;
  assert.deepEqual(listed, [{ name: unique, location, identifier: { uniqueId }, properties: { artifactTags: {} } }]);
  assert.deepEqual((await send('GET', locations(OTHER, `sharedGalleries?sharedTo=tenant`))).body.value, []);
  assert.deepEqual((await send('GET', locations(OTHER, root.toUpperCase(), 'West US 2'))).body.location, 'westus2');
  assert.equal((await send('GET', locations(OTHER, root, 'japaneast'))).status, 404);
  assert.equal((await send('GET', locations(SUBSCRIPTION, root))).status, 404, 'it is shared with the other one alone');
  const images = (await send('GET', locations(OTHER, `${root}/images`))).body.value;
  assert.deepEqual(
    images.map((one: Body) => [one.name, one.identifier.uniqueId, one.properties.osType]),
    [['web', `${uniqueId}/Images/web`, 'Linux']],
  );
  const versions = (
    await send('GET', locations(OTHER, `${root}/images/web/versions`), undefined, { apiVersion: '2022-03-03' })
  ).body.value;
  assert.deepEqual(
    versions.map((one: Body) => [one.name, one.identifier.uniqueId, one.properties.storageProfile.osDiskImage]),
    [['1.0.0', `${uniqueId}/Images/web/Versions/1.0.0`, { diskSizeGB: 1, hostCaching: 'ReadWrite' }]],
    'what is not to be taken for the latest is not listed',
  );
  assert.equal((await send('GET', locations(OTHER, `${root}/images/web/versions`))).body.value.length, 1);
  assert.equal((await send('GET', locations(OTHER, `${root}/images/WEB`))).body.name, 'web');
  const one = locations(OTHER, `${root}/images/web/versions/1.0.0`);
  assert.equal((await send('GET', one)).body.properties.excludeFromLatest, false);
  assert.equal((await send('GET', locations(OTHER, `${root}/images/web/versions/1.0.1`, 'westus2'))).status, 404);
  const stranger = await server.principal('stranger to shared galleries');
  assert.equal((await send('GET', one, undefined, { token: stranger.token })).status, 403);

  // Whom it is shared with makes versions of their own of it.
  const theirs = `/subscriptions/${OTHER}/resourceGroups/theirs`;
  await send('PUT', theirs, { location }, { apiVersion: '2021-04-01' });
  const own = `${theirs}/providers/Microsoft.Compute/galleries/own`;
  await change('PUT', own, { location });
  const target = `${await definition('web', {}, own)}/versions/1.0.0`;
  await version(target, [location], {}, { source: { id: `${uniqueId}/Images/web/Versions/1.0.0` } });
  assert.deepEqual(await regionsOf(target), ['eastus2']);

  await share({ operationType: 'Add', groups: [{ type: 'AADTenants', ids: [LOCAL_TENANT] }] }, gallery);
  assert.equal((await send('GET', locations(SUBSCRIPTION, 'sharedGalleries?sharedTo=tenant'))).body.value.length, 1);
  await share({ operationType: 'Remove', groups: [{ type: 'Subscriptions', ids: [OTHER.toUpperCase()] }] }, gallery);
  assert.deepEqual((await send('GET', locations(OTHER, 'sharedGalleries'))).body.value, []);
  assert.equal((await send('GET', one)).status, 200, 'by its tenant');
  await refused('PUT', gallery, { location, properties: { sharingProfile: { permissions: 'Private' } } }, [
    409,
    'PropertyChangeNotAllowed',
    /sharingProfile\.permissions' is not allowed/,
  ]);
  assert.equal((await share({ operationType: 'Reset' }, gallery)).status, 200);
  assert.equal((await send('GET', one)).status, 404);
  assert.deepEqual((await send('GET', gallery)).body.properties.sharingProfile, { permissions: 'Private' });
  for (const body of [
    {},
    { operationType: 'Steal' },
    { operationType: 'Add', groups: [{ type: 'Subscriptions', ids: ['x'] }] },
  ])
    assert.equal((await share(body, gallery)).status, 400);
});

test('a community gallery has a public name, and everybody reads it once it is open', async () => {
  const gallery = `${COMPUTE}/galleries/open`;
  const info = {
    publisherUri: 'https://example.org',
    publisherContact: 'a@example.org',
    eula: 'https://example.org/e',
  };
  const profile = (communityGalleryInfo: object) => ({
    location,
    properties: { sharingProfile: { permissions: 'Community', communityGalleryInfo } },
  });
  await refused('PUT', gallery, profile(info), [
    400,
    'InvalidParameter',
    /communityGalleryInfo\.publicNamePrefix' is missing/,
  ]);
  await change('PUT', gallery, profile({ ...info, publicNamePrefix: 'tools' }));
  const before = (await send('GET', gallery)).body.properties.sharingProfile.communityGalleryInfo;
  assert.equal(before.communityGalleryEnabled, false);
  const [name] = before.publicNames;
  assert.match(name, /^tools-[0-9a-f-]{36}$/);
  const parent = await definition('web', {}, gallery);
  await version(`${parent}/versions/1.0.0`);
  const at = locations(OTHER, `communityGalleries/${name}`);
  assert.equal((await send('GET', at)).status, 404);
  assert.deepEqual((await share({ operationType: 'EnableCommunity' }, gallery)).body, {
    operationType: 'EnableCommunity',
  });
  const seen = (await send('GET', at)).body;
  assert.deepEqual(
    [seen.name, seen.type, seen.identifier.uniqueId],
    [name, 'Microsoft.Compute/locations/communityGallery', `/CommunityGalleries/${name}`],
  );
  assert.deepEqual(seen.properties.communityMetadata, { ...info, publicNames: [name] });
  const uniqueId = `/CommunityGalleries/${name}/Images/web/Versions/1.0.0`;
  assert.equal((await send('GET', `${at}/images/web/versions/1.0.0`)).body.identifier.uniqueId, uniqueId);
  assert.equal((await send('GET', `${at}/images`)).body.value.length, 1);
  assert.equal((await send('GET', `${at}/images/web`)).body.type, 'Microsoft.Compute/locations/communityGalleryImage');
  assert.equal((await send('GET', `${at}/images/web/versions`)).body.value.length, 1);
  assert.equal(
    (await send('GET', `${at}/images/web/versions`, undefined, { apiVersion: '2022-03-03' })).body.value.length,
    1,
  );
  const target = `${await definition('fromCommunity')}/versions/1.0.0`;
  const made = await version(target, [location], {}, { source: { communityGalleryImageId: uniqueId } });
  assert.equal(made.properties.storageProfile.source.communityGalleryImageId, uniqueId);
  await share({ operationType: 'Reset' }, gallery);
  assert.equal((await send('GET', at)).status, 404);
});

test('a template builds from a shared image while it is shared, and what latest is is said at once', async () => {
  const gallery = `${COMPUTE}/galleries/sources`;
  await change('PUT', gallery, { location, properties: { sharingProfile: { permissions: 'Groups' } } });
  const parent = await definition('base', {}, gallery);
  await version(`${parent}/versions/1.0.0`);
  await version(`${parent}/versions/1.2.0`);
  await version(`${parent}/versions/1.10.0`, [location], {
    endOfLifeDate: new Date(Date.now() + 1_000_000).toISOString(),
  });
  await version(`${parent}/versions/3.0.0`, [{ name: location, excludeFromLatest: true }]);
  const identity = `/subscriptions/${OTHER}/resourceGroups/builders/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
  const theirs = `/subscriptions/${OTHER}/resourceGroups/builders`;
  await send('PUT', theirs, { location }, { apiVersion: '2021-04-01' });
  const made = await send('PUT', identity, { location }, { apiVersion: '2023-01-31' });
  assert.equal(made.status, 201, made.text);
  await send(
    'PUT',
    `${theirs}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`,
    {
      properties: {
        roleDefinitionId: `/subscriptions/${OTHER}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`,
        principalId: made.body.properties.principalId,
        principalType: 'ServicePrincipal',
      },
    },
    { apiVersion: '2022-04-01' },
  );
  const template = async (name: string, imageVersionId: string) => {
    const id = `${theirs}/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;
    const answer = await send(
      'PUT',
      id,
      {
        location,
        identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } },
        properties: {
          source: { type: 'SharedImageVersion', imageVersionId },
          distribute: [{ type: 'VHD', runOutputName: 'vhd' }],
        },
      },
      { apiVersion: '2024-02-01' },
    );
    assert.equal(answer.status, 201, answer.text);
    await server.settled(answer);
    return (await send('GET', id, undefined, { apiVersion: '2024-02-01' })).body.properties;
  };
  const root = `/SharedGalleries/${SUBSCRIPTION}-SOURCES/images/base/versions`;
  const before = await template('before', `${root}/latest`);
  assert.equal(before.provisioningState, 'Failed');
  assert.match(before.provisioningError.message, /not shared with the template's subscription/);
  await share({ operationType: 'Add', groups: [{ type: 'Subscriptions', ids: [OTHER] }] }, gallery);
  for (const [name, id] of [
    ['short', `${root}/latest`],
    [
      'long',
      `/subscriptions/${OTHER}/providers/Microsoft.Compute/locations/${location}${root.replace('/S', '/s')}/latest`,
    ],
  ] as const) {
    const { provisioningState, source } = await template(name, id);
    assert.deepEqual([provisioningState, source.imageVersionId], ['Succeeded', id]);
    assert.equal(source.exactVersion, `${parent}/versions/1.10.0`);
  }
  const triggered = await send(
    'PUT',
    `${theirs}/providers/Microsoft.VirtualMachineImages/imageTemplates/short/triggers/source`,
    { properties: { kind: 'SourceImage' } },
    { apiVersion: '2024-02-01' },
  );
  assert.equal(triggered.status, 201, triggered.text);
  assert.equal(
    ((await server.settled(triggered)).body as Body).status,
    'Succeeded',
    'a trigger watches a shared image',
  );
  const { source } = await template('exact', `${root}/1.2.0`);
  assert.equal(source.exactVersion, `${parent}/versions/1.2.0`);
});

test('answers are as the OpenAPI files have them, and nothing failed inside', t => {
  // Applications are no images, and Kiln has none.
  const galleries = (server.contract?.operations ?? []).filter(
    name => /^(2022-03-03|2023-07-03) .*galleries/i.test(name) && !/applications/i.test(name),
  );
  const asked = galleries.filter(name => name.startsWith(VERSION) && !server.covered.has(name));
  if (server.contract) assert.deepEqual(asked, [], 'every operation on galleries was judged');
  else t.diagnostic("Microsoft's OpenAPI files are not there: answers were not judged.");
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
