/** Gallery versions as templates publish them, over HTTP: which number they get, and what is written into the version and into its regions. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { list } from '../../src/images/store.ts';
import { galleryImageVersions } from '../../src/providers/compute/gallery-image-versions.ts';
import { putValidated } from '../../src/providers/life.ts';
import { startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';

const GALLERIES = '2023-07-03';

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers
type Wire = any;

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer();
  ground = await makeGround(server, 'published');
});
after(() => server?.close());

/** An image definition of its own, with versions that are nothing but rows. */
async function definition(name: string, versions: readonly string[] = [], more: object = {}): Promise<string> {
  const id = `${ground.definitionId.replace(/definition$/, '')}${name}`;
  const identifier = { publisher: 'p', offer: 'o', sku: name };
  const properties = { osType: 'Linux', osState: 'Generalized', hyperVGeneration: 'V1', identifier, ...more };
  const made = await server.request('PUT', id, { apiVersion: GALLERIES, body: { location: 'westus', properties } });
  assert.equal(made.status, 201, made.text);
  for (const version of versions)
    await putValidated(server.service.database.kysely, galleryImageVersions, {
      id: `${id}/versions/${version}`,
      apiVersion: GALLERIES,
      body: {
        location: 'westus',
        properties: {
          publishingProfile: {},
          storageProfile: { source: { id: `${ground.group}/providers/Microsoft.Compute/images/none` } },
        },
      },
      known: { provisioningState: 'Succeeded' },
    });
  return id;
}

const shared = (galleryImageId: string, more: object = {}): Wire => ({
  type: 'SharedImage',
  runOutputName: 'out',
  galleryImageId,
  ...more,
});

function template(distribute: readonly object[]): Wire {
  const whole = plainTemplate(ground) as Wire;
  return { ...whole, properties: { ...whole.properties, distribute } };
}

interface Made {
  readonly path: string;
  readonly provisioningState: string;
  readonly error: { readonly code: string; readonly message: string; readonly target?: string } | undefined;
  readonly provisioningError: Wire;
}

async function make(name: string, distribute: readonly object[], apiVersion = NEWEST): Promise<Made> {
  const path = ground.template(name);
  const made = await server.request('PUT', path, { apiVersion, body: template(distribute) });
  assert.equal(made.status, 201, made.text);
  const { error } = (await server.settled(made)).body as Wire;
  const { provisioningState, provisioningError } = ((await server.request('GET', path, { apiVersion })).body as Wire)
    .properties;
  return { path, provisioningState, error, provisioningError };
}

/** @returns the operation, and what is said in lastRunStatus. */
async function run(path: string): Promise<Wire> {
  const begun = await server.request('POST', `${path}/run`, { apiVersion: NEWEST });
  assert.equal(begun.status, 202, begun.text);
  const operation = (await server.settled(begun)).body as Wire;
  const { lastRunStatus } = ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
  return { ...operation, lastRunStatus };
}

async function succeed(path: string): Promise<void> {
  const { status, error } = await run(path);
  assert.equal(status, 'Succeeded', JSON.stringify(error));
}

/** The number of the version that a run output names. */
async function number(path: string, output = 'out'): Promise<string> {
  const { body } = await server.request('GET', `${path}/runOutputs/${output}`, { apiVersion: NEWEST });
  return String((body as Wire).properties.artifactId)
    .split('/')
    .at(-1)!;
}

const version = async (id: string): Promise<Wire> => (await server.request('GET', id, { apiVersion: GALLERIES })).body;

const replicas = async (id: string) =>
  (await list(server.service.home.root)).filter(({ manifest }) => manifest.id.toLowerCase() === id.toLowerCase());

test("Latest: the documentation's own example, and what follows it", async () => {
  const existing = ['0.1.1', '0.1.2', '1.0.0', '1.0.1', '1.1.0', '1.1.1', '1.2.0', '2.0.0', '2.0.1', '2.1.0'];
  const id = await definition('latest', existing);
  const { path } = await make('latest', [
    shared(id, { runOutputName: 'unset' }),
    shared(id, { runOutputName: 'one', versioning: { scheme: 'Latest', major: 1 } }),
    shared(id, { runOutputName: 'zero', versioning: { scheme: 'Latest', major: 0 } }),
    shared(id, { runOutputName: 'any', versioning: { scheme: 'Latest', major: -1 } }),
    shared(id, { runOutputName: 'two', versioning: { scheme: 'Latest', major: 2 } }),
    shared(id, { runOutputName: 'new', versioning: { scheme: 'Latest', major: 7 } }),
  ]);
  await succeed(path);
  const numbers = await Promise.all(['unset', 'one', 'zero', 'any', 'two', 'new'].map(name => number(path, name)));
  // Each sees the ones before it.
  assert.deepEqual(numbers, ['2.1.1', '1.2.1', '0.1.3', '2.1.2', '2.1.3', '7.0.1']);
});

