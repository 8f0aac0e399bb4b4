import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { READER } from '../../src/arm/role-ids.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';

let server: TestServer;
before(async () => {
  server = await startTestServer({
    catalogue: { 'Contoso:linux:1-gen2': '1.10.0', 'Contoso:linux:2': '2.0.0', 'contoso:appliance:1': '1.0.0' },
  });
});
after(() => server.close());

interface Item {
  readonly id: string;
  readonly name: string;
  readonly location: string;
  readonly properties?: Record<string, unknown>;
}

const LOCATION = `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Compute/locations`;
const VERSIONS = `${LOCATION}/westus2/publishers/contoso/artifacttypes/vmimage/offers/linux/skus/1-gen2/versions`;
const get = (path: string, token?: string) =>
  server.request('GET', path, { apiVersion: '2024-07-01', ...(token !== undefined && { token }) });

async function items(path: string): Promise<Item[]> {
  const { status, body, text } = await get(path);
  assert.equal(status, 200, text);
  assert.ok(Array.isArray(body), 'a bare array');
  return body as Item[];
}

test('publishers, offers, SKUs and versions lead to an image, in any casing and in every region', async () => {
  const publishers = await items(`${LOCATION}/West US 2/publishers`);
  const names = publishers.map(({ name }) => name);
  assert.deepEqual(
    names,
    names.toSorted((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1)),
  );
  assert.equal(new Set(names.map(name => name.toLowerCase())).size, names.length);
  for (const name of ['Canonical', 'Contoso', 'Debian']) assert.ok(names.includes(name), name);
  const contoso = publishers.find(({ name }) => name === 'Contoso')!;
  const id = `/Subscriptions/${SUBSCRIPTION}/Providers/Microsoft.Compute/Locations/westus2/Publishers/Contoso`;
  assert.deepEqual(contoso, { location: 'westus2', name: 'Contoso', id });

  const offers = await items(`${LOCATION}/westus2/publishers/CONTOSO/artifacttypes/vmimage/offers`);
  assert.deepEqual(
    offers.map(({ name }) => name),
    ['appliance', 'linux'],
  );
  // An id leads on, as it stands.
  const skus = await items(`${offers[1]!.id}/skus`);
  assert.deepEqual(
    skus.map(({ name }) => name),
    ['1-gen2', '2'],
  );
  const versions = await items(`${skus[0]!.id}/versions`);
  assert.deepEqual(
    versions.map(({ name, properties }) => ({ name, properties })),
    [{ name: '1.10.0', properties: undefined }],
  );
  const answer = await get(versions[0]!.id);
  assert.equal(answer.status, 200);
  const { properties, ...rest } = answer.body as Item;
  assert.deepEqual(rest, versions[0]);
  assert.deepEqual(properties, {
    hyperVGeneration: 'V1',
    architecture: 'x64',
    osDiskImage: { operatingSystem: 'Linux' },
    dataDiskImages: [],
    automaticOSUpgradeProperties: { automaticOSUpgradeSupported: false },
    disallowed: { vmDiskType: 'None' },
    features: [],
    imageDeprecationStatus: { imageState: 'Active' },
  });
  const [expanded] = await items(`${VERSIONS}?$expand=properties/imageDeprecationStatus`);
  assert.deepEqual(expanded!.properties, properties);
});

