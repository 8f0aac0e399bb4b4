/**
 * The tutorial on automatic image builds by Microsoft's client libraries (arm-resources, arm-msi, arm-authorization, arm-compute, arm-storage, storage-blob,
 * arm-imagebuilder, identity), unmodified, in a process of their own. Only the guest is missing from the build.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LOCAL_TENANT } from '../../src/arm/ids.ts';
import { run } from '../../src/processes/process.ts';
import { ROOT } from '../kiln.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server?.close());

test('the libraries go from the first call of the tutorial to the last', async () => {
  const ca = join(server.service.home.root, 'authority.pem');
  await writeFile(ca, server.ca);
  const flow = join(ROOT, 'test/clients/sdk-flow.ts');
  const { stdout, stderr, exitCode } = await run(process.execPath, [flow], {
    env: {
      PATH: process.env.PATH,
      NODE_EXTRA_CA_CERTS: ca,
      KILN_ENDPOINT: server.origin,
      AZURE_TENANT_ID: LOCAL_TENANT,
      AZURE_CLIENT_ID: server.administrator.clientId,
      AZURE_CLIENT_SECRET: server.administrator.secret,
      AZURE_SUBSCRIPTION_ID: SUBSCRIPTION,
    },
    ok: [0, 1],
  });
  assert.equal(exitCode, 0, `${stderr}\n${server.errors.join('\n')}`);
  const seen = JSON.parse(stdout);
  assert.deepEqual(seen.states, Array(6).fill('Registered'));
  assert.deepEqual(seen.made, {
    provisioningState: 'Succeeded',
    type: 'Microsoft.VirtualMachineImages/imageTemplates',
  });
  assert.deepEqual(
    [seen.trigger.kind, seen.trigger.provisioningState, seen.trigger.status.code],
    ['SourceImage', 'Succeeded', 'Healthy'],
  );
  assert.deepEqual(seen.triggers, ['sourceImageTrigger']);
  assert.deepEqual([seen.lastRunStatus.runState, seen.lastRunStatus.message], ['Succeeded', '']);
  assert.deepEqual(
    seen.outputs.map(({ name, provisioningState }: Record<string, string>) => [name, provisioningState]).sort(),
    [
      ['output', 'Succeeded'],
      ['output-vhd', 'Succeeded'],
    ],
  );
  const { version } = seen;
  assert.equal(version.id, seen.outputs.find(({ name }: { name: string }) => name === 'output').artifactId);
  assert.deepEqual([version.name, version.provisioningState], ['1.0.0', 'Succeeded']);
  assert.equal(version.tags.source, 'azureVmImageBuilder');
  assert.deepEqual(
    version.publishingProfile.targetRegions.map((one: Record<string, unknown>) => [
      one.name,
      one.regionalReplicaCount,
      one.storageAccountType,
    ]),
    [
      ['West US 2', 1, 'Standard_LRS'],
      ['East US 2', 2, 'Standard_ZRS'],
    ],
  );
  assert.equal(version.replicationStatus.aggregatedState, 'Completed');
  assert.deepEqual(
    version.replicationStatus.summary.map(({ region, state, progress }: Record<string, unknown>) => [
      region,
      state,
      progress,
    ]),
    [
      ['West US 2', 'Completed', 100],
      ['East US 2', 'Completed', 100],
    ],
  );
  assert.deepEqual([seen.disk.bytes % (1024 * 1024), seen.disk.footer], [512, 'conectix']);
  assert.deepEqual(seen.account, { kind: 'StorageV2', provisioningState: 'Succeeded' });
  assert.deepEqual([seen.names, seen.script], [['first.sh'], 'echo first\n']);
  assert.deepEqual(seen.left.length, 1, String(seen.left));
  assert.equal(seen.exists, 'ResourceGroupNotFound');
  assert.deepEqual(server.errors, []);
});
