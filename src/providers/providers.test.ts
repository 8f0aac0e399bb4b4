import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { KilnError } from '../arm/errors.ts';
import { resourceGroupId, resourceId } from '../arm/ids.ts';
import { type Database, openDatabase } from '../database/connection.ts';
import { openHome } from '../home.ts';
import { galleries } from './compute/galleries.ts';
import { galleryImageVersions } from './compute/gallery-image-versions.ts';
import { galleryImages } from './compute/gallery-images.ts';
import { images } from './compute/images.ts';
import { ensureNeighbours } from './ensure.ts';
import { imageTemplates, templateOf } from './image-builder/image-templates.ts';
import { deleteResource, putValidated, requireResource } from './life.ts';
import { userAssignedIdentities } from './managed-identity/user-assigned-identities.ts';
import { resourceGroups } from './resources/resource-groups.ts';
import { getResource, listResources, patchProperties, removeResource, type Store } from './store.ts';

const S = '11111111-2222-3333-4444-555555555555';
const GALLERY_API = '2023-07-03';

let root: string;
let database: Database;
let store: Store;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-providers-'));
  await chmod(root, 0o755); // PostgreSQL runs as another user when the tests run as root
  database = await openDatabase({ home: await openHome({ home: join(root, 'home'), env: {} }), log: () => {} });
  store = database.kysely;
});
after(async () => {
  await database?.close();
  await rm(root, { recursive: true, force: true });
});

/** A group of its own for each test. */
async function group(name: string): Promise<string> {
  await putValidated(store, resourceGroups, {
    id: resourceGroupId(S, name),
    body: { location: 'East US' },
    apiVersion: '2021-04-01',
  });
  return name;
}

const put = (
  definition: Parameters<typeof putValidated>[1],
  id: string,
  body: object,
  apiVersion = definition.apiVersions[0]!,
) => putValidated(store, definition, { id, body, apiVersion });

const DEFINITION_BODY = {
  location: 'eastus',
  properties: { osType: 'Linux', osState: 'Generalized', identifier: { publisher: 'P', offer: 'O', sku: 'S' } },
};

async function definition(groupName: string): Promise<string> {
  await group(groupName);
  await put(galleries, resourceId(S, groupName, galleries.type, 'gallery'), { location: 'eastus' });
  const id = resourceId(S, groupName, galleryImages.type, 'gallery', 'web');
  await put(galleryImages, id, DEFINITION_BODY);
  return id;
}

const versionBody = (regions: string[], more: object = {}) => ({
  location: 'eastus',
  properties: {
    publishingProfile: { targetRegions: regions.map(name => ({ name })), ...more },
    storageProfile: { source: { id: resourceId(S, 'g', images.type, 'i') } },
  },
});

test('a resource keeps its case and is found in any', async () => {
  await group('CaseGroup');
  const id = resourceId(S, 'CaseGroup', galleries.type, 'MyGallery');
  const made = await put(galleries, id, {
    location: 'West Europe',
    tags: { a: 'b' },
    properties: { description: 'd' },
  });
  assert.equal(made.created, true);
  const found = await getResource(store, id.toUpperCase());
  assert.equal(found?.id, id);
  assert.equal(found?.location, 'westeurope');
  assert.deepEqual(found?.tags, { a: 'b' });
  assert.deepEqual(found?.properties, {
    description: 'd',
    identifier: { uniqueName: `${S}-MYGALLERY` },
    provisioningState: 'Succeeded',
  });
  const again = await put(galleries, id.toLowerCase(), { location: 'westeurope' });
  assert.equal(again.created, false);
  assert.equal(again.resource.id, id);
  assert.notEqual(again.resource.etag, made.resource.etag);
  assert.deepEqual(again.resource.createdAt, made.resource.createdAt);
  assert.deepEqual(
    (await listResources(store, { type: 'MICROSOFT.COMPUTE/galleries', resourceGroup: 'casegroup' })).map(
      one => one.name,
    ),
    ['MyGallery'],
  );
});

test('groups, parents and locations are checked for all types', async () => {
  await assert.rejects(put(galleries, resourceId(S, 'nowhere', galleries.type, 'g'), { location: 'eastus' }), {
    code: 'ResourceGroupNotFound',
    message: "Resource group 'nowhere' could not be found.",
  });
  await group('checks');
  await assert.rejects(put(galleryImages, resourceId(S, 'checks', galleryImages.type, 'none', 'd'), DEFINITION_BODY), {
    code: 'ParentResourceNotFound',
    message: "Can not perform requested operation on nested resource. Parent resource 'none' not found.",
  });
  const id = resourceId(S, 'checks', galleries.type, 'g');
  await assert.rejects(put(galleries, id, {}), { code: 'LocationRequired' });
  await assert.rejects(put(galleries, id, { location: 'atlantis' }), { code: 'LocationNotAvailableForResourceType' });
  await assert.rejects(put(galleries, id, { location: 'eastus' }, '2017-01-01'), { code: 'NoRegisteredProviderFound' });
  await put(galleries, id, { location: 'eastus' });
  await assert.rejects(put(galleries, id, { location: 'westus' }), {
    code: 'InvalidResourceLocation',
    message: /already exists in location 'eastus'/,
  });
  await assert.rejects(requireResource(store, `${id}x`), {
    code: 'ResourceNotFound',
    message: /^The Resource 'Microsoft.Compute\/galleries\/gx' under resource group 'checks' was not found\./,
  });
});

