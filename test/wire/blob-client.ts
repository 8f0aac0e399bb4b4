/** A storage account of a test server, with Microsoft's own client for its blobs. */
import assert from 'node:assert/strict';
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  BlobServiceClient,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { SUBSCRIPTION, type TestServer } from '../server.ts';

export interface TestAccount {
  readonly name: string;
  /** Of the storage account. */
  readonly id: string;
  /** Signs with the account's key; nothing is tried again. */
  readonly service: BlobServiceClient;
  /** Allows everything: `?…`. */
  readonly sas: string;
  /** Without the signature in it. */
  url(path: string): string;
}

const API = '2022-09-01';

export async function testAccount(server: TestServer, name: string, group = 'blobs'): Promise<TestAccount> {
  const groupId = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${group}`;
  const id = `${groupId}/providers/Microsoft.Storage/storageAccounts/${name}`;
  await server.request('PUT', groupId, { apiVersion: '2021-04-01', body: { location: 'eastus' } });
  const body = { location: 'eastus', sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
  const made = await server.request('PUT', id, { apiVersion: API, body });
  assert.equal(made.status, 200, made.text);
  const key = await keyOf(server, id);
  const credential = new StorageSharedKeyCredential(name, key);
  const query = generateAccountSASQueryParameters(
    {
      permissions: AccountSASPermissions.parse('rwdlacupt'),
      resourceTypes: AccountSASResourceTypes.parse('sco').toString(),
      services: 'b',
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    credential,
  );
  return {
    name,
    id,
    service: clientOf(server, name, credential),
    sas: `?${query}`,
    url: path => `${server.origin}/${name}${path}`,
  };
}

export async function keyOf(server: TestServer, accountId: string): Promise<string> {
  const keys = await server.request('POST', `${accountId}/listKeys`, { apiVersion: API });
  assert.equal(keys.status, 200, keys.text);
  return (keys.body as { keys: { value: string }[] }).keys[0]!.value;
}

export function clientOf(
  server: Pick<TestServer, 'origin' | 'ca'>,
  name: string,
  credential: StorageSharedKeyCredential,
): BlobServiceClient {
  // Handed on to the pipeline; the library's own type does not name it.
  const tls = { tlsOptions: { ca: server.ca } };
  return new BlobServiceClient(`${server.origin}/${name}`, credential, { retryOptions: { maxTries: 1 }, ...tls });
}