test('versions are cut and ordered by number; other orders are refused', async () => {
  // The cache knows older ones: what builds have used.
  const { acquirePlatformImage } = await import('../../src/images/catalogue/acquire.ts');
  const { userCatalogue } = await import('../../src/providers/image-builder/source-image.ts');
  const { home } = server.service;
  const userEntries = await userCatalogue({ home });
  const entries = userEntries.entries.map(entry =>
    entry.sku === '1-gen2' ? { ...entry, origin: { ...entry.origin, version: '1.9.0' } as typeof entry.origin } : entry,
  );
  const reference = { publisher: 'Contoso', offer: 'linux', sku: '1-gen2', version: 'latest' };
  await acquirePlatformImage(reference, { cacheDirectory: home.sources, userEntries: { ...userEntries, entries } });

  const names = async (query: string) => (await items(`${VERSIONS}?${query}`)).map(({ name }) => name);
  assert.deepEqual(await names('$orderby=name'), ['1.9.0', '1.10.0']);
  assert.deepEqual(await names('$top=1&$orderby=name%20desc'), ['1.10.0']);
  assert.deepEqual(await names('$top=0'), []);
  for (const query of ['$orderby=location', '$top=many', '$top=-1']) {
    const { status, body } = await get(`${VERSIONS}?${query}`);
    assert.equal(status, 400, query);
    assert.equal((body as { error: { code: string } }).error.code, 'InvalidParameter');
  }
  // Its disk is here now, so its size is known.
  const { body } = await get(`${VERSIONS}/1.9.0`);
  assert.deepEqual((body as Item).properties?.osDiskImage, { operatingSystem: 'Linux', sizeInGb: 1 });
});

test('what is not there is not found, in the words of Compute', async () => {
  const base = `${LOCATION}/westus2/publishers`;
  for (const [path, message] of [
    [`${base}/nobody/artifacttypes/vmimage/offers`, 'Publisher: nobody was not found.'],
    [`${base}/contoso/artifacttypes/vmimage/offers/nothing/skus`, 'Artifact: VMImage was not found.'],
    [`${base}/contoso/artifacttypes/vmimage/offers/linux/skus/9/versions`, 'Artifact: VMImage was not found.'],
    [`${VERSIONS}/9.9.9`, 'Artifact: VMImage was not found.'],
    [`${VERSIONS}/latest`, 'Artifact: VMImage was not found.'],
  ] as const) {
    const { status, body } = await get(path);
    assert.equal(status, 404, path);
    assert.deepEqual((body as { error: { code: string; message: string } }).error, { code: 'NotFound', message });
  }
});

test('a retired name answers with the image that stands in for it, and says so', async () => {
  const path = `${LOCATION}/westus2/publishers/Contoso/artifacttypes/vmimage/offers`;
  assert.equal((await get(`${path}/linux/skus/1-gen2/versions/1.10.0`)).status, 200);
  const [old] = await items(
    `${LOCATION}/westus2/publishers/credativ/artifacttypes/vmimage/offers/Debian/skus/9/versions?$expand=properties`,
  );
  // Made from packages of the day when somebody asks for it.
  assert.match(old!.name, /^0\.\d{8}\.\d+$/);
  assert.deepEqual(old!.properties?.imageDeprecationStatus, {
    imageState: 'Deprecated',
    alternativeOption: { type: 'Offer', value: 'debian-12' },
  });
});

test('they are read with rights on the subscription, in a region and an api-version that exist', async () => {
  const nobody = await server.principal('nobody');
  const reader = await server.principal('reader', { id: READER, scope: `/subscriptions/${SUBSCRIPTION}` });
  assert.equal((await get(VERSIONS, reader.token)).status, 200);
  const refused = await get(VERSIONS, nobody.token);
  assert.equal(refused.status, 403);
  assert.match(refused.text, /Microsoft\.Compute\/locations\/publishers\/artifacttypes\/offers\/skus\/versions\/read/);
  assert.match((await get(`${LOCATION}/atlantis/publishers`)).text, /LocationNotAvailableForResourceType/);
  const old = await server.request('GET', VERSIONS, { apiVersion: '1999-01-01' });
  assert.match(old.text, /NoRegisteredProviderFound/);
  assert.equal((await server.request('PUT', VERSIONS, { apiVersion: '2024-07-01', body: {} })).status, 405);
  const { body } = await server.request('GET', '/providers/Microsoft.Compute', { apiVersion: '2021-04-01' });
  const types = (body as { resourceTypes: { resourceType: string }[] }).resourceTypes.map(one => one.resourceType);
  assert.equal(new Set(types).size, types.length);
  assert.ok(types.includes('locations/publishers'));
});

test('no answer was wrong by the OpenAPI files', t => {
  if (!server.contract) return t.skip('the OpenAPI files are not there');
  assert.deepEqual(server.violations, []);
  assert.deepEqual(server.errors, []);
});