test('names are refused in the words of each type', async () => {
  await group('names');
  await assert.rejects(
    put(galleries, resourceId(S, 'names', galleries.type, 'with-dash'), { location: 'eastus' }),
    /^KilnError: Gallery name is invalid\. Allowed characters are/,
  );
  await assert.rejects(
    put(resourceGroups, resourceGroupId(S, 'dot.'), { location: 'eastus' }),
    /invalid trailing characters/,
  );
  await assert.rejects(
    put(userAssignedIdentities, resourceId(S, 'names', userAssignedIdentities.type, 'a'), { location: 'eastus' }),
    { code: 'InvalidParameter' },
  );
  const id = await definition('names2');
  for (const name of ['1.0', '1.0.2147483648', 'latest'])
    await assert.rejects(
      put(galleryImageVersions, `${id}/versions/${name}`, versionBody(['eastus'])),
      /The image version name is invalid\./,
    );
});

test('an identity keeps its ids', async () => {
  await group('identities');
  const id = resourceId(S, 'identities', userAssignedIdentities.type, 'builder');
  const { resource } = await put(userAssignedIdentities, id, { location: 'eastus' });
  assert.match(String(resource.properties.principalId), /^[0-9a-f-]{36}$/);
  assert.deepEqual(
    (await put(userAssignedIdentities, id, { location: 'eastus', tags: { a: 'b' } })).resource.properties,
    resource.properties,
  );
});

test('image definitions: required and immutable properties, unique identifiers', async () => {
  const id = await definition('definitions');
  assert.equal((await getResource(store, id))?.properties.hyperVGeneration, 'V1');
  const error: KilnError = await put(galleryImages, `${id}2`, {
    location: 'eastus',
    properties: { osType: 'BSD', identifier: { publisher: 'a b', offer: 'o', sku: 's.' } },
  }).then(
    () => assert.fail('accepted'),
    (thrown: unknown) => thrown as KilnError,
  );
  assert.deepEqual(
    error.details.map(detail => detail.target),
    ['properties.osType', 'properties.osState', 'properties.identifier.publisher', 'properties.identifier.sku'],
  );
  await assert.rejects(
    put(galleryImages, id, {
      ...DEFINITION_BODY,
      properties: { ...DEFINITION_BODY.properties, hyperVGeneration: 'V2' },
    }),
    {
      code: 'PropertyChangeNotAllowed',
      message: "Changing property 'galleryImage.properties.hyperVGeneration' is not allowed.",
    },
  );
  await assert.rejects(put(galleryImages, `${id}2`, DEFINITION_BODY), {
    code: 'Conflict',
    message:
      'Gallery image: web identified by (publisher:P, offer:O, sku:S) already exists. Choose a different publisher, offer, sku combination.',
  });
});

test('image versions: regions, defaults, latest', async () => {
  const id = await definition('versions');
  const { resource } = await put(
    galleryImageVersions,
    `${id}/versions/1.0.0`,
    versionBody(['eastus', 'West US 2']),
    GALLERY_API,
  );
  const profile = resource.properties.publishingProfile as { targetRegions: object[]; excludeFromLatest: boolean };
  assert.deepEqual(profile.targetRegions, [
    { name: 'East US', regionalReplicaCount: 1, storageAccountType: 'Standard_LRS' },
    { name: 'West US 2', regionalReplicaCount: 1, storageAccountType: 'Standard_LRS' },
  ]);
  await assert.rejects(
    put(galleryImageVersions, `${id}/versions/1.0.1`, versionBody(['westus2'])),
    /must contain the location of image version East US/,
  );
  await assert.rejects(
    put(galleryImageVersions, `${id}/versions/1.0.1`, versionBody(['eastus', 'East US'])),
    /Duplicate regions/,
  );
  assert.equal(resource.properties.provisioningState, 'Creating');
});

test('what has something below it cannot be deleted', async () => {
  const id = await definition('deletes');
  const gallery = id.replace(/\/images\/.*/, '');
  await assert.rejects(deleteResource(store, gallery), {
    code: 'CannotDeleteResource',
    message: 'Can not delete resource before nested resources are deleted.',
  });
  await assert.rejects(deleteResource(store, resourceGroupId(S, 'deletes')), { code: 'CannotDeleteResource' });
  assert.equal(await deleteResource(store, id), true);
  assert.equal(await deleteResource(store, id), false);
  assert.equal(await deleteResource(store, gallery), true);
  assert.equal(await deleteResource(store, resourceGroupId(S, 'deletes')), true);
});

