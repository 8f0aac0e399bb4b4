/** Image templates on a real database, engine and region store; machines without guests. What clients see over HTTP is in test/wire. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { emptyCatalogue, type GuestlessMachines, guestlessMachines } from '../../../test/wire/machines.ts';
import type { KilnError } from '../../arm/errors.ts';
import { idKey, parseId, resourceGroupId, resourceId } from '../../arm/ids.ts';
import { CONTRIBUTOR } from '../../arm/role-ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { json } from '../../database/json.ts';
import type { OperationRow } from '../../database/schema.ts';
import { dataDisksOf } from '../../images/data-disks.ts';
import type { SourceImage } from '../../images/source.ts';
import { list } from '../../images/store.ts';
import { openService, type Service } from '../../service.ts';
import { galleries } from '../compute/galleries.ts';
import { galleryImages } from '../compute/gallery-images.ts';
import { putValidated } from '../life.ts';
import { userAssignedIdentities } from '../managed-identity/user-assigned-identities.ts';
import type { Answer, ProviderEnvironment, ResourceCall } from '../provider.ts';
import { resourceGroups } from '../resources/resource-groups.ts';
import { storageAccounts } from '../storage/storage-accounts.ts';
import { getResource, listResources, patchProperties } from '../store.ts';
import { putBuildResources, removeUnlessKept, requireNoBuildMachine } from './build-resources.ts';
import { imageTemplates } from './image-templates.ts';
import { forgetKept } from './kept-machines.ts';
import { imageTemplatesProvider as provider } from './provider.ts';
import { removeTemplate } from './remove.ts';
import { RUN_KIND, type RunEnvironment, runHandler } from './run.ts';
import { runOutputsProvider } from './run-outputs-provider.ts';
import { triggersProvider } from './triggers.ts';

delete process.env.DATABASE_URL;
// The catalogue of this test is nobody else's.
delete process.env.KILN_CACHE;

const S = '11111111-2222-3333-4444-555555555555';
const G = 'TemplateGroup';
const API = '2024-02-01';
const ABOUT_IDENTITY =
  /^The assigned managed identity cannot be used\. Please remove the existing one and re-assign a new identity\./;

let service: Service;
let machines: GuestlessMachines;
let files: Server;
let base: string;
let identity: string;

before(async () => {
  const root = await mkdtemp(join(tmpdir(), 'kiln-templates-'));
  await chmod(root, 0o711);
  machines = guestlessMachines();
  const options = { reviseTemplates: false, localDownloads: true };
  service = await openService({ home: root, log: () => undefined, machines, options });
  await emptyCatalogue(root, { 'My:linux:1': '1.2.3' });
  await service.engine.serve({ concurrency: 4 });
  await put(resourceGroups, resourceGroupId(S, G), {});
  identity = await makeIdentity('builder');
  await contributor(identity, resourceGroupId(S, G));
  files = createServer((request, response) => response.end(`echo ${request.url}\n`));
  await new Promise<void>(resolve => files.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(files.address() as AddressInfo).port}`;
});
after(async () => {
  machines?.release();
  files?.close();
  await service?.close();
  if (service) await rm(service.home.root, { recursive: true, force: true });
});

const store = () => service.database.kysely;

async function put(definition: Parameters<typeof putValidated>[1], id: string, body: JsonObject) {
  const { apiVersions } = definition;
  return await putValidated(store(), definition, {
    id,
    body: { location: 'eastus', ...body },
    apiVersion: apiVersions[0]!,
  });
}

async function makeIdentity(name: string): Promise<string> {
  const id = resourceId(S, G, userAssignedIdentities.type, name);
  await put(userAssignedIdentities, id, {});
  return id;
}

async function contributor(identityId: string, scope: string): Promise<void> {
  const { properties } = (await getResource(store(), identityId))!;
  await store()
    .insertInto('role_assignment')
    .values({
      id: randomUUID(),
      scope: scope.toLowerCase(),
      display_scope: scope,
      principal_id: String(properties.principalId),
      principal_type: 'ServicePrincipal',
      role_definition_id: CONTRIBUTOR,
    })
    .execute();
}

interface Asking {
  readonly apiVersion?: string;
  readonly may?: ResourceCall['may'];
  readonly environment?: Partial<ProviderEnvironment>;
}

function call(id: string, { apiVersion = API, may = async () => true, environment }: Asking = {}): ResourceCall {
  return {
    environment: environment ? { ...service.environment, engine: service.engine, ...environment } : service.environment,
    caller: { objectId: randomUUID(), clientId: 'me', tenantId: randomUUID(), type: 'User', displayName: 'me' },
    id: parseId(id),
    apiVersion,
    correlationId: randomUUID(),
    query: new URLSearchParams(),
    origin: 'https://kiln.test',
    may,
  };
}

const templateId = (name: string) => resourceId(S, G, imageTemplates.type, name);
const imageId = (name: string, group = G) => resourceId(S, group, 'Microsoft.Compute/images', name);
const SOURCE = { type: 'PlatformImage', publisher: 'My', offer: 'linux', sku: '1', version: 'latest' };
const { type: _, ...PLATFORM } = SOURCE;
const VHD = { type: 'VHD', runOutputName: 'vhd' };

const body = (properties: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  location: 'eastus',
  identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } },
  properties: { source: SOURCE, distribute: [VHD], ...properties },
  ...more,
});

async function ended(answer: Answer): Promise<OperationRow> {
  return await service.engine.wait(answer.operation!.id, { signal: AbortSignal.timeout(30_000) });
}

async function create(name: string, template = body(), asking: Asking = {}) {
  const id = templateId(name);
  const answer = await provider.put!(call(id, asking), template);
  const operation = await ended(answer);
  return { id, answer, operation, shown: await show(id, asking) };
}

async function made(name: string, properties: JsonObject = {}, asking: Asking = {}): Promise<string> {
  const { id, operation } = await create(name, body(properties), asking);
  assert.equal(operation.status, 'Succeeded', JSON.stringify(operation.error));
  return id;
}

type Shown = JsonObject & { properties: JsonObject & { lastRunStatus?: JsonObject; source: JsonObject } };

async function show(id: string, asking: Asking = {}): Promise<Shown> {
  const found = (await provider.read!(call(id, asking)))!;
  return (await provider.show!(found, call(id, asking))) as Shown;
}

const refused = (code: string, message: RegExp | string) => (error: KilnError) => {
  assert.equal(error.code, code, error.message);
  if (typeof message === 'string') assert.equal(error.message, message);
  else assert.match(error.message, message);
  return true;
};

const members = (value: unknown): string[] => Object.keys(value as object);

test('creating: 201 at once, then checksums, versions, identities and the staging group, in the order of the recordings', async () => {
  const customize = [
    { type: 'Shell', scriptUri: `${base}/a.sh`, name: 'a', sha256Checksum: '' },
    { type: 'File', name: 'f', sourceUri: `${base}/b`, destination: '/tmp/b' },
  ];
  const distribute = [{ type: 'ManagedImage', runOutputName: 'i', location: 'East US', imageId: imageId('made') }];
  const optimize = { vmBoot: { state: 'Enabled' } };
  const { id, answer, operation, shown } = await create(
    'order',
    body({ customize, distribute, vmProfile: {}, optimize }, { tags: { a: 'b' } }),
  );
  assert.equal(answer.status, 201);
  const first = (await provider.show!(answer.resource!, call(id))) as Shown;
  assert.deepEqual(members(first), ['properties', 'identity', 'tags', 'location', 'id', 'name', 'type']);
  assert.equal(first.properties.provisioningState, 'Creating');
  assert.equal(first.properties.exactStagingResourceGroup, '');
  assert.equal(first.properties.source.exactVersion, 'latest');
  assert.deepEqual(first.identity, { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } });
  assert.deepEqual((first.properties.customize as JsonObject[])[0], {
    name: 'a',
    scriptUri: `${base}/a.sh`,
    type: 'Shell',
  });

  assert.equal(operation.status, 'Succeeded', JSON.stringify(operation.error));
  assert.ok(operation.caller);
  assert.deepEqual(members(shown.properties), [
    ...['source', 'customize', 'optimize', 'distribute', 'provisioningState', 'buildTimeoutInMinutes', 'vmProfile'],
    ...['stagingResourceGroup', 'exactStagingResourceGroup'],
  ]);
  assert.deepEqual(shown.properties.source, {
    ...{ exactVersion: '1.2.3', offer: 'linux', publisher: 'My', sku: '1', type: 'PlatformImage', version: 'latest' },
  });
  assert.deepEqual(members(shown.properties.source), ['exactVersion', 'offer', 'publisher', 'sku', 'type', 'version']);
  const sha256Checksum = createHash('sha256').update('echo /a.sh\n').digest('hex');
  const [shell, file] = shown.properties.customize as [JsonObject, JsonObject];
  assert.deepEqual(members(shell), ['name', 'scriptUri', 'sha256Checksum', 'type']);
  assert.equal(shell.sha256Checksum, sha256Checksum);
  assert.deepEqual(members(file), ['destination', 'name', 'sha256Checksum', 'sourceUri', 'type']);
  assert.deepEqual(shown.properties.distribute, [
    { artifactTags: {}, imageId: imageId('made'), location: 'eastus', runOutputName: 'i', type: 'ManagedImage' },
  ]);
  assert.deepEqual(shown.properties.vmProfile, { vmSize: '', osDiskSizeGB: 0 });
  const { principalId, clientId } = (await getResource(store(), identity))!.properties;
  assert.deepEqual(shown.identity, {
    type: 'UserAssigned',
    userAssignedIdentities: { [identity]: { principalId, clientId } },
  });
  assert.deepEqual(shown.tags, { a: 'b' });
});

test('older api-versions show what they knew, 2019-05-01-preview in its own order', async () => {
  const shared = resourceId(S, G, galleryImages.type, 'Shown', 'web');
  await put(galleries, resourceId(S, G, galleries.type, 'Shown'), {});
  const identifier = { publisher: 'P', offer: 'O', sku: 'S' };
  await put(galleryImages, shared, { properties: { osType: 'Linux', osState: 'Generalized', identifier } });
  const id = await made('versions', {
    distribute: [
      { type: 'SharedImage', runOutputName: 'g', galleryImageId: shared, targetRegions: [{ name: 'eastus' }] },
    ],
    autoRun: { state: 'Disabled' },
  });
  const at = async (apiVersion: string) => await show(id, { apiVersion });
  const old = await at('2019-05-01-preview');
  assert.deepEqual(members(old), ['id', 'identity', 'location', 'name', 'properties', 'tags', 'type']);
  assert.deepEqual(members(old.properties), ['source', 'distribute', 'provisioningState', 'buildTimeoutInMinutes']);
  assert.equal('exactVersion' in old.properties.source, false);
  const distributorOf = ({ properties }: Shown) => (properties.distribute as JsonObject[])[0]!;
  assert.equal('versioning' in distributorOf(await at('2022-02-14')), false);
  assert.equal(distributorOf(await at('2022-07-01')).versioning, null);
  assert.equal('autoRun' in (await at('2023-07-01')).properties, false);
  assert.deepEqual((await at('2024-02-01')).properties.autoRun, { state: 'Disabled' });
  assert.equal('stagingResourceGroup' in (await at('2021-10-01')).properties, false);
});

test('an existing template is not replaced; with the option it is', async () => {
  const id = await made('again');
  await assert.rejects(provider.put!(call(id), body()), refused('Conflict', /^Update\/Upgrade of image templates/));
  const options = { reviseTemplates: true, localDownloads: true };
  const revising = { environment: { options } };
  const before = await show(id);
  const answer = await provider.put!(call(id, revising), body({ buildTimeoutInMinutes: 30 }));
  assert.equal(answer.status, 200);
  assert.equal((await ended(answer)).status, 'Succeeded');
  const after = await show(id);
  assert.equal(after.properties.buildTimeoutInMinutes, 30);
  assert.equal(after.properties.exactStagingResourceGroup, before.properties.exactStagingResourceGroup);
  await assert.rejects(
    provider.put!(call(id, revising), body({}, { location: 'westus' })),
    refused('InvalidResourceLocation', /already exists in location 'eastus'/),
  );
});

test('of two that make one template at once, one does', async () => {
  const id = templateId('twins');
  const results = await Promise.allSettled([1, 2, 3].map(() => provider.put!(call(id), body())));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') refused('Conflict', /not supported/)(result.reason);
});

test('a body without `properties`, as one az sends it, is lifted', async () => {
  const { properties, ...envelope } = body({ buildTimeoutInMinutes: 7 });
  const { shown } = await create('flat', { ...envelope, ...(properties as JsonObject) });
  assert.equal(shown.properties.buildTimeoutInMinutes, 7);
});

test('a location is demanded in the words of Resource Manager', async () => {
  const putAt = async (location: unknown) => await provider.put!(call(templateId('placed')), body({}, { location }));
  for (const location of [undefined, null, ''])
    await assert.rejects(
      putAt(location),
      refused('LocationRequired', 'The location property is required for this definition.'),
    );
  await assert.rejects(
    putAt('atlantis'),
    refused(
      'LocationNotAvailableForResourceType',
      /^The provided location 'atlantis' is not available for resource type 'Microsoft.VirtualMachineImages\/imageTemplates'\./,
    ),
  );
  await assert.rejects(putAt(7), refused('ValidationFailed', /Field 'location' has a bad value: '7'/));
});

test('the caller may give the template only what is its own to give', async () => {
  const may = async (action: string) => !/assign|join/.test(action);
  await assert.rejects(
    provider.put!(call(templateId('linked'), { may }), body()),
    refused(
      'LinkedAuthorizationFailed',
      new RegExp(
        `^The client 'me' with object id '.*' has permission to perform action 'Microsoft.VirtualMachineImages/imageTemplates/write' on scope '${templateId('linked')}'; however, it does not have permission to perform action 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope\\(s\\) '${identity}' or the linked scope\\(s\\) are invalid\\.$`,
      ),
    ),
  );
  const subnetId = resourceId(S, G, 'Microsoft.Network/virtualNetworks/subnets', 'v', 's');
  await assert.rejects(
    provider.put!(
      call(templateId('linked'), { may: async action => !action.includes('join') }),
      body({ vmProfile: { vnetConfig: { subnetId } } }),
    ),
    refused('LinkedAuthorizationFailed', /subnets\/join\/action/),
  );
  const elsewhere = resourceId(randomUUID(), G, userAssignedIdentities.type, 'builder');
  await assert.rejects(
    provider.put!(
      call(templateId('linked')),
      body({}, { identity: { type: 'UserAssigned', userAssignedIdentities: { [elsewhere]: {} } } }),
    ),
    refused(
      'LinkedAuthorizationFailed',
      new RegExp(
        `^The client has permission to perform action 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on scope '${templateId('linked')}', however the current tenant '[-0-9a-f]+' is not authorized to access linked subscription '${parseId(elsewhere).subscription}'\\.$`,
      ),
    ),
  );
  // Without an identity it is the caller who reads and writes.
  await assert.rejects(
    provider.put!(
      call(templateId('linked'), {
        apiVersion: '2019-05-01-preview',
        may: async action => !action.includes('images/write'),
      }),
      body(
        { distribute: [{ type: 'ManagedImage', runOutputName: 'i', location: 'eastus', imageId: imageId('x') }] },
        { identity: undefined },
      ),
    ),
    refused('LinkedAuthorizationFailed', /Microsoft\.Compute\/images\/write/),
  );
  assert.equal(await getResource(store(), templateId('linked')), undefined);
});

test('an id that is not fully qualified is refused in the words of Resource Manager', async () => {
  const sentence = (id: string, path: string) =>
    `Property id '${id}' at path '${path}' is invalid. Expect fully qualified resource Id that start with '/subscriptions/{subscriptionId}' or '/providers/{resourceProviderNamespace}/'.`;
  const strange = { identity: { type: 'UserAssigned', userAssignedIdentities: { builder: {} } } };
  const cases: [JsonObject, string, string][] = [
    [body({}, strange), 'builder', 'identity.userAssignedIdentities'],
    [body({ vmProfile: { vnetConfig: { subnetId: 's1' } } }), 's1', 'properties.vmProfile.vnetConfig.subnetId'],
    [
      body({ vmProfile: { userAssignedIdentities: [identity, 'x/y'] } }),
      'x/y',
      'properties.vmProfile.userAssignedIdentities[1]',
    ],
  ];
  for (const [whole, id, path] of cases) {
    const refusal = refused('LinkedInvalidPropertyId', sentence(id, path));
    await assert.rejects(provider.put!(call(templateId('unqualified')), whole), refusal);
  }
  const id = await made('qualified');
  await assert.rejects(
    provider.patch!(call(id), strange),
    refused('LinkedInvalidPropertyId', sentence('builder', 'identity.userAssignedIdentities')),
  );
});

test('an identity without rights: a template that says so, and cannot be built', async () => {
  const stranger = await makeIdentity('stranger');
  const envelope = { identity: { type: 'UserAssigned', userAssignedIdentities: { [stranger]: {} } } };
  const gallery = resourceId(S, G, galleries.type, 'Closed');
  await put(galleries, gallery, {});
  const definition = `${gallery}/images/web`;
  const identifier = { publisher: 'P', offer: 'O', sku: 'S' };
  await put(galleryImages, definition, { properties: { osType: 'Linux', osState: 'Generalized', identifier } });
  const network = resourceId(S, G, 'Microsoft.Network/virtualNetworks', 'v');
  const managed = { type: 'ManagedImage', runOutputName: 'i', location: 'eastus', imageId: imageId('x') };
  const cases: [name: string, properties: JsonObject, resource: string, code: string][] = [
    [
      'subnet',
      { vmProfile: { vnetConfig: { subnetId: `${network}/subnets/s` } }, distribute: [managed] },
      network,
      'Other',
    ],
    ['managed', { distribute: [managed] }, imageId('x'), 'Other'],
    [
      'shared',
      { distribute: [{ type: 'SharedImage', runOutputName: 'g', galleryImageId: definition }] },
      gallery,
      'BadSharedImageDistribute',
    ],
    ['source', { source: { type: 'ManagedImage', imageId: imageId('y') } }, imageId('y'), 'BadManagedImageSource'],
    [
      'version',
      { source: { type: 'SharedImageVersion', imageVersionId: `${definition}/versions/1.0.0` } },
      `${definition}/versions/1.0.0`,
      'BadSharedImageVersionSource',
    ],
  ];
  for (const [name, properties, resource, code] of cases) {
    const { id, operation, shown } = await create(`denied-${name}`, body(properties, envelope));
    const message = `Not authorized to access the resource: ${resource}. Please check the user assigned identity has the correct permissions. For more details, go to https://aka.ms/azvmimagebuilderts.`;
    assert.equal(operation.status, 'Failed', name);
    assert.equal(operation.error?.code, 'Unauthorized', name);
    assert.equal(operation.error?.message, message, name);
    assert.equal(shown.properties.provisioningState, 'Failed');
    assert.deepEqual(shown.properties.provisioningError, { provisioningErrorCode: code, message });
    // As recorded: the staging group is there all the same, and the identity has its ids.
    assert.notEqual(shown.properties.exactStagingResourceGroup, '');
    const order = members(shown.properties);
    assert.equal(order.indexOf('provisioningError'), order.indexOf('provisioningState') + 1);
    await assert.rejects(
      provider.actions!.run!.run(call(id), undefined),
      refused(
        'OperationNotAllowed',
        'Operation Microsoft.VirtualMachineImages/imageTemplates/run/action is not allowed in provisioning state: failed or run state: none.',
      ),
    );
    assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  }
});

test('an identity that is gone, or was made anew, cannot be used', async () => {
  const ghost = resourceId(S, G, userAssignedIdentities.type, 'ghost');
  const envelope = { identity: { type: 'UserAssigned', userAssignedIdentities: { [ghost]: {} } } };
  const { operation, shown } = await create('ghostly', body({}, envelope));
  assert.match(operation.error!.message, ABOUT_IDENTITY);
  assert.equal((shown.properties.provisioningError as JsonObject).provisioningErrorCode, 'Other');

  const mortal = await makeIdentity('mortal');
  const { id } = await create(
    'mortal',
    body({}, { identity: { type: 'UserAssigned', userAssignedIdentities: { [mortal]: {} } } }),
  );
  await store().deleteFrom('resource').where('id', '=', idKey(mortal)).execute();
  await makeIdentity('mortal');
  const run = await ended(await provider.actions!.run!.run(call(id), undefined));
  assert.equal(run.error?.code, 'Unauthorized');
  assert.match(run.error!.message, ABOUT_IDENTITY);
  // The same id, assigned again, is the new identity.
  const answer = await provider.patch!(call(id), {
    identity: { type: 'UserAssigned', userAssignedIdentities: { [mortal]: {} } },
  });
  assert.equal((await ended(answer)).status, 'Succeeded');
  assert.equal((await ended(await provider.actions!.run!.run(call(id), undefined))).status, 'Succeeded');
});

test('what a template publishes to, starts from and fetches has to be there', async () => {
  const nowhere = { type: 'ManagedImage', runOutputName: 'i', location: 'eastus', imageId: imageId('x', 'Nowhere') };
  await contributor(identity, resourceGroupId(S, 'Nowhere'));
  const missing = resourceId(S, G, galleryImages.type, 'NoGallery', 'web');
  const cases: [JsonObject, RegExp, string][] = [
    [{ distribute: [nowhere] }, /Resource group 'Nowhere' could not be found/, 'Other'],
    [
      { distribute: [{ type: 'SharedImage', runOutputName: 'g', galleryImageId: missing }] },
      /galleries\/NoGallery' under resource group 'TemplateGroup' was not found/,
      'BadSharedImageDistribute',
    ],
    [{ source: { ...SOURCE, offer: 'other' } }, /No image in the catalogue/, 'BadPIRSource'],
    [
      { source: { type: 'ManagedImage', imageId: imageId('none') } },
      new RegExp(
        `^Build \\(Managed Image\\) step failed: Error getting Managed Image '${imageId('none')}': No image was built here`,
      ),
      'BadManagedImageSource',
    ],
    [
      { customize: [{ type: 'Shell', scriptUri: `${base.replace('http', 'https')}/x` }] },
      /^Downloading external file/,
      'NoCustomizerScript',
    ],
    [
      { customize: [{ type: 'Shell', scriptUri: `${base}/x`, sha256Checksum: '0'.repeat(64) }] },
      /checksum/,
      'NoCustomizerScript',
    ],
    [
      { validate: { inVMValidations: [{ type: 'Shell', scriptUri: `${base}/x`, sha256Checksum: '0'.repeat(64) }] } },
      /checksum/,
      'NoValidatorScript',
    ],
  ];
  for (const [index, [properties, message, code]] of cases.entries()) {
    const { operation, shown } = await create(`missing-${index}`, body(properties));
    assert.equal(operation.status, 'Failed', String(message));
    const error = shown.properties.provisioningError as JsonObject;
    assert.match(String(error.message), message);
    assert.equal(error.provisioningErrorCode, code, String(message));
  }
});

test('of a defect clients are told that it is one, and nothing of its inside', async () => {
  const sentence =
    'Internal error occurred. This is a generic error. To identify possible causes, go to https://aka.ms/azvmimagebuilderts.';
  const { files: kept, runs, root } = service.home;
  /** A file where the directory should be. */
  const without = async (directory: string, work: () => Promise<void>) => {
    await rename(directory, join(root, 'aside'));
    await writeFile(directory, '');
    await work().finally(async () => {
      await rm(directory);
      await rename(join(root, 'aside'), directory);
    });
  };
  await without(kept, async () => {
    const { operation, shown } = await create('defect');
    assert.equal(operation.error?.code, 'InternalError');
    assert.deepEqual(shown.properties.provisioningError, { provisioningErrorCode: 'ServerError', message: sentence });
  });
  const id = await made('defective');
  await without(runs, async () => {
    const operation = await ended(await provider.actions!.run!.run(call(id), undefined));
    assert.equal(operation.error?.code, 'InternalError');
    assert.ok(operation.error.message.includes(root), operation.error.message);
    const message = String((await show(id)).properties.lastRunStatus!.message);
    assert.ok(message.endsWith(sentence) && !message.includes(root), message);
  });
});