test('Latest: a full patch is followed by the next minor; a major that is full has no version left, which is told', async () => {
  const most = 2 ** 31 - 1;
  const id = await definition('full', [`1.4.${most}`, `3.${most}.${most}`]);
  const { path } = await make('full', [
    shared(id, { runOutputName: 'one', versioning: { scheme: 'Latest', major: 1 } }),
    shared(id, { runOutputName: 'three', versioning: { scheme: 'Latest', major: 3 } }),
  ]);
  const { status, lastRunStatus } = await run(path);
  assert.deepEqual([status, lastRunStatus.runState], ['Failed', 'PartiallySucceeded']);
  assert.equal(
    lastRunStatus.message,
    'Failed in distributing 1 images out of total 2: {[Error 0] [Distribute 1] SharedImage "gallery/full": The definition has no version number left after its highest one.}',
  );
  assert.equal(await number(path, 'one'), '1.5.0');
});

test('Source: the number of the source, and the next ones after it', async () => {
  const id = await definition('source');
  const { path } = await make('source', [shared(id, { versioning: { scheme: 'Source' } })]);
  const numbers: string[] = [];
  for (let built = 0; built < 2; built++) {
    await succeed(path);
    numbers.push(await number(path));
  }
  assert.deepEqual(numbers, ['18.4.0', '18.4.1']);
  const refused = await server.request('PUT', ground.template('versionless'), {
    apiVersion: NEWEST,
    body: {
      ...template([]),
      properties: {
        source: { type: 'ManagedImage', imageId: `${ground.group}/providers/Microsoft.Compute/images/none` },
        distribute: [shared(id, { versioning: { scheme: 'Source' } })],
      },
    },
  });
  assert.equal(refused.status, 400, refused.text);
  assert.match(
    (refused.body as Wire).error.message,
    /^Validation failed: 'ImageTemplate\.properties\.distribute\[0\]\.versioning': The scheme 'Source' needs a source with a version, which a managed image has not\./,
  );
});

test('older api-versions have numbers of the clock, which go on where they are taken', async () => {
  const id = await definition('legacy');
  const target = shared(id, { replicationRegions: ['westus'] });
  const { path } = await make('legacy', [target, { ...target, runOutputName: 'second' }], '2021-10-01');
  const before = Math.floor(Date.now() / 1000);
  await succeed(path);
  const after = Math.floor(Date.now() / 1000);
  const seconds = async (output: string) => {
    const [zero, high, low] = (await number(path, output)).split('.').map(Number);
    assert.equal(zero, 0);
    return high! * 65536 + low!;
  };
  const [first, second] = [await seconds('out'), await seconds('second')];
  assert.ok(before <= first && first <= after, `${before} ${first} ${after}`);
  assert.ok(second > first);
});

test('an explicit version is used once: the second run fails before it builds anything, and says what to do', async () => {
  const id = await definition('explicit');
  const { path } = await make('explicit', [shared(`${id}/versions/1.2.3`)]);
  await succeed(path);
  assert.equal(await number(path), '1.2.3');
  const made = await replicas(`${id}/versions/1.2.3`);
  server.machines.hold();
  try {
    // No machine is started for it: it would wait for ever.
    const { status, error, lastRunStatus } = await run(path);
    assert.deepEqual([status, error.code, lastRunStatus.runState], ['Failed', 'Conflict', 'Failed']);
    assert.match(lastRunStatus.message, /The image version 1\.2\.3 exists already\.$/);
  } finally {
    server.machines.release();
  }
  // What the first run made stands, and is what the output names.
  assert.deepEqual(
    (await replicas(`${id}/versions/1.2.3`)).map(({ manifest }) => manifest.runId),
    made.map(({ manifest }) => manifest.runId),
  );
  assert.equal(await number(path), '1.2.3');

  const { path: same } = await make('explicit-same', [shared(`${id}/versions/01.2.03`)]);
  assert.equal((await run(same)).error.code, 'Conflict', 'the same numbers, written otherwise');
});

