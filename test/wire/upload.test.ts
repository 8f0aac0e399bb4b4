/** VHDs uploaded to the server's own storage accounts: over its door, over a line that breaks, and linked, where no byte moves. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { STORAGE_BLOB_DATA_CONTRIBUTOR, STORAGE_BLOB_DATA_READER } from '../../src/arm/role-ids.ts';
import { passOverFile } from '../../src/disks/pass.ts';
import type { OwnDoor } from '../../src/images/catalogue/own-door.ts';
import { openRemoteBlob, type RemoteOptions } from '../../src/images/upload/remote-blob.ts';
import { uploadVhd } from '../../src/images/upload/upload-vhd.ts';
import { SUBSCRIPTION, startTestServer, type TestServer } from '../server.ts';
import { type TestAccount, testAccount } from './blob-client.ts';
import { makeGround, NEWEST, plainTemplate } from './ground.ts';
import { type Vhds, vhdMaker } from './vhds.ts';

let server: TestServer;
let account: TestAccount;
let directory: string;
let vhds: Vhds;
let vhd: { readonly path: string; readonly fsverity: string; readonly bytes: Buffer };

before(async () => {
  server = await startTestServer();
  account = await testAccount(server, 'uploadsofatest');
  await account.service.getContainerClient('box').create();
  directory = await mkdtemp(join(tmpdir(), 'kiln-upload-'));
  vhds = await vhdMaker();
  const { path } = await vhds.make('small', 'fixed');
  const bytes = await readFile(path);
  vhd = { path, fsverity: (await passOverFile(path)).fsverity, bytes };
});
after(async () => {
  await server?.close();
  await vhds?.remove();
  await rm(directory, { recursive: true, force: true });
});

const door = (): OwnDoor => {
  const { doorway } = server.service.environment;
  assert.ok(doorway?.door);
  return doorway.door;
};

async function upload(uri: string, options: Partial<RemoteOptions>) {
  const signal = AbortSignal.timeout(60_000);
  await using blob = openRemoteBlob(uri, { allowLocal: false, pause: 1, idleTimeout: 2_000, signal, ...options });
  return await uploadVhd(vhd, blob, { metadata: { team: 'images' }, signal });
}

const container = () => account.service.getContainerClient('box');
const content = (name: string) => container().getBlobClient(name).downloadToBuffer();

test('a signature and the door: the blob is a link to the file, by path and by host', async () => {
  const { host, port } = new URL(server.origin);
  assert.ok(host.startsWith('127.0.0.1'));
  const uris = [
    `${server.origin}/${account.name}/box/path.vhd${account.sas}`,
    `https://${account.name}.blob.localhost:${port}/box/host.vhd${account.sas}`,
  ];
  for (const uri of uris) {
    const { linked, sent } = await upload(uri, { own: door() });
    assert.equal(linked, true, uri);
    assert.equal(sent, 512);
    const name = new URL(uri).pathname.split('/').at(-1)!;
    assert.ok((await content(name)).equals(vhd.bytes), name);
    const { blobType, metadata, contentLength } = await account.service
      .getContainerClient('box')
      .getBlobClient(name)
      .getProperties();
    assert.deepEqual([blobType, contentLength], ['PageBlob', vhd.bytes.length]);
    assert.deepEqual(metadata, { team: 'images', kiln_fsverity: vhd.fsverity });
  }
  assert.ok((await stat(vhd.path)).nlink > 1, 'the store has other names of the file');
});

test('an identity that may write blobs needs no signature; one that may only read is refused', async () => {
  const uri = `${server.origin}/${account.name}/box/identity.vhd`;
  const scope = account.id;
  const writer = await server.principal('writer', { id: STORAGE_BLOB_DATA_CONTRIBUTOR, scope });
  const reader = await server.principal('reader', { id: STORAGE_BLOB_DATA_READER, scope });
  await assert.rejects(upload(uri, { own: door(), as: reader.objectId }), {
    code: 'UploadFailed',
    message: /identity\.vhd: making the blob was refused: the server answered 403 AuthorizationPermissionMismatch\.$/,
  });
  assert.equal((await upload(uri, { own: door(), as: writer.objectId })).linked, true);
  assert.ok((await content('identity.vhd')).equals(vhd.bytes));
  // Complete: nothing is to be done.
  assert.equal((await upload(uri, { own: door(), as: writer.objectId })).sent, 0);
  await assert.rejects(upload(uri, { own: door() }), { code: 'UploadFailed', message: /has no signature/ });
});

test('a blob that is overwritten while it is linked is not taken for the file', async () => {
  const { linkPages, ...own } = door();
  const uri = `${server.origin}/${account.name}/box/raced.vhd${account.sas}`;
  const raced: OwnDoor = {
    ...own,
    async linkPages(url, file, etag) {
      await account.service.getContainerClient('box').getPageBlobClient('raced.vhd').create(vhd.bytes.length);
      await linkPages!(url, file, etag);
    },
  };
  await assert.rejects(upload(uri, { own: raced }), { code: 'UploadFailed', message: /412 ConditionNotMet/ });
});

/** Passes bytes on, and breaks each connection when so many have come from the client, while there are breaks left. */
async function brokenLine(
  after: number,
  breaks: number,
): Promise<{ readonly port: number; left(): number; close(): void }> {
  let left = breaks;
  const line: Server = createServer(client => {
    const upstream = connect(Number(new URL(server.origin).port), '127.0.0.1');
    let seen = 0;
    client.on('data', chunk => {
      seen += chunk.length;
      if (seen > after && left > 0) {
        left -= 1;
        client.resetAndDestroy();
        upstream.destroy();
      }
    });
    client.pipe(upstream).pipe(client);
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
  });
  line.listen(0, '127.0.0.1');
  await once(line, 'listening');
  return { port: (line.address() as AddressInfo).port, left: () => left, close: () => void line.close() };
}

