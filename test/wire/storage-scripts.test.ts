/** Scripts of templates that lie in a storage account of the same server: fetched with what their URL proves, and nothing more. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type TestAccount, testAccount } from './blob-client.ts';

const GROUP = `/subscriptions/${SUBSCRIPTION}/resourceGroups/blobs`;
const IDENTITY = `${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/scripts`;
const API = '2024-02-01';
const STORAGE_BLOB_DATA_READER = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1';

let server: TestServer;
let account: TestAccount;
before(async () => {
  server = await startTestServer();
  account = await testAccount(server, 'scripts1');
  const container = account.service.getContainerClient('scripts');
  await container.create();
  await container.getBlockBlobClient('a.sh').upload('echo of an account', 18);
  await server.request('PUT', IDENTITY, { apiVersion: '2023-01-31', body: { location: 'westus' } });
});
after(() => server?.close());

async function made(name: string, scriptUri: string) {
  const id = `${GROUP}/providers/Microsoft.VirtualMachineImages/imageTemplates/${name}`;
  const answer = await server.request('PUT', id, {
    apiVersion: API,
    body: {
      location: 'westus',
      identity: { type: 'UserAssigned', userAssignedIdentities: { [IDENTITY]: {} } },
      properties: {
        source: {
          type: 'PlatformImage',
          publisher: 'Canonical',
          offer: 'UbuntuServer',
          sku: '18.04-LTS',
          version: 'latest',
        },
        customize: [{ type: 'Shell', name: 'script', scriptUri }],
        distribute: [{ type: 'VHD', runOutputName: 'disk' }],
      },
    },
  });
  assert.equal(answer.status, 201, answer.text);
  await server.settled(answer);
  const { body } = await server.request('GET', id, { apiVersion: API });
  return (body as { properties: { provisioningState: string; provisioningError?: { message: string } } }).properties;
}

test('a script is fetched by its signature, by path and by host', async () => {
  const { port } = new URL(server.origin);
  const bases = {
    path: `${server.origin}/${account.name}`,
    localhost: `https://localhost:${port}/${account.name}`,
    host: `https://${account.name}.blob.localhost:${port}`,
  };
  const all = Object.entries(bases).map(([name, base]) => made(name, `${base}/scripts/a.sh${account.sas}`));
  for (const { provisioningState, provisioningError } of await Promise.all(all))
    assert.equal(provisioningState, 'Succeeded', provisioningError?.message);
});

test('without a signature the roles of the template’s identity decide: the server does not trust itself', async () => {
  const uri = `${server.origin}/${account.name}/scripts/a.sh`;
  const refused = await made('bare', uri);
  assert.equal(refused.provisioningState, 'Failed');
  assert.match(refused.provisioningError!.message, /answered 403/);
  const { body } = await server.request('GET', IDENTITY, { apiVersion: '2023-01-31' });
  const { principalId } = (body as { properties: { principalId: string } }).properties;
  const role = `${GROUP}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`;
  const roleDefinitionId = `/providers/Microsoft.Authorization/roleDefinitions/${STORAGE_BLOB_DATA_READER}`;
  const assigned = await server.request('PUT', role, {
    apiVersion: '2022-04-01',
    body: { properties: { principalId, roleDefinitionId } },
  });
  assert.equal(assigned.status, 201, assigned.text);
  const { provisioningState, provisioningError } = await made('reader', uri);
  assert.equal(provisioningState, 'Succeeded', provisioningError?.message);
  const expired = await made('expired', `${uri}?sv=2022-11-02&sr=b&sp=r&se=2020-01-01&sig=${encodeURIComponent('x')}`);
  assert.equal(expired.provisioningState, 'Failed', 'who gives a signature is judged by it');
  const arm = await made('arm', `${server.origin}${GROUP}?api-version=2021-04-01`);
  assert.equal(arm.provisioningState, 'Failed');
  assert.match(arm.provisioningError!.message, /answered 401/);
});