test('target regions, counts, storage and flags are in the version, and its files in each region', async () => {
  const id = await definition('regions');
  const { path } = await make('regions', [
    shared(id, {
      targetRegions: [
        { name: 'West US', replicaCount: 2 },
        { name: 'eastus2', storageAccountType: 'Standard_ZRS' },
      ],
      excludeFromLatest: true,
      artifactTags: { a: 'b' },
    }),
  ]);
  await succeed(path);
  const artifact = `${id}/versions/${await number(path)}`;
  const { properties, tags, location } = await version(artifact);
  const { publishedDate, ...profile } = properties.publishingProfile;
  assert.ok(Date.parse(publishedDate));
  assert.deepEqual(profile, {
    targetRegions: [
      { name: 'West US', regionalReplicaCount: 2, storageAccountType: 'Standard_LRS' },
      { name: 'East US 2', regionalReplicaCount: 1, storageAccountType: 'Standard_ZRS' },
    ],
    replicaCount: 1,
    excludeFromLatest: true,
    storageAccountType: 'Standard_LRS',
  });
  assert.equal(location, 'westus');
  assert.equal(tags.a, 'b');
  assert.match(tags.correlationId, /^[0-9a-f-]{36}$/);
  const stored = await replicas(artifact);
  assert.deepEqual(stored.map(({ manifest }) => manifest.location).sort(), ['eastus2', 'westus']);
  for (const { manifest } of stored) assert.deepEqual(manifest.tags, tags);
  const status = (await version(`${artifact}?$expand=ReplicationStatus`)).properties.replicationStatus;
  assert.equal(status.aggregatedState, 'Completed');
});

test('replicationRegions have one kind of storage; an empty list beside a full one is none', async () => {
  const id = await definition('older');
  const { path } = await make('older', [
    shared(id, { replicationRegions: ['westus', 'West US 2'], storageAccountType: 'Premium_LRS', targetRegions: [] }),
  ]);
  await succeed(path);
  const { publishingProfile } = (await version(`${id}/versions/${await number(path)}`)).properties;
  assert.deepEqual(publishingProfile.targetRegions, [
    { name: 'West US', regionalReplicaCount: 1, storageAccountType: 'Premium_LRS' },
    { name: 'West US 2', regionalReplicaCount: 1, storageAccountType: 'Premium_LRS' },
  ]);
  assert.equal(publishingProfile.storageAccountType, 'Premium_LRS');
  assert.equal('replicationMode' in publishingProfile, false);
});

test('Shallow replicas are names of one file, of builds and of callers; Full ones of callers are files of their own', async () => {
  const id = await definition('modes');
  const regions = [{ name: 'westus' }, { name: 'eastus2' }];
  const { path } = await make('modes', [shared(id, { targetRegions: regions, replicationMode: 'Shallow' })]);
  await succeed(path);
  const built = `${id}/versions/${await number(path)}`;
  assert.equal((await version(built)).properties.publishingProfile.replicationMode, 'Shallow');
  const inodes = async (artifact: string) =>
    new Set(await Promise.all((await replicas(artifact)).map(async one => (await stat(one.path)).ino)));
  assert.equal((await inodes(built)).size, 1);
  for (const [name, replicationMode, files] of [
    ['5.0.0', 'Shallow', 1],
    ['5.0.1', 'Full', 2],
  ] as const) {
    const made = await server.request('PUT', `${id}/versions/${name}`, {
      apiVersion: GALLERIES,
      body: {
        location: 'westus',
        properties: {
          publishingProfile: { targetRegions: regions, replicationMode },
          storageProfile: { source: { id: built } },
        },
      },
    });
    assert.equal(made.status, 201, made.text);
    assert.equal(((await server.settled(made)).body as Wire).status, 'Succeeded');
    assert.equal((await replicas(`${id}/versions/${name}`)).length, 2);
    const own = await inodes(`${id}/versions/${name}`);
    assert.equal(own.size, files, replicationMode);
    const others = await inodes(built);
    assert.equal(
      [...own].some(inode => others.has(inode)),
      replicationMode === 'Shallow',
    );
  }
  // The last name keeps the bytes.
  const gone = await server.request('DELETE', built, { apiVersion: GALLERIES });
  assert.equal(((await server.settled(gone)).body as Wire).status, 'Succeeded');
  for (const one of await replicas(`${id}/versions/5.0.0`)) assert.ok((await stat(one.path)).size > 0);
});