test('scripts of the API do not come from this host, unless the operator says so', async () => {
  const environment = service.environment as { options: ProviderEnvironment['options'] };
  const { options } = environment;
  environment.options = { ...options, localDownloads: false };
  try {
    const { operation } = await create('inward', body({ customize: [{ type: 'Shell', scriptUri: `${base}/x` }] }));
    assert.equal(operation.error?.code, 'DownloadFailed');
    assert.match(operation.error?.hint ?? '', /kiln serve --allow-local-downloads/);
  } finally {
    environment.options = options;
  }
});

test('an image fits only into definitions of its generation', async () => {
  const gallery = resourceId(S, G, galleries.type, 'Generations');
  await put(galleries, gallery, {});
  for (const hyperVGeneration of ['V1', 'V2']) {
    const identifier = { publisher: 'P', offer: 'O', sku: hyperVGeneration };
    const definition = `${gallery}/images/${hyperVGeneration}`;
    await put(galleryImages, definition, {
      properties: { osType: 'Linux', osState: 'Generalized', hyperVGeneration, identifier },
    });
    const { operation, shown } = await create(
      `generation-${hyperVGeneration}`,
      body({ distribute: [{ type: 'SharedImage', runOutputName: 'g', galleryImageId: definition }] }),
    );
    assert.equal(operation.status, hyperVGeneration === 'V1' ? 'Succeeded' : 'Failed');
    if (hyperVGeneration === 'V2')
      assert.equal(
        (shown.properties.provisioningError as JsonObject).provisioningErrorCode,
        'BadSharedImageDistribute',
      );
  }
  // A change of the targets is judged alike.
  const id = await made('generation-changed', { distribute: [VHD] });
  for (const generation of ['V2', 'V1']) {
    const target = { type: 'SharedImage', runOutputName: 'g', galleryImageId: `${gallery}/images/${generation}` };
    const answer = await provider.patch!(call(id), { properties: { distribute: [VHD, target] } });
    const { status, error } = await ended(answer);
    assert.equal(status, generation === 'V1' ? 'Succeeded' : 'Failed');
    if (generation === 'V2') assert.match(error!.message, /has the hyperVGeneration 'V1', but .* is for 'V2'/);
  }
});

