/**
 * The tutorial on automatic image builds as a program that uses Microsoft's client libraries for JavaScript, each as it comes: a process of its own, which
 * trusts the server by NODE_EXTRA_CA_CERTS and knows of it what `kiln env` says. Prints what it saw, as JSON.
 */
import { randomUUID } from 'node:crypto';
import { AuthorizationManagementClient } from '@azure/arm-authorization';
import { ComputeManagementClient } from '@azure/arm-compute';
import { ImageBuilderClient } from '@azure/arm-imagebuilder';
import { ManagedServiceIdentityClient } from '@azure/arm-msi';
import { ResourceManagementClient } from '@azure/arm-resources';
import { StorageManagementClient } from '@azure/arm-storage';
import { ClientSecretCredential } from '@azure/identity';
import { BlobClient, BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';

const { KILN_ENDPOINT, AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_SUBSCRIPTION_ID } = process.env;
const endpoint = KILN_ENDPOINT!;
const subscription = AZURE_SUBSCRIPTION_ID!;
// A tenant by its id: the libraries would otherwise ask Azure's own directory whether they may trust the authority.
const credential = new ClientSecretCredential(AZURE_TENANT_ID!, AZURE_CLIENT_ID!, AZURE_CLIENT_SECRET!, {
  authorityHost: endpoint,
  disableInstanceDiscovery: true,
});
const options = { endpoint, retryOptions: { maxRetries: 0 } };
const resources = new ResourceManagementClient(credential, subscription, options);
const identities = new ManagedServiceIdentityClient(credential, subscription, options).userAssignedIdentities;
const authorization = new AuthorizationManagementClient(credential, subscription, { ...options, $host: endpoint });
const compute = new ComputeManagementClient(credential, subscription, options);
const storage = new StorageManagementClient(credential, subscription, options);
const builder = new ImageBuilderClient(credential, subscription, options);

const group = 'ibTriggerRG';
const location = 'westus2';
const gallery = 'ibTriggerGallery';
const definition = 'ibTriggerImage';
const template = 'ibTriggerTemplate';
const scope = `/subscriptions/${subscription}/resourceGroups/${group}`;

// What the subscription needs.
const states: (string | undefined)[] = [];
for (const name of ['VirtualMachineImages', 'KeyVault', 'Compute', 'Storage', 'Network', 'ContainerInstance']) {
  await resources.providers.register(`Microsoft.${name}`);
  states.push((await resources.providers.get(`Microsoft.${name}`)).registrationState);
}

// A resource group, an identity, and a role of its own for it.
await resources.resourceGroups.createOrUpdate(group, { location });
const identity = await identities.createOrUpdate(group, 'builder', { location });
const role = await authorization.roleDefinitions.createOrUpdate(scope, randomUUID(), {
  roleName: 'Azure Image Builder Image Def',
  description: "What an image builder's identity needs on the group that images go to",
  permissions: [
    {
      actions: [
        'Microsoft.Compute/galleries/read',
        'Microsoft.Compute/galleries/images/read',
        'Microsoft.Compute/galleries/images/versions/read',
        'Microsoft.Compute/galleries/images/versions/write',
      ],
      notActions: [],
    },
  ],
  assignableScopes: [scope],
});
const assignment = await authorization.roleAssignments.create(scope, randomUUID(), {
  roleDefinitionId: role.id!,
  principalId: identity.principalId!,
  principalType: 'ServicePrincipal',
});

// A gallery and an image definition.
await compute.galleries.createOrUpdate(group, gallery, { location }).pollUntilDone();
const target = await compute.galleryImages
  .createOrUpdate(group, gallery, definition, {
    location,
    osType: 'Linux',
    osState: 'Generalized',
    hyperVGeneration: 'V1',
    identifier: { publisher: 'myIbPublisher', offer: 'myOffer', sku: '18.04-LTS' },
  })
  .pollUntilDone();

// The template, its trigger, and the first build.
const made = await builder.virtualMachineImageTemplates
  .createOrUpdate(group, template, {
    location,
    identity: { type: 'UserAssigned', userAssignedIdentities: { [identity.id!]: {} } },
    source: {
      type: 'PlatformImage',
      publisher: 'Canonical',
      offer: 'UbuntuServer',
      sku: '18.04-LTS',
      version: 'latest',
    },
    customize: [{ type: 'Shell', name: 'hello', inline: ['echo hello'] }],
    distribute: [
      {
        type: 'SharedImage',
        runOutputName: 'output',
        galleryImageId: target.id!,
        artifactTags: { source: 'azureVmImageBuilder' },
        targetRegions: [{ name: location }, { name: 'eastus2', replicaCount: 2, storageAccountType: 'Standard_ZRS' }],
      },
      { type: 'VHD', runOutputName: 'output-vhd' },
    ],
  })
  .pollUntilDone();
const trigger = await builder.triggers
  .createOrUpdate(group, template, 'sourceImageTrigger', { properties: { kind: 'SourceImage' } })
  .pollUntilDone();
const triggers = await all(builder.triggers.listByImageTemplate(group, template));
await builder.virtualMachineImageTemplates.run(group, template).pollUntilDone();
const { lastRunStatus } = await builder.virtualMachineImageTemplates.get(group, template);
const outputs = await all(builder.virtualMachineImageTemplates.listRunOutputs(group, template));

// What came out.
const [version] = await all(compute.galleryImageVersions.listByGalleryImage(group, gallery, definition));
const shown = await compute.galleryImageVersions.get(group, gallery, definition, version!.name!, {
  expand: 'ReplicationStatus',
});
const vhd = new BlobClient(outputs.find(({ name }) => name === 'output-vhd')!.artifactUri!, credential);
const disk = await vhd.downloadToBuffer();

// A storage account of one's own, by its key.
const account = await storage.storageAccounts
  .create(group, `tutorial${Date.now().toString(36)}`, { location, kind: 'StorageV2', sku: { name: 'Standard_LRS' } })
  .pollUntilDone();
const { keys } = await storage.storageAccounts.listKeys(group, account.name!);
const blobs = new BlobServiceClient(
  `${endpoint}/${account.name}`,
  new StorageSharedKeyCredential(account.name!, keys![0]!.value!),
);
const scripts = blobs.getContainerClient('scripts');
await scripts.create();
await scripts.getBlockBlobClient('first.sh').uploadData(Buffer.from('echo first\n'));
const names: string[] = [];
for await (const { name } of scripts.listBlobsFlat()) names.push(name);
const script = await scripts.getBlobClient('first.sh').downloadToBuffer();

// Cleaning up.
await builder.triggers.delete(group, template, 'sourceImageTrigger').pollUntilDone();
await builder.virtualMachineImageTemplates.delete(group, template).pollUntilDone();
await authorization.roleAssignments.deleteById(assignment.id!);
await authorization.roleDefinitions.delete(scope, role.name!);
await identities.delete(group, 'builder');
await compute.galleryImageVersions.delete(group, gallery, definition, version!.name!).pollUntilDone();
await compute.galleryImages.delete(group, gallery, definition).pollUntilDone();
await compute.galleries.delete(group, gallery).pollUntilDone();
const left = await all(resources.resources.listByResourceGroup(group));
await resources.resourceGroups.delete(group).pollUntilDone();
const exists = await resources.resourceGroups.get(group).then(
  () => true,
  error => error.code,
);

process.stdout.write(
  JSON.stringify({
    states,
    made: { provisioningState: made.provisioningState, type: made.type },
    trigger: trigger.properties,
    triggers: triggers.map(({ name }) => name),
    lastRunStatus,
    outputs: outputs.map(({ name, artifactId, provisioningState }) => ({ name, artifactId, provisioningState })),
    version: shown,
    disk: { bytes: disk.length, footer: disk.subarray(-512, -504).toString('latin1') },
    account: { kind: account.kind, provisioningState: account.provisioningState },
    names,
    script: script.toString(),
    left: left.map(({ name }) => name),
    exists,
  }),
);

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