test('what the gallery would refuse after the build is refused when the template is made, at its place in the template', async () => {
  const id = await definition('refused');
  const cases: [more: object, target: string, message: RegExp][] = [
    [
      { targetRegions: [{ name: 'eastus' }, { name: 'westus', storageAccountType: 'Standard_ZRS' }] },
      'targetRegions[1].storageAccountType',
      /^ZRS storage account type is not supported in this region\.$/,
    ],
    [
      { replicationRegions: ['westus'], storageAccountType: 'Standard_ZRS' },
      'storageAccountType',
      /^ZRS storage account type is not supported in this region\.$/,
    ],
    [
      { targetRegions: [{ name: 'westus', replicaCount: 101 }] },
      'targetRegions[0].replicaCount',
      /regionalReplicaCount is invalid\./,
    ],
  ];
  for (const [index, [more, target, message]] of cases.entries()) {
    const { provisioningState, error, provisioningError } = await make(`refused-${index}`, [shared(id, more)]);
    assert.equal(provisioningState, 'Failed', JSON.stringify(more));
    assert.match(error!.message, message);
    assert.equal(provisioningError.provisioningErrorCode, 'BadSharedImageDistribute');
    assert.match(provisioningError.message, message);
    assert.equal(error!.target, `properties.distribute[0].${target}`);
  }
  const specialized = await definition('specialized', [], { osState: 'Specialized' });
  const { provisioningError } = await make('specialized', [shared(specialized)]);
  assert.equal(provisioningError.provisioningErrorCode, 'BadSharedImageDistribute');
  assert.match(provisioningError.message, /is for specialized ones\.$/);
});

test("regions without the definition's own are taken with the template, and refused by the run before it builds; the other targets get their image", async () => {
  const id = await definition('elsewhere');
  const refusal =
    / Gallery image version publishing profile regions East US must contain the location of image version West US$/;
  for (const [name, more, target] of [
    ['target-regions', { targetRegions: [{ name: 'eastus' }] }, 'targetRegions'],
    ['replication-regions', { replicationRegions: ['eastus'] }, 'replicationRegions'],
  ] as const) {
    const { path, provisioningState } = await make(name, [shared(id, more)]);
    assert.equal(provisioningState, 'Succeeded');
    const { status, error } = await run(path);
    assert.equal(status, 'Failed');
    assert.match(error.message, refusal);
    assert.equal(error.target, `properties.distribute[0].${target}`);
    assert.equal((await server.request('GET', `${path}/runOutputs/out`, { apiVersion: NEWEST })).status, 404);
  }
  const { path } = await make('one-elsewhere', [
    shared(id, { targetRegions: [{ name: 'eastus' }] }),
    { type: 'VHD', runOutputName: 'disk' },
  ]);
  const { lastRunStatus } = await run(path);
  assert.equal(lastRunStatus.runState, 'PartiallySucceeded');
  assert.equal((await server.request('GET', `${path}/runOutputs/disk`, { apiVersion: NEWEST })).status, 200);
});

test('a definition of another kind is refused when a template is changed to it, and by the run where it has become such since', async () => {
  const [fit, unfit] = [await definition('fit'), await definition('unfit', [], { hyperVGeneration: 'V2' })];
  const message = /The source image has the hyperVGeneration 'V1', but the image definition .*fit is for 'V2'\.$/;
  const { path } = await make('changed', [shared(fit)]);
  const changed = await server.request('PATCH', path, {
    apiVersion: NEWEST,
    body: { properties: { distribute: [shared(unfit)] } },
  });
  const refused = (await server.settled(changed)).body as Wire;
  assert.deepEqual([refused.status, refused.error.code], ['Failed', 'ValidationFailed']);
  assert.match(refused.error.message, message);

  await server.settled(await server.request('DELETE', fit, { apiVersion: GALLERIES }));
  await definition('fit', [], { hyperVGeneration: 'V2' });
  server.machines.hold();
  try {
    const { status, error } = await run(path);
    assert.deepEqual([status, error.code], ['Failed', 'ValidationFailed']);
    assert.match(error.message, message);
  } finally {
    server.machines.release();
  }
});

test('nothing failed inside, and answers were of the OpenAPI files', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