const contentOf = async (group: string) =>
  (await listResources(store(), { subscription: S, resourceGroup: parseId(group).name })).filter(
    one => idKey(one.id) !== idKey(group),
  );

test('staging: a group with a generated name, its tags, account and role; all gone with the template', async () => {
  const name = 'a-template-with-a-name-that-is-rather-long';
  const id = await made(name, { managedResourceTags: { owner: 'me' } });
  const group = String((await show(id)).properties.exactStagingResourceGroup);
  assert.match(
    parseId(group).name,
    /^IT_TemplateGroup_a-template-with-a-name-tha_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  );
  const stored = (await getResource(store(), group))!;
  assert.equal(stored.location, 'eastus');
  assert.deepEqual(stored.tags, {
    ...{ createdBy: 'AzureVMImageBuilder', imageTemplateName: name, imageTemplateResourceGroupName: G, owner: 'me' },
  });
  const [account, ...others] = await contentOf(group);
  assert.deepEqual(others, []);
  assert.equal(account!.type, storageAccounts.type);
  assert.match(account!.name, /^[a-z0-9]{24}$/);
  assert.equal(account!.tags?.owner, 'me');
  const roles = () =>
    store().selectFrom('role_assignment').selectAll().where('scope', '=', group.toLowerCase()).execute();
  const { principalId } = (await getResource(store(), identity))!.properties;
  const [role] = await roles();
  assert.deepEqual([role?.principal_id, role?.role_definition_id], [principalId, CONTRIBUTOR]);

  assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  assert.equal(await getResource(store(), group), undefined);
  assert.deepEqual(await contentOf(group), []);
  assert.deepEqual(await roles(), []);
});

