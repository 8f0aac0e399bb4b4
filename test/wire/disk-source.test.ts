/** What images and versions are made from, resolved: whose disk it is, where, and in whose words it is refused. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  openDiskSource,
  requireDiskSource,
  type SourceReference,
  takeDisk,
} from '../../src/providers/compute/disk-source.ts';
import { patchProperties } from '../../src/providers/store.ts';
import { temporaryHome } from '../kiln.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { storeManagedImage } from './images-store.ts';
import { makeAccount, newGroup, upload, type Vhds, vhdMaker } from './vhds.ts';

const ACCOUNT = 'diskvhds';
const path = 'properties.source';

let server: TestServer;
let vhds: Vhds;
let group: string;
let vhd: string;
before(async () => {
  vhds = await vhdMaker();
  server = await startTestServer({ concurrency: 0 });
  group = await newGroup(server, 'sources', 'eastus');
  await makeAccount(server, group, ACCOUNT, 'eastus');
  vhd = (await vhds.make('disk', 'fixed')).path;
  await upload(server.service, [ACCOUNT, 'vhds', 'a b/disk.vhd'], vhd);
});
after(async () => {
  await server?.close();
  await vhds?.remove();
});

const open = (source: SourceReference, location = 'eastus') =>
  openDiskSource(server.service.environment, source, { location });
const uri = `https://${ACCOUNT}.blob.localhost/vhds/a%20b/disk.vhd`;

test('a managed image is its own disk in its own region', async () => {
  const id = `${group}/providers/Microsoft.Compute/images/base`;
  const stored = await storeManagedImage(server.service, { id, location: 'eastus', hyperVGeneration: 'V2' });
  const source = await open({ id: id.toUpperCase().replace('/SUBSCRIPTIONS', '/subscriptions'), path });
  assert.deepEqual(source, {
    ...{
      kind: 'ManagedImage',
      id,
      location: 'eastus',
      osType: 'Linux',
      osState: 'Generalized',
      hyperVGeneration: 'V2',
    },
    ...{ disk: { virtualSize: stored.manifest.virtualSize, stored }, dataDisks: [] },
  });
  const signal = new AbortController().signal;
  const taken = await takeDisk(source.disk, { to: '/nowhere', signal });
  assert.deepEqual([taken.path, taken.fsverity], [stored.path, stored.manifest.fsverity]);
  const sentence =
    /is not found\. Please check source exists, and is in the same region as gallery image version being created\.$/;
  await assert.rejects(open({ id, path }, 'westus'), { code: 'NotFound', target: path, message: sentence });
  await assert.rejects(open({ id: `${id}2`, path }), { code: 'NotFound', message: sentence });
  await assert.rejects(open({ id: `${group}/providers/Microsoft.Compute/disks/base`, path }), { message: sentence });
  await assert.rejects(open({ id: 'base', path }), { code: 'LinkedInvalidPropertyId' });
  const { kysely } = server.service.database;
  await patchProperties(kysely, id, { provisioningState: 'Creating' });
  await assert.rejects(open({ id, path }), {
    code: 'OperationNotAllowed',
    message: /until Image has been successfully/,
  });
  await patchProperties(kysely, id, { provisioningState: 'Deleting' });
  await assert.rejects(open({ id, path }), { code: 'NotFound' });
});

test('a VHD is found by its URL, with or without its account, and is what its footer says', async () => {
  const storageAccountId = `${group}/providers/microsoft.storage/STORAGEACCOUNTS/${ACCOUNT}`;
  for (const source of [
    { uri, path },
    { uri, storageAccountId, path },
    { uri: `${uri}?sv=1&sig=secret`, path },
  ]) {
    const opened = await open(source);
    assert.deepEqual([opened.kind, opened.id, opened.location], ['VHD', uri, 'eastus']);
    assert.equal(opened.disk.virtualSize, 8 * 1024 * 1024);
  }
  await assert.rejects(open({ uri, storageAccountId: `${storageAccountId}2`, path }), { code: 'InvalidParameter' });
  await assert.rejects(open({ uri, path }, 'westus'), { code: 'StorageAccountLocationMismatch', target: path });
  await assert.rejects(open({ uri: uri.replace('disk.vhd', 'none.vhd'), path }), { code: 'ImageBlobNotFound' });
  const limits = { maxVirtualSize: 1024 * 1024 };
  await assert.rejects(openDiskSource(server.service.environment, { uri, path }, { limits }), {
    code: 'VHDSizeInvalid',
    message: /Disk size must be between 1048576 and 1048576\.$/,
  });
});

test('a VHD that is overwritten or deleted while it is copied is not taken for what it was', async () => {
  const directory = await temporaryHome();
  try {
    const signal = new AbortController().signal;
    const { disk } = await open({ uri, path });
    await upload(server.service, [ACCOUNT, 'vhds', 'a b/disk.vhd'], await readFile(vhd), 'block');
    await assert.rejects(takeDisk(disk, { to: join(directory.path, 'disk.qcow2'), signal }), { code: 'Conflict' });
    const again = await open({ uri, path });
    const taken = await takeDisk(again.disk, { to: join(directory.path, 'disk.qcow2'), signal });
    assert.equal(taken.virtualSize, 8 * 1024 * 1024);
  } finally {
    await directory.remove();
  }
});

test('whoever asks has to be allowed to read it, which comes before whether it is there', async () => {
  const { environment } = server.service;
  const caller = { objectId: 'o', clientId: 'c', tenantId: 't' } as never;
  const asked: string[] = [];
  const call = (allowed: boolean) => ({
    environment,
    caller,
    may: async (action: string, scope: string) => {
      asked.push(`${action} ${scope}`);
      return allowed;
    },
  });
  const permitted = { action: 'Microsoft.Compute/galleries/images/versions/write', scope: `${group}/providers/A/b/c` };
  const id = `${group}/providers/Microsoft.Compute/images/absent`;
  await assert.rejects(requireDiskSource(call(false), permitted, { id, path }), {
    code: 'LinkedAuthorizationFailed',
    target: path,
    message:
      /permission to perform action 'Microsoft\.Compute\/galleries\/images\/versions\/write'.*'Microsoft\.Compute\/images\/read' on the linked scope/,
  });
  await assert.rejects(requireDiskSource(call(true), permitted, { id, path }), { code: 'NotFound' });
  await requireDiskSource(call(true), permitted, { uri, path });
  assert.deepEqual(asked, [
    `Microsoft.Compute/images/read ${id}`,
    `Microsoft.Compute/images/read ${id}`,
    `Microsoft.Storage/storageAccounts/listKeys/action ${group}/providers/Microsoft.Storage/storageAccounts/${ACCOUNT}`,
  ]);
  const elsewhere = id.replace(SUBSCRIPTION, '99999999-0000-4000-8000-000000000000');
  await assert.rejects(requireDiskSource(call(true), permitted, { id: elsewhere, path }), {
    code: 'LinkedAuthorizationFailed',
    message: /is not authorized to access linked subscription/,
  });
});
