/** Storage with @azure/arm-storage and @azure/storage-blob as they come: a process of its own, which knows of the server what `kiln env` says. Prints what it saw. */
import { StorageManagementClient } from '@azure/arm-storage';
import { ClientSecretCredential } from '@azure/identity';
import {
  AccountSASPermissions,
  BlobSASPermissions,
  BlobServiceClient,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';

const { KILN_ENDPOINT, STORAGE_GROUP, AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_SUBSCRIPTION_ID } =
  process.env;
const endpoint = KILN_ENDPOINT!;
const group = STORAGE_GROUP!;
const name = 'kilnlibraries1';
const type = 'Microsoft.Storage/storageAccounts';
// A tenant by its id: the libraries would otherwise ask Azure's own directory whether they may trust the authority.
const token = new ClientSecretCredential(AZURE_TENANT_ID!, AZURE_CLIENT_ID!, AZURE_CLIENT_SECRET!, {
  authorityHost: endpoint,
  disableInstanceDiscovery: true,
});
const storage = new StorageManagementClient(token, AZURE_SUBSCRIPTION_ID!, {
  endpoint,
  retryOptions: { maxRetries: 0 },
});
const accounts = storage.storageAccounts;
const expiresOn = new Date(Date.now() + 3_600_000);
const once = { retryOptions: { maxTries: 1 } };

const available = [(await accounts.checkNameAvailability({ name, type })).nameAvailable];
const made = await accounts.create(group, name, {
  location: 'westus2',
  sku: { name: 'Standard_LRS' },
  kind: 'StorageV2',
});
available.push((await accounts.checkNameAvailability({ name, type })).nameAvailable);
const { keys = [] } = await accounts.listKeys(group, name);
const container = await storage.blobContainers.create(group, name, 'made-by-arm', {});
const containers: (string | undefined)[] = [];
for await (const one of storage.blobContainers.list(group, name)) containers.push(one.name);

const url = made.primaryEndpoints!.blob!.replace(/\/$/, '');
const credential = new StorageSharedKeyCredential(name, keys[0]!.value!);
const box = new BlobServiceClient(url, credential, once).getContainerClient('made-by-arm');
const bytes = Buffer.alloc(9_000_000, 'abcdefghij');
// Several blocks and their list.
await box.getBlockBlobClient('data.bin').uploadData(bytes, { blockSize: 4 * 2 ** 20, maxSingleShotSize: 1 });
const uploaded = (await box.getBlobClient('data.bin').downloadToBuffer(0, undefined, { blockSize: 2 ** 20 })).equals(
  bytes,
)
  ? bytes.length
  : 0;
const range = (await box.getBlobClient('data.bin').downloadToBuffer(8_000_000, 10)).toString();
await box.getBlockBlobClient('folder/small.txt').upload('small', 5);
const blobs: string[] = [];
for await (const one of box.listBlobsFlat()) blobs.push(one.name);
const folders: string[] = [];
for await (const one of box.listBlobsByHierarchy('/')) if (one.kind === 'prefix') folders.push(one.name);

const small = 'folder/small.txt';
const read = async (service: BlobServiceClient) =>
  (await service.getContainerClient('made-by-arm').getBlobClient(small).downloadToBuffer()).toString();
const permissions = BlobSASPermissions.parse('r');
const blobSas = generateBlobSASQueryParameters(
  { containerName: 'made-by-arm', blobName: small, permissions, expiresOn },
  credential,
);
const signed = await read(new BlobServiceClient(`${url}?${blobSas}`, undefined, once));
const ofToken = await read(new BlobServiceClient(url, token, once));
const all = { permissions: AccountSASPermissions.parse('r'), services: 'b', resourceTypes: 'o', expiresOn };
const accountSas = await read(
  new BlobServiceClient(`${url}?${generateAccountSASQueryParameters(all, credential)}`, undefined, once),
);

const renewed = await accounts.regenerateKey(group, name, { keyName: 'key1' });
const code = async (work: Promise<unknown>): Promise<unknown> =>
  await work.then(
    () => undefined,
    error => error.code ?? error.statusCode,
  );
const oldKey = await code(box.getProperties());
await accounts.delete(group, name);
const deleted = await accounts.getProperties(group, name).then(
  () => 200,
  error => error.statusCode,
);
process.stdout.write(
  JSON.stringify({
    available,
    kind: made.kind,
    keys: keys.map(({ keyName }) => keyName),
    container: container.publicAccess,
    containers,
    uploaded,
    range,
    blobs,
    folders,
    signed,
    token: ofToken,
    accountSas,
    renewedIsOther: renewed.keys?.[0]?.value !== keys[0]!.value,
    oldKey,
    deleted,
  }),
);