test('staging: a name that is free is taken, one that exists is used and given back', async () => {
  const named = resourceGroupId(S, 'StagingNew');
  const first = await made('named', { stagingResourceGroup: named.slice(1) });
  const shown = await show(first);
  assert.equal(shown.properties.stagingResourceGroup, named.slice(1));
  assert.equal(shown.properties.exactStagingResourceGroup, named);
  await ended(await provider.remove!(call(first)));
  assert.equal(await getResource(store(), named), undefined);

  const own = resourceGroupId(S, 'StagingOwn');
  await put(resourceGroups, own, { tags: { mine: 'yes', createdBy: 'AzureVMImageBuilder' } });
  const denied = await create('own-denied', body({ stagingResourceGroup: own }));
  assert.equal(denied.operation.error?.code, 'Unauthorized');
  await contributor(identity, own);
  const second = await made('own', { stagingResourceGroup: own });
  assert.deepEqual((await getResource(store(), own))!.tags, {
    ...{ mine: 'yes', createdBy: 'AzureVMImageBuilder', usedBy: 'AzureVMImageBuilder' },
    ...{ imageTemplateName: 'own', imageTemplateResourceGroupName: G },
  });
  assert.equal((await contentOf(own)).length, 1);

  const taken = await create('own-too', body({ stagingResourceGroup: own }));
  const error = taken.shown.properties.provisioningError as JsonObject;
  assert.equal(error.provisioningErrorCode, 'BadStagingResourceGroup');
  assert.match(String(error.message), /staging resource group of the image template 'own'/);

  await ended(await provider.remove!(call(second)));
  assert.deepEqual((await getResource(store(), own))!.tags, { mine: 'yes', createdBy: 'AzureVMImageBuilder' });
  assert.deepEqual(await contentOf(own), []);
});

