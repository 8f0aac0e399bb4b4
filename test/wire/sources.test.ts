/** What a template may start from, over HTTP: plans of platform images, regions, subscriptions, generalized images, and images that were built on images. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CONTRIBUTOR } from '../../src/arm/role-ids.ts';
import { galleryImageVersions } from '../../src/providers/compute/gallery-image-versions.ts';
import { putValidated } from '../../src/providers/life.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type Ground, makeGround, NEWEST, plainTemplate } from './ground.ts';
import { storeDisk, storeManagedImage } from './images-store.ts';

const OTHER = '00000000-0000-4000-8000-000000000002';
const GALLERIES = '2023-07-03';
const GROUPS = '2021-04-01';
const PLAN = { name: 'basic', product: 'linux', publisher: 'seller' };

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers
type Wire = any;

let server: TestServer;
let ground: Ground;

before(async () => {
  server = await startTestServer({
    subscriptions: [OTHER],
    catalogue: { 'Canonical:UbuntuServer:18.04-LTS': '18.4.0', 'Seller:linux:basic': '1.0.0' },
    async prepare(home) {
      const path = join(home, 'catalogue.json');
      const entries = JSON.parse(await readFile(path, 'utf8')) as Record<string, object>;
      entries['Seller:linux:basic'] = { ...entries['Seller:linux:basic'], plan: PLAN };
      await writeFile(path, JSON.stringify(entries));
    },
  });
  ground = await makeGround(server, 'sources');
});
after(() => server?.close());

interface Made {
  readonly path: string;
  readonly status: string;
  readonly source: Wire;
  readonly error: Wire;
}

async function make(name: string, source: object, distribute?: readonly object[], location = 'westus'): Promise<Made> {
  const path = ground.template(name);
  const whole = plainTemplate(ground) as Wire;
  const properties = { ...whole.properties, source, ...(distribute && { distribute }) };
  const made = await server.request('PUT', path, { apiVersion: NEWEST, body: { ...whole, location, properties } });
  assert.equal(made.status, 201, made.text);
  await server.settled(made);
  const shown = ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
  return { path, status: shown.provisioningState, source: shown.source, error: shown.provisioningError };
}

function assertRefused({ status, error }: Made, code: string, message: RegExp): void {
  assert.equal(status, 'Failed');
  assert.equal(error.provisioningErrorCode, code);
  assert.match(error.message, message);
}

async function run(path: string): Promise<Wire> {
  const operation = (await server.settled(await server.request('POST', `${path}/run`, { apiVersion: NEWEST })))
    .body as Wire;
  assert.equal(operation.status, 'Succeeded', JSON.stringify(operation.error));
  return ((await server.request('GET', path, { apiVersion: NEWEST })).body as Wire).properties;
}

const managed = (imageId: string) => ({ type: 'ManagedImage', imageId });
const image = (name: string, subscription = SUBSCRIPTION) =>
  `/subscriptions/${subscription}/resourceGroups/sources/providers/Microsoft.Compute/images/${name}`;
const versionOf = (imageVersionId: string) => ({ type: 'SharedImageVersion', imageVersionId });

async function definition(name: string, more: object = {}): Promise<string> {
  const id = ground.definitionId.replace(/definition$/, name);
  const identifier = { publisher: 'p', offer: 'o', sku: name };
  const properties = { osType: 'Linux', osState: 'Generalized', hyperVGeneration: 'V1', identifier, ...more };
  const made = await server.request('PUT', id, { apiVersion: GALLERIES, body: { location: 'westus', properties } });
  assert.equal(made.status, 201, made.text);
  return id;
}

const platform = { type: 'PlatformImage', publisher: 'seller', offer: 'linux', sku: 'basic', version: 'latest' };
const planInfo = { planName: 'basic', planProduct: 'linux', planPublisher: 'seller' };

test('a platform image with a plan: it is shown, and a template has to name it, all three fields', async () => {
  const shown = await server.request(
    'GET',
    `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Compute/locations/westus/publishers/Seller/artifacttypes/vmimage/offers/linux/skus/basic/versions/1.0.0`,
    { apiVersion: '2024-07-01' },
  );
  assert.deepEqual((shown.body as Wire).properties.plan, PLAN, shown.text);
  assertRefused(
    await make('planless', platform),
    'BadPIRSource',
    /^The platform image 'seller:linux:basic' has a purchase plan: 'planInfo' is required\.$/,
  );
  for (const field of ['planName', 'planProduct', 'planPublisher'] as const)
    assertRefused(
      await make(`wrong-${field}`, { ...platform, planInfo: { ...planInfo, [field]: 'other' } }),
      'BadPIRSource',
      new RegExp(`^The ${field} 'other' is not that of the platform image 'seller:linux:basic', which is '`),
    );
  const { path, status } = await make('planned', { ...platform, planInfo: { ...planInfo, planPublisher: 'SELLER' } });
  assert.equal(status, 'Succeeded');
  assert.equal((await run(path)).lastRunStatus.runState, 'Succeeded');
  // Where nobody knows of a plan, what the template says is taken as it is.
  const whole = plainTemplate(ground) as Wire;
  assert.equal((await make('unknown-plan', { ...whole.properties.source, planInfo })).status, 'Succeeded');
});

test('a managed image is in the subscription and the region of the template', async () => {
  await storeManagedImage(server.service, { id: image('far'), location: 'eastus' });
  assertRefused(
    await make('far', managed(image('far'))),
    'BadManagedImageSource',
    /^Build \(Managed Image\) step failed: Error getting Managed Image '[^']+far': .* is in eastus, not in the template's region westus\.$/,
  );
  assert.equal((await make('near', managed(image('far')), undefined, 'eastus')).status, 'Succeeded');

  const theirs = `/subscriptions/${OTHER}/resourceGroups/sources`;
  const group = await server.request('PUT', theirs, { apiVersion: GROUPS, body: { location: 'westus' } });
  assert.equal(group.status, 201, group.text);
  const { principalId } = ((await server.request('GET', ground.identityId, { apiVersion: '2023-01-31' })).body as Wire)
    .properties;
  const role = await server.request(
    'PUT',
    `${theirs}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`,
    {
      apiVersion: '2022-04-01',
      body: {
        properties: {
          roleDefinitionId: `/subscriptions/${OTHER}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`,
          principalId,
          principalType: 'ServicePrincipal',
        },
      },
    },
  );
  assert.equal(role.status, 201, role.text);
  await storeManagedImage(server.service, { id: image('theirs', OTHER), location: 'westus' });
  assertRefused(
    await make('elsewhere', managed(image('theirs', OTHER))),
    'BadManagedImageSource',
    /is in another subscription than the image template\.$/,
  );
});

test('a gallery version has to be in the region of the template; latest is the newest that is', async () => {
  const id = await definition('regional');
  const target = (targetRegions: readonly object[], version: string, more: object = {}) => [
    { type: 'SharedImage', runOutputName: 'out', galleryImageId: `${id}/versions/${version}`, targetRegions, ...more },
  ];
  const platformSource = (plainTemplate(ground) as Wire).properties.source;
  const both = [{ name: 'westus' }, { name: 'eastus' }];
  await run((await make('v1', platformSource, target(both, '1.0.0'))).path);
  await run((await make('v2', platformSource, target([{ name: 'westus' }], '2.0.0'))).path);
  await run((await make('v3', platformSource, target(both, '3.0.0', { excludeFromLatest: true }))).path);

  assertRefused(
    await make('east-2', versionOf(`${id}/versions/2.0.0`), undefined, 'eastus'),
    'BadSharedImageVersionSource',
    /^Build \(Shared Image Version\) step failed for Image Version '[^']+2\.0\.0': Error getting Image Version '[^']+2\.0\.0': .* is in westus, not in the template's region eastus\.$/,
  );
  for (const [location, newest] of [
    ['eastus', '1.0.0'],
    ['westus', '2.0.0'],
  ] as const) {
    const { status, source } = await make(
      `latest-${location}`,
      versionOf(`${id}/versions/latest`),
      undefined,
      location,
    );
    assert.deepEqual([status, source.exactVersion], ['Succeeded', `${id}/versions/${newest}`]);
    assert.equal(source.imageVersionId, `${id}/versions/latest`);
  }
  // What is excluded from latest can be named.
  assert.equal((await make('named', versionOf(`${id}/versions/3.0.0`))).source.exactVersion, `${id}/versions/3.0.0`);
});

test('images are built on images on images; latest is asked for at each run, and exactVersion says what it was', async () => {
  const [first, second] = [await definition('first'), await definition('second')];
  const into = (galleryImageId: string) => [
    { type: 'SharedImage', runOutputName: 'out', galleryImageId, targetRegions: [{ name: 'westus' }] },
  ];
  const one = await make('one', (plainTemplate(ground) as Wire).properties.source, into(first));
  await run(one.path);
  const two = await make('two', versionOf(`${first}/versions/latest`), into(second));
  await run(two.path);
  const three = await make('three', versionOf(`${second}/versions/latest`), [
    { type: 'ManagedImage', runOutputName: 'out', imageId: image('third'), location: 'westus' },
  ]);
  assert.equal((await run(three.path)).source.exactVersion, `${second}/versions/1.0.0`);
  const four = await make('four', managed(image('third')), [{ type: 'VHD', runOutputName: 'vhd' }]);
  const { lastRunStatus, source } = await run(four.path);
  assert.deepEqual([lastRunStatus.runState, source.exactVersion], ['Succeeded', undefined]);

  // A new version of the first: the second is built on it at its next run, whatever it said when it was made.
  await run(one.path);
  const { source: now } = (await run(two.path)) as Wire;
  assert.equal(now.exactVersion, `${first}/versions/1.0.1`);
  assert.equal((await run(three.path)).source.exactVersion, `${second}/versions/1.0.1`);
});

test('specialized images are no sources', async () => {
  const id = await definition('specialized', { osState: 'Specialized' });
  const version = `${id}/versions/1.0.0`;
  await putValidated(server.service.database.kysely, galleryImageVersions, {
    id: version,
    apiVersion: GALLERIES,
    body: {
      location: 'westus',
      properties: { publishingProfile: {}, storageProfile: { source: { id: image('none') } } },
    },
    known: { provisioningState: 'Succeeded' },
  });
  await storeDisk(server.service, { id: version, location: 'westus' });
  for (const name of ['1.0.0', 'latest'])
    assertRefused(
      await make(`specialized-${name}`, versionOf(`${id}/versions/${name}`)),
      'BadSharedImageVersionSource',
      new RegExp(
        `^Build \\(Shared Image Version\\) step failed for Image Version '${id}/versions/${name}': Error getting Image Version '${id}/versions/${name}': It is specialized, and Image Builder takes generalized images\\.$`,
      ),
    );
});

test('nothing failed inside, and answers were of the OpenAPI files', () => {
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