const IDENTITY = resourceId(S, 'shared', userAssignedIdentities.type, 'builder');
const TEMPLATE_BODY = {
  location: 'eastus',
  identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
  properties: {
    source: { type: 'PlatformImage', publisher: 'Debian', offer: 'debian-12', sku: '12-gen2', version: 'latest' },
    distribute: [
      {
        type: 'SharedImage',
        runOutputName: 'a',
        galleryImageId: resourceId(S, 'neighbours', galleryImages.type, 'gallery', 'web'),
      },
      {
        type: 'ManagedImage',
        runOutputName: 'b',
        imageId: resourceId(S, 'other', images.type, 'i'),
        location: 'eastus',
      },
    ],
  },
};

test('templates: stored normalised, not updated unless revised, read back for builds', async () => {
  await group('templates');
  const id = resourceId(S, 'templates', imageTemplates.type, 't1');
  const { resource } = await put(imageTemplates, id, TEMPLATE_BODY);
  assert.equal(resource.properties.provisioningState, 'Creating');
  await assert.rejects(put(imageTemplates, id, TEMPLATE_BODY), {
    code: 'Conflict',
    message: /^Update\/Upgrade of image templates is currently not supported\./,
  });
  const revised = await putValidated(store, imageTemplates, {
    id,
    body: { ...TEMPLATE_BODY, identity: undefined },
    apiVersion: '2022-07-01',
    local: true,
    revise: true,
  });
  assert.equal(revised.created, false);
  await patchProperties(store, id, { provisioningState: 'Succeeded' });
  const stored = await requireResource(store, id);
  assert.equal(stored.properties.provisioningState, 'Succeeded');
  assert.equal(templateOf(stored).properties.distribute.length, 2);
  assert.equal(templateOf(stored).apiVersion, '2022-07-01');
  assert.ok(!('provisioningState' in templateOf(stored).properties));
  await assert.rejects(
    put(imageTemplates, resourceId(S, 'templates', imageTemplates.type, 't2'), { location: 'eastus', properties: {} }),
    (error: unknown) => {
      assert.ok(error instanceof KilnError);
      assert.deepEqual(
        error.details.map(detail => detail.target),
        ['identity', 'properties.source', 'properties.distribute'],
      );
      assert.equal(error.message, error.details[0]?.message);
      return true;
    },
  );
});

test('neighbours are made once and told of; strict refuses and lists them all', async () => {
  const templateId = resourceId(S, 'neighbours', imageTemplates.type, 't');
  const scratch = await group('scratch');
  const { resource } = await put(imageTemplates, resourceId(S, scratch, imageTemplates.type, 't'), TEMPLATE_BODY);
  const options = {
    templateId,
    template: templateOf(resource),
    guest: { osType: 'Linux', hyperVGeneration: 'V2' },
  } as const;
  await assert.rejects(ensureNeighbours(store, { ...options, strict: true }), (error: unknown) => {
    assert.ok(error instanceof KilnError);
    assert.equal(error.code, 'ResourceNotFound');
    assert.equal(error.details.length, 6);
    return true;
  });
  assert.equal(await getResource(store, resourceGroupId(S, 'neighbours')), undefined);
  const made = await store.transaction().execute(transaction => ensureNeighbours(transaction, options));
  assert.deepEqual(
    made.map(line => line.split(' in ')[0]),
    [
      'Made the resource group neighbours',
      'Made the resource group shared',
      'Made the identity builder',
      'Made the gallery gallery',
      'Made the image definition gallery/web',
      'Made the resource group other',
    ],
  );
  assert.equal(
    (await requireResource(store, resourceId(S, 'neighbours', galleryImages.type, 'gallery', 'web'))).properties
      .hyperVGeneration,
    'V2',
  );
  assert.deepEqual(await ensureNeighbours(store, { ...options, strict: true }), []);
});

test('two commands at once make a neighbour once', async () => {
  const { resource } = await put(
    imageTemplates,
    resourceId(S, await group('race'), imageTemplates.type, 't'),
    TEMPLATE_BODY,
  );
  const templateId = resourceId(S, 'race-group', imageTemplates.type, 't');
  const options = {
    templateId,
    template: templateOf(resource),
    guest: { osType: 'Linux', hyperVGeneration: 'V2' },
  } as const;
  const made = (await Promise.all([1, 2, 3].map(() => ensureNeighbours(store, options)))).flat();
  assert.equal(made.filter(line => line.includes('race-group')).length, 1);
  assert.equal(new Set(made).size, made.length);
});

test('text that PostgreSQL does not take is stored without harm', async () => {
  await group('text');
  const id = resourceId(S, 'text', galleries.type, 'g');
  await put(galleries, id, { location: 'eastus', properties: { description: 'a\0b\ud800' } });
  assert.equal((await requireResource(store, id)).properties.description, 'a\ufffdb\ufffd');
  assert.equal(await removeResource(store, id), true);
});