test("staging: without an identity a group is used by the caller's rights", async () => {
  const foreign = resourceGroupId(S, 'StagingForeign');
  await put(resourceGroups, foreign, { tags: { of: 'somebody' } });
  const nobody = body({ stagingResourceGroup: foreign }, { identity: { type: 'None' } });
  const asking = { apiVersion: '2025-10-01' };
  const may = async (action: string) => action !== 'Microsoft.Resources/subscriptions/resourceGroups/write';
  await assert.rejects(
    provider.put!(call(templateId('foreign'), { ...asking, may }), nobody),
    refused('LinkedAuthorizationFailed', /resourceGroups\/write' on the linked scope\(s\) '.*StagingForeign'/),
  );
  assert.deepEqual((await getResource(store(), foreign))!.tags, { of: 'somebody' });
  assert.deepEqual(await contentOf(foreign), []);
  assert.equal((await create('foreign', nobody, asking)).operation.status, 'Succeeded');
  assert.equal((await contentOf(foreign)).length, 1);
});

test("staging: Kiln's tags win over those of the template, and the owner of the group has theirs again", async () => {
  const own = resourceGroupId(S, 'StagingTagged');
  await put(resourceGroups, own, { tags: { team: 'blue', usedBy: 'us', kept: 'yes' } });
  await contributor(identity, own);
  const managedResourceTags = {
    team: 'red',
    createdBy: 'me',
    imageTemplateName: 'x',
    IMAGETEMPLATERESOURCEGROUPNAME: 'y',
  };
  const id = await made('tagging', { stagingResourceGroup: own, managedResourceTags });
  const ours = { imageTemplateName: 'tagging', imageTemplateResourceGroupName: G };
  assert.deepEqual((await getResource(store(), own))!.tags, {
    ...{ kept: 'yes', team: 'red', createdBy: 'me', usedBy: 'AzureVMImageBuilder', ...ours },
  });
  const [account] = await contentOf(own);
  assert.deepEqual(account!.tags, { team: 'red', createdBy: 'AzureVMImageBuilder', ...ours });

  // The owner changes some of them meanwhile; a build fails over the one that says whose the group is.
  const group = (await getResource(store(), own))!;
  await put(resourceGroups, own, { tags: { ...group.tags, createdBy: 'them', imageTemplateName: 'other' } });
  const run = await ended(await provider.actions!.run!.run(call(id), undefined));
  assert.equal(run.error?.code, 'Conflict');
  assert.match(run.error!.message, /imageTemplateName is 'other'/);
  await put(resourceGroups, own, { tags: { ...group.tags, createdBy: 'them' } });
  assert.equal((await ended(await provider.actions!.run!.run(call(id), undefined))).status, 'Succeeded');

  assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  assert.deepEqual((await getResource(store(), own))!.tags, {
    ...{ team: 'blue', usedBy: 'us', kept: 'yes', createdBy: 'them' },
  });
});

test('staging: a group goes with what is in it, but not under a build', async () => {
  const outer = await made('outer');
  const group = String((await show(outer)).properties.exactStagingResourceGroup);
  const inner = resourceId(S, parseId(group).name, imageTemplates.type, 'inner');
  const distribute = [
    { type: 'ManagedImage', runOutputName: 'i', location: 'eastus', imageId: imageId('in', parseId(group).name) },
  ];
  assert.equal((await ended(await provider.put!(call(inner), body({ distribute })))).status, 'Succeeded');
  const innerGroup = String((await show(inner)).properties.exactStagingResourceGroup);
  assert.equal((await ended(await provider.actions!.run!.run(call(inner), undefined))).status, 'Succeeded');
  const files = async () =>
    (await list(service.home.root)).filter(({ manifest }) => manifest.id.includes(parseId(group).name));
  assert.equal((await files()).length, 1);

  machines.hold();
  const run = await provider.actions!.run!.run(call(inner), undefined);
  await assert.rejects(
    Promise.resolve(provider.remove!(call(outer))),
    refused('Conflict', /cannot be deleted: the image template 'inner' is being built by run/),
  );
  await assert.rejects(
    store()
      .transaction()
      .execute(trx => removeTemplate(trx, outer)),
    refused('Conflict', /'inner' is being built/),
  );
  await provider.actions!.cancel!.run(call(inner), undefined);
  machines.release();
  assert.equal((await ended(run)).status, 'Canceled');

  assert.equal((await ended(await provider.remove!(call(outer)))).status, 'Succeeded');
  for (const id of [outer, inner, group, innerGroup]) assert.equal(await getResource(store(), id), undefined, id);
  assert.deepEqual(await contentOf(innerGroup), []);
  assert.deepEqual(await files(), []);
});

test('data disks become those of images and versions, and images that are built on them carry them along', async () => {
  const newest = { apiVersion: '2025-10-01' };
  const built = async (name: string, properties: JsonObject) => {
    const target = { type: 'ManagedImage', runOutputName: 'i', location: 'eastus', imageId: imageId(name) };
    const id = await made(name, { distribute: [target, VHD], ...properties }, newest);
    const run = await ended(await provider.actions!.run!.run(call(id), undefined));
    assert.equal(run.status, 'Succeeded', JSON.stringify(run.error));
    const files = (await list(service.home.root)).filter(({ manifest }) => manifest.runId === run.id);
    const image = files.find(({ manifest }) => manifest.id === imageId(name))!;
    const { storageProfile } = (await getResource(store(), imageId(name)))!.properties as Record<string, JsonObject>;
    const shownDisks = (storageProfile!.dataDisks as JsonObject[]).map(({ lun, diskSizeGB }) => [lun, diskSizeGB]);
    const disks = dataDisksOf(files, image).map(({ lun, stored }) => [lun, stored.manifest.virtualSize / 1024 ** 3]);
    // The VHD is one disk.
    assert.equal(files.length, 2 + disks.length);
    return { image, shownDisks, disks };
  };
  const first = await built('with-data', { additionalDataDisks: [{ sizeGB: 3 }, { sizeGB: 1 }] });
  assert.deepEqual(first.disks, [
    [0, 3],
    [1, 1],
  ]);
  assert.deepEqual(first.shownDisks, first.disks);
  const source = { type: 'ManagedImage', imageId: imageId('with-data') };
  const second = await built('with-more', { source, additionalDataDisks: [{ sizeGB: 2 }] });
  assert.deepEqual(second.disks, [...first.disks, [2, 2]]);
  assert.deepEqual(second.shownDisks, second.disks);

  const gallery = resourceId(S, G, galleries.type, 'datagallery');
  const definition = resourceId(S, G, galleryImages.type, 'datagallery', 'd');
  await put(galleries, gallery, {});
  const identifier = { publisher: 'p', offer: 'o', sku: 's' };
  const properties = { osType: 'Linux', osState: 'Generalized', hyperVGeneration: 'V1', identifier };
  await put(galleryImages, definition, { properties });
  const version = `${definition}/versions/1.0.0`;
  const target = { type: 'SharedImage', runOutputName: 'v', galleryImageId: version };
  const id = await made('versioned', { source, distribute: [target] });
  assert.equal((await ended(await provider.actions!.run!.run(call(id), undefined))).status, 'Succeeded');
  const { storageProfile } = (await getResource(store(), version))!.properties as Record<string, JsonObject>;
  assert.deepEqual(storageProfile!.dataDiskImages, [
    { lun: 0, sizeInGB: 3, hostCaching: 'None' },
    { lun: 1, sizeInGB: 1, hostCaching: 'None' },
  ]);
});

test('the machine that builds is in the staging group while it is there, and nobody else removes it', async () => {
  const additionalDataDisks = [{ sizeGB: 8 }];
  const newest = { apiVersion: '2025-10-01' };
  const properties = { additionalDataDisks, managedResourceTags: { cost: '1' }, vmProfile: { osDiskSizeGB: 20 } };
  const id = await made('shown-machine', properties, newest);
  const group = String((await show(id)).properties.exactStagingResourceGroup);
  const machineIn = async () => (await contentOf(group)).filter(({ type }) => type !== storageAccounts.type);
  assert.deepEqual(await machineIn(), []);
  machines.hold();
  const run = await provider.actions!.run!.run(call(id), undefined);
  const runId = run.operation!.id;
  while (machines.held === 0) await sleep(10);
  const content = await machineIn();
  const suffix = runId.replaceAll('-', '').slice(0, 10);
  assert.deepEqual(
    content.map(({ type, name }) => `${type} ${name}`),
    [
      `Microsoft.Compute/disks pkrdd${suffix}-0`,
      `Microsoft.Compute/disks pkros${suffix}`,
      `Microsoft.Compute/virtualMachines pkrvm${suffix}`,
      `Microsoft.Network/networkInterfaces pkrni${suffix}`,
    ],
  );
  const [data, os, machine, nic] = content;
  for (const { tags } of content)
    assert.deepEqual(tags, {
      ...{ cost: '1', createdBy: 'AzureVMImageBuilder' },
      ...{ imageTemplateName: 'shown-machine', imageTemplateResourceGroupName: G },
    });
  assert.deepEqual([data!.properties.diskSizeGB, os!.properties.diskSizeGB], [8, 20]);
  assert.equal(data!.unmodelled?.managedBy, machine!.id);
  const { storageProfile, hardwareProfile } = machine!.properties as Record<string, JsonObject>;
  assert.equal(hardwareProfile!.vmSize, 'Standard_D1_v2');
  assert.deepEqual(storageProfile!.imageReference, { ...PLATFORM, exactVersion: '1.2.3' });
  assert.deepEqual(
    (storageProfile!.dataDisks as JsonObject[]).map(({ lun, createOption, managedDisk }) => [
      lun,
      createOption,
      managedDisk,
    ]),
    [[0, 'Empty', { id: data!.id }]],
  );
  assert.deepEqual(nic!.properties.virtualMachine, { id: machine!.id });
  for (const { id: one } of content)
    await assert.rejects(
      requireNoBuildMachine(store(), parseId(one)),
      refused('Conflict', /part of the machine of run/),
    );
  // Somebody else's of another name is their own affair.
  await requireNoBuildMachine(store(), parseId(machine!.id.replace(suffix, '0123456789')));
  await provider.actions!.cancel!.run(call(id), undefined);
  machines.release();
  assert.equal((await ended(run)).status, 'Canceled');
  assert.deepEqual(await machineIn(), []);
});

test('the machine of a run whose worker was killed is in the staging group no more', async () => {
  const id = await made('shown-lost');
  const group = String((await show(id)).properties.exactStagingResourceGroup);
  const runId = randomUUID();
  const row = { id: runId, operation_id: runId, template_id: idKey(id), template_name: 'shown-lost' };
  const operation = { id: runId, kind: RUN_KIND, resource_id: idKey(id), queue: 'q', timeout_seconds: null };
  await store()
    .insertInto('operation')
    .values({ ...operation, input: json({ templateId: id }) })
    .execute();
  await store()
    .insertInto('run')
    .values({ ...row, state: 'Running' })
    .execute();
  const shape = await machines.shape({ kind: 'qemu', processors: 1, memoryMiB: 1024, firmware: 'bios' });
  const source = { name: 's', exactVersion: '1.2.3', virtualSize: 4096, hyperVGeneration: 'V1', osType: 'Linux' };
  const put = () =>
    getResource(store(), id).then(template =>
      putBuildResources(store(), template!, { runId, shape, source: source as SourceImage }),
    );
  await put();
  // An attempt that is begun again replaces what was there.
  await put();
  assert.equal((await contentOf(group)).length, 4);
  const handler = runHandler({ ...service.environment, listener: () => undefined } as RunEnvironment);
  const abandoned = (await store().selectFrom('operation').selectAll().where('id', '=', runId).executeTakeFirst())!;
  await store()
    .transaction()
    .execute(trx => handler.abandoned!(trx, abandoned, { code: 'WorkerLost', message: 'killed' }));
  assert.equal((await contentOf(group)).length, 1);

  // The machine of a run that has failed may be kept: it is there as long as its holder is.
  const ofRun = () => store().updateTable('run').where('id', '=', runId);
  await put();
  await ofRun().set({ kept_by: randomUUID(), kept_until: new Date() }).execute();
  await store()
    .transaction()
    .execute(trx => removeUnlessKept(trx, runId));
  assert.equal((await contentOf(group)).length, 4);
  const [machine] = (await contentOf(group)).filter(({ name }) => name.startsWith('pkrvm'));
  await assert.rejects(
    requireNoBuildMachine(store(), parseId(machine!.id)),
    refused('Conflict', /part of the machine of run/),
  );
  await forgetKept(store(), async () => true);
  assert.equal((await contentOf(group)).length, 4);
  await forgetKept(store(), async () => false);
  assert.equal((await contentOf(group)).length, 1);
});

test('nothing is built in a group that is being deleted', async () => {
  const group = resourceGroupId(S, 'Going');
  await put(resourceGroups, group, {});
  const id = resourceId(S, 'Going', imageTemplates.type, 'late');
  assert.equal((await ended(await provider.put!(call(id), body()))).status, 'Succeeded');
  await patchProperties(store(), group, { provisioningState: 'Deleting' });
  await assert.rejects(
    provider.actions!.run!.run(call(id), undefined),
    refused('ResourceGroupBeingDeleted', /'Going' is in deprovisioning state/),
  );
  assert.equal((await show(id)).properties.lastRunStatus, undefined);
});

test('staging: not one that is full, elsewhere, in another subscription, or no group', async () => {
  const far = resourceGroupId(S, 'StagingFar');
  await put(resourceGroups, far, { location: 'westus' });
  await contributor(identity, far);
  const cases: [string, RegExp][] = [
    [resourceGroupId(S, G), /is not empty/],
    [far, /it is in 'westus'/],
    [resourceGroupId(randomUUID(), 'StagingNew'), /another subscription/],
    [resourceGroupId(S, 'ends.'), /invalid trailing characters/],
  ];
  for (const [index, [stagingResourceGroup, message]] of cases.entries()) {
    const { id, shown } = await create(`badly-staged-${index}`, body({ stagingResourceGroup }));
    const error = shown.properties.provisioningError as JsonObject;
    assert.equal(error.provisioningErrorCode, 'BadStagingResourceGroup', stagingResourceGroup);
    assert.match(String(error.message), message);
    assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  }
  assert.ok(await getResource(store(), far));
});

test('run: 202, Queued at once, then Succeeded with its outputs; twice at once is refused', async () => {
  const managed = { type: 'ManagedImage', runOutputName: 'image', location: 'eastus', imageId: imageId('built') };
  const id = await made('runs', { distribute: [managed, VHD] });
  machines.hold();
  const answer = await provider.actions!.run!.run(call(id), undefined);
  assert.equal(answer.status, 202);
  const status = (await show(id)).properties.lastRunStatus!;
  assert.deepEqual(members(status), ['startTime', 'endTime', 'runState', 'runSubState', 'message']);
  assert.equal(status.runState, 'Running');
  assert.match(String(status.startTime), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  assert.equal(status.endTime, '0001-01-01T00:00:00Z');
  const sentence = (operation: string) =>
    `Operation Microsoft.VirtualMachineImages/imageTemplates/${operation} is not allowed in provisioning state: provisioned or run state: running.`;
  await assert.rejects(
    provider.actions!.run!.run(call(id), undefined),
    refused('OperationNotAllowed', sentence('run/action')),
  );
  await assert.rejects(Promise.resolve(provider.remove!(call(id))), refused('OperationNotAllowed', sentence('delete')));
  await assert.rejects(
    provider.patch!(call(id), { identity: { type: 'None' } }),
    refused('OperationNotAllowed', sentence('write')),
  );
  assert.equal((await ended(await provider.patch!(call(id), { tags: { while: 'running' } }))).status, 'Succeeded');
  await provider.actions!.cancel!.run(call(id), undefined);
  machines.release();
  assert.equal((await ended(answer)).status, 'Canceled');

  const second = await ended(await provider.actions!.run!.run(call(id), undefined));
  assert.equal(second.status, 'Succeeded', JSON.stringify(second.error));
  const last = (await show(id)).properties.lastRunStatus!;
  assert.deepEqual(members(last), ['startTime', 'endTime', 'runState', 'message']);
  assert.equal(last.runState, 'Succeeded');
  const outputs = await runOutputsProvider.list!({
    ...call(id),
    scope: { subscription: S, resourceGroup: G, parent: parseId(id) },
    window: { limit: 100 },
  });
  assert.deepEqual(
    outputs.map(({ id: output, properties }) => [output, members(properties), properties.artifactId]),
    [
      [`${id}/runOutputs/image`, ['artifactId', 'provisioningState'], imageId('built')],
      [`${id}/runOutputs/vhd`, ['artifactUri', 'provisioningState'], undefined],
    ],
  );
  assert.ok(await runOutputsProvider.read!(call(`${id}/runOutputs/IMAGE`)));
  assert.equal(await runOutputsProvider.read!(call(`${id}/runOutputs/none`)), undefined);

  // The next template of the name has none of it.
  assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  assert.ok(await getResource(store(), imageId('built')));
  await made('runs');
  assert.equal((await show(id)).properties.lastRunStatus, undefined);
  assert.equal(await runOutputsProvider.read!(call(`${id}/runOutputs/image`)), undefined);
});

test('cancel: 204 at once, Canceling, then Canceled; refused when idle or canceling', async () => {
  const id = await made('cancels');
  const cancel = async () => await provider.actions!.cancel!.run(call(id), undefined);
  const sentence = (state: string) =>
    `Operation Microsoft.VirtualMachineImages/imageTemplates/cancel/action is not allowed in provisioning state: provisioned or run state: ${state}.`;
  await assert.rejects(cancel(), refused('OperationNotAllowed', sentence('none')));
  machines.hold();
  const answer = await provider.actions!.run!.run(call(id), undefined);
  // Not while the source is still being looked up: such a run ends at once.
  await until(async () => machines.held === 1);
  assert.equal((await show(id)).properties.lastRunStatus?.runSubState, 'Building');
  assert.deepEqual(await cancel(), { status: 204 });
  const { startTime: _, ...status } = (await show(id)).properties.lastRunStatus!;
  assert.deepEqual(status, {
    endTime: '0001-01-01T00:00:00Z',
    runState: 'Canceling',
    message: 'Canceling image build',
  });
  await assert.rejects(cancel(), refused('OperationNotAllowed', sentence('canceling')));
  await assert.rejects(
    Promise.resolve(provider.remove!(call(id))),
    refused('OperationNotAllowed', /run state: canceling\.$/),
  );
  machines.release();
  assert.equal((await ended(answer)).status, 'Canceled');
  assert.equal((await show(id)).properties.lastRunStatus!.runState, 'Canceled');
  await assert.rejects(cancel(), refused('OperationNotAllowed', sentence('canceled')));
  // Clients of a version without these states see others.
  assert.equal((await show(id, { apiVersion: '2019-05-01-preview' })).properties.lastRunStatus!.runState, 'Failed');
});

test('a run that nobody has begun is canceled at once', async () => {
  const busy = await Promise.all([1, 2, 3, 4, 5].map(number => made(`queue-${number}`)));
  machines.hold();
  const answers: Answer[] = [];
  for (const id of busy) answers.push(await provider.actions!.run!.run(call(id), undefined));
  await until(async () => {
    const rows = await store()
      .selectFrom('operation')
      .select('status')
      .where(
        'id',
        'in',
        answers.map(one => one.operation!.id),
      )
      .execute();
    return rows.filter(({ status }) => status === 'Running').length === 4;
  });
  const waiting = await store()
    .selectFrom('operation')
    .select('resource_id')
    .where(
      'id',
      'in',
      answers.map(one => one.operation!.id),
    )
    .where('status', '=', 'NotStarted')
    .executeTakeFirstOrThrow();
  const id = busy.find(one => idKey(one) === waiting.resource_id)!;
  await provider.actions!.cancel!.run(call(id), undefined);
  assert.equal((await show(id)).properties.lastRunStatus!.runState, 'Canceled');
  for (const one of busy) if (one !== id) await provider.actions!.cancel!.run(call(one), undefined);
  machines.release();
  for (const answer of answers) assert.equal((await ended(answer)).status, 'Canceled');
});

test('what cannot be built is refused by the run, not left out', async () => {
  const id = await made('unsupported', {
    customize: [{ type: 'PowerShell', inline: ['dir'] }],
    validate: { inVMValidations: [{ type: 'Shell', inline: ['true'] }] },
  });
  const operation = await ended(await provider.actions!.run!.run(call(id), undefined));
  assert.equal(operation.error?.code, 'NotSupported');
  assert.match(String((await show(id)).properties.lastRunStatus!.message), /is for Windows/);

  // Azure's schema takes any size of a machine, and disks of no size: what it takes, a template may have.
  const properties = { vmProfile: { vmSize: 'Standard_NC6' }, additionalDataDisks: [{ sizeGB: 1 }, {}, { sizeGB: 0 }] };
  const sizes = await made('unsupported-sizes', properties, { apiVersion: '2025-10-01' });
  const { error } = await ended(await provider.actions!.run!.run(call(sizes), undefined));
  assert.deepEqual(
    error?.details?.map(({ code, target }) => `${code} ${target}`),
    [
      'NotSupported properties.vmProfile.vmSize',
      'NotSupported properties.additionalDataDisks[1].sizeGB',
      'NotSupported properties.additionalDataDisks[2].sizeGB',
    ],
  );
});

test('autoRun: a run when it is made, and when it changes', async () => {
  const id = await made('auto', { autoRun: { state: 'Enabled' } });
  const runs = () =>
    store().selectFrom('run').select(['state', 'message']).where('template_id', '=', idKey(id)).execute();
  const done = { state: 'Succeeded', message: '' };
  const settled = () => until(async () => (await runs()).every(({ state }) => state !== 'Running'));
  await settled();
  assert.deepEqual(await runs(), [done]);
  await ended(await provider.patch!(call(id), { tags: {} }));
  assert.deepEqual(await runs(), [done]);
  await ended(await provider.patch!(call(id), { properties: { vmProfile: { vmSize: 'Standard_D2ds_v4' } } }));
  await settled();
  assert.deepEqual(await runs(), [done, done]);
});

test('PATCH: tags, identities, and what each version may change', async () => {
  const id = await made('patched', { vmProfile: { vmSize: 'Standard_D2ds_v4' } });
  const patch = async (change: JsonObject, asking: Asking = {}) => {
    const answer = await provider.patch!(call(id, asking), change);
    assert.equal(answer.status, 202);
    return await ended(answer);
  };
  await patch({ tags: { one: '1' } }, { apiVersion: '2020-02-14' });
  assert.deepEqual((await show(id)).tags, { one: '1' });
  await patch({ identity: { type: 'None' } });
  assert.deepEqual((await show(id)).identity, { type: 'None' });
  const lower = identity.toLowerCase();
  await patch({ identity: { type: 'UserAssigned', userAssignedIdentities: { [lower]: {} } } });
  const other = await makeIdentity('other');
  await contributor(other, resourceGroupId(S, G));
  const both = { type: 'UserAssigned', userAssignedIdentities: { [other]: {} } };
  await assert.rejects(provider.patch!(call(id), { identity: both }), refused('ValidationFailed', /single identity/));
  await patch({ identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: null, [other]: {} } } });
  const { principalId, clientId } = (await getResource(store(), other))!.properties;
  assert.deepEqual((await show(id)).identity, {
    type: 'UserAssigned',
    userAssignedIdentities: { [other]: { principalId, clientId } },
  });
  const group = String((await show(id)).properties.exactStagingResourceGroup);
  const roles = await store()
    .selectFrom('role_assignment')
    .select('principal_id')
    .where('scope', '=', group.toLowerCase())
    .execute();
  assert.deepEqual(roles, [{ principal_id: principalId }]);
  assert.equal(
    (await patch({ identity: { type: 'UserAssigned', userAssignedIdentities: { [other]: null } } })).status,
    'Succeeded',
  );
  assert.deepEqual((await show(id)).identity, { type: 'None' });
  await patch({ identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } } });

  const managed = { type: 'ManagedImage', runOutputName: 'i', location: 'West US', imageId: imageId('p') };
  await assert.rejects(
    provider.patch!(call(id, { apiVersion: '2022-07-01' }), { properties: { distribute: [VHD, managed] } }),
    refused('ValidationFailed', /cannot be updated/),
  );
  await assert.rejects(
    provider.patch!(call(id), { properties: { distribute: [managed] } }),
    refused(
      'ValidationFailed',
      'Validation failed: Distribute target with Runoutput name vhd not found in the update request. Deleting a distribution target is not allowed.',
    ),
  );
  await assert.rejects(
    provider.patch!(call(id), { properties: { distribute: [VHD, { ...managed, imageId: 'x' }] } }),
    refused('ValidationFailed', /'ImageTemplate.properties.distribute\[1\]': Field 'imageId' has a bad value: 'x'/),
  );
  await patch({ properties: { distribute: [VHD, managed] } }, { apiVersion: '2023-07-01' });
  assert.deepEqual((await show(id)).properties.distribute, [
    { artifactTags: {}, runOutputName: 'vhd', type: 'VHD' },
    { artifactTags: {}, imageId: imageId('p'), location: 'westus', runOutputName: 'i', type: 'ManagedImage' },
  ]);
  await assert.rejects(
    provider.patch!(call(id, { apiVersion: '2023-07-01' }), { properties: { vmProfile: { osDiskSizeGB: 50 } } }),
    refused('ValidationFailed', /cannot be updated/),
  );
  await patch({ properties: { vmProfile: { osDiskSizeGB: 50 } } });
  assert.deepEqual((await show(id)).properties.vmProfile, { vmSize: 'Standard_D2ds_v4', osDiskSizeGB: 50 });
  for (const change of [{ source: SOURCE }, { customize: [] }, { buildTimeoutInMinutes: 9 }])
    await assert.rejects(
      provider.patch!(call(id), { properties: change }),
      refused('ValidationFailed', /^Unmarshalling entity.*ImageTemplateUpdateParameters.*unknown field/),
    );
  assert.equal((await show(id)).properties.provisioningState, 'Succeeded');
});