test('over a line that breaks again and again, all of it arrives', async () => {
  const line = await brokenLine(900, 4);
  try {
    const { linkPages: _, ...plain } = door();
    const uri = `${server.origin}/${account.name}/box/broken.vhd${account.sas}`;
    const { linked } = await upload(uri, { own: { ...plain, port: line.port } });
    assert.equal(linked, false);
    assert.equal(line.left(), 0);
    assert.ok((await content('broken.vhd')).equals(vhd.bytes));
  } finally {
    line.close();
  }
});

test('runs upload in the name of their identity; what a run could not, its retry does', async () => {
  const ground = await makeGround(server, 'uploading');
  const template = ground.template('uploads');
  const uri = `${server.origin}/${account.name}/box/run.vhd`;
  const plain = plainTemplate(ground) as { properties: { distribute: object[] } };
  const distribute = [...plain.properties.distribute, { type: 'VHD', runOutputName: 'vhd', uri }];
  const body = { ...plain, properties: { ...plain.properties, distribute } };
  const made = await server.request('PUT', template, { apiVersion: NEWEST, body });
  assert.equal(made.status, 201, made.text);
  await server.settled(made);
  const runs = `${template}/providers/Kiln.Builds/runs`;
  const run = async (path = `${template}/run`, apiVersion = NEWEST) => {
    const begun = await server.request('POST', path, { apiVersion });
    assert.equal(begun.status, 202, begun.text);
    const ended = await server.settled(begun);
    const listed = await server.request('GET', runs, { apiVersion: '2026-11-01' });
    const [newest] = (listed.body as { value: { name: string; properties: { state: string; message: string } }[] })
      .value;
    return { status: (ended.body as { status: string }).status, id: newest!.name, ...newest!.properties };
  };

  const unallowed = await run();
  assert.equal(unallowed.state, 'PartiallySucceeded');
  assert.match(
    unallowed.message,
    /run\.vhd: making the blob was refused: the server answered 403 AuthorizationPermissionMismatch\./,
  );

  const identity = await server.request('GET', ground.identityId, { apiVersion: '2023-01-31' });
  const { principalId } = (identity.body as { properties: { principalId: string } }).properties;
  const roleDefinitionId = `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${STORAGE_BLOB_DATA_CONTRIBUTOR}`;
  const assigned = await server.request(
    'PUT',
    `${account.id}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`,
    {
      apiVersion: '2022-04-01',
      body: { properties: { roleDefinitionId, principalId, principalType: 'ServicePrincipal' } },
    },
  );
  assert.equal(assigned.status, 201, assigned.text);
  const first = await run();
  assert.equal(first.state, 'Succeeded', first.message);
  const output = await server.request('GET', `${template}/runOutputs/vhd`, { apiVersion: NEWEST });
  assert.equal((output.body as { properties: { artifactUri: string } }).properties.artifactUri, uri);
  const blob = container().getBlobClient('run.vhd');
  assert.equal((await blob.getProperties()).metadata?.correlationid, first.id);

  const lease = blob.getBlobLeaseClient();
  await lease.acquireLease(-1);
  const partial = await run();
  assert.equal(partial.state, 'PartiallySucceeded', partial.message);
  assert.match(partial.message, /\[Distribute 1\] VHD "vhd" → \S+run\.vhd: .*412 LeaseIdMissing/);
  await lease.breakLease(0);
  const retried = await run(`${runs}/${partial.id}/retry`, '2026-11-01');
  assert.deepEqual([retried.status, retried.state], ['Succeeded', 'Succeeded'], retried.message);
  assert.notEqual(retried.id, partial.id);
  assert.equal((await blob.getProperties()).metadata?.correlationid, retried.id);

  const again = await server.request('POST', `${runs}/${retried.id}/retry`, { apiVersion: '2026-11-01' });
  assert.equal(again.status, 409, again.text);
  const absent = await server.request('POST', `${runs}/${randomUUID()}/retry`, { apiVersion: '2026-11-01' });
  assert.equal(absent.status, 404, absent.text);
  const reader = await server.principal('onlooker', { id: STORAGE_BLOB_DATA_READER, scope: account.id });
  const denied = { apiVersion: '2026-11-01', token: reader.token };
  assert.equal((await server.request('POST', `${runs}/${partial.id}/retry`, denied)).status, 403);
});