test('a PATCH that fails changes nothing', async () => {
  const id = await made('unpatched');
  const before = await show(id);
  const imageElsewhere = {
    type: 'ManagedImage',
    runOutputName: 'i',
    location: 'eastus',
    imageId: imageId('p', 'Elsewhere'),
  };
  const answer = await provider.patch!(call(id), {
    tags: { a: 'b' },
    properties: { distribute: [VHD, imageElsewhere] },
  });
  assert.equal((await ended(answer)).error?.code, 'Unauthorized');
  assert.deepEqual(await show(id), before);
  await assert.rejects(
    provider.patch!(call(id, { may: async action => !action.includes('assign') }), {
      identity: { type: 'UserAssigned', userAssignedIdentities: { [identity]: {} } },
    }),
    refused('LinkedAuthorizationFailed', /assign\/action/),
  );
});

test('of two PATCHes at once one is made, and none is lost', async () => {
  const id = await made('twice-patched');
  const other = { type: 'VHD', runOutputName: 'other' };
  const results = await Promise.allSettled(
    [
      [VHD, other],
      [VHD, { ...other, artifactTags: { a: 'b' } }],
    ].map(distribute => provider.patch!(call(id), { properties: { distribute } })),
  );
  for (const result of results)
    if (result.status === 'fulfilled') assert.equal((await ended(result.value)).status, 'Succeeded');
    else refused('OperationNotAllowed', /provisioning state: updating/)(result.reason);
  assert.ok(results.some(({ status }) => status === 'fulfilled'));
  assert.equal(((await show(id)).properties.distribute as unknown[]).length, 2);
});

test('a template with a trigger stays one that may have it', async () => {
  const gallery = resourceId(S, G, galleries.type, 'Triggered');
  await put(galleries, gallery, {});
  const definition = `${gallery}/images/web`;
  const identifier = { publisher: 'P', offer: 'O', sku: 'S' };
  await put(galleryImages, definition, { properties: { osType: 'Linux', osState: 'Generalized', identifier } });
  const id = await made('triggered');
  const trigger = await triggersProvider.put!(call(`${id}/triggers/t`), { properties: { kind: 'SourceImage' } });
  assert.equal((await ended(trigger)).status, 'Succeeded');
  const pinned = { type: 'SharedImage', runOutputName: 'g', galleryImageId: `${definition}/versions/1.0.0` };
  await assert.rejects(
    provider.patch!(call(id), { properties: { distribute: [VHD, pinned] } }),
    refused('ValidationFailed', /one version '1\.0\.0'/),
  );
  const free = { ...pinned, galleryImageId: definition };
  const answer = await provider.patch!(call(id), { properties: { distribute: [VHD, free] } });
  assert.equal((await ended(answer)).status, 'Succeeded');
  assert.equal((await ended(await provider.remove!(call(id)))).status, 'Succeeded');
  assert.equal(await getResource(store(), `${id}/triggers/t`), undefined);
});

test('DELETE: not while it is made; a second one joins the first', async () => {
  const id = await made('deleted');
  for (const state of ['Creating', 'Updating']) {
    await patchProperties(store(), id, { provisioningState: state });
    await assert.rejects(
      Promise.resolve(provider.remove!(call(id))),
      refused(
        'OperationNotAllowed',
        `Operation 'DELETE' is not allowed in provisioningState: '${state.toLowerCase()}'.`,
      ),
    );
  }
  await patchProperties(store(), id, { provisioningState: 'Succeeded' });
  const [first, second] = await Promise.all([provider.remove!(call(id)), provider.remove!(call(id))]);
  assert.equal(first.status, 202);
  if (second.status === 202) assert.equal((await ended(second)).status, 'Succeeded');
  assert.equal((await ended(first)).status, 'Succeeded');
  assert.equal(await getResource(store(), id), undefined);
});

/** Looks until it is so. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = AbortSignal.timeout(30_000);
  while (!(await isSo())) {
    deadline.throwIfAborted();
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
