/** Uploads to Azurite, Microsoft's own emulator of the blob service, as a peer that was not written here. Read back by Microsoft's library. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  BlobSASPermissions,
  BlobServiceClient,
  type ContainerClient,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { passOverFile } from '../../src/disks/pass.ts';
import { openRemoteBlob } from '../../src/images/upload/remote-blob.ts';
import { uploadVhd, type VhdFile } from '../../src/images/upload/upload-vhd.ts';
import { type Vhds, vhdMaker } from '../wire/vhds.ts';
import { azuriteScript } from './azurite.ts';

const script = await azuriteScript();
/** Of the emulator, the same everywhere, and no secret: its documentation has it. */
const ACCOUNT = 'devstoreaccount1';
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

describe('Azurite', { skip: 'missing' in script && script.missing }, () => {
  let azurite: ChildProcess;
  let directory: string;
  let vhds: Vhds;
  let container: ContainerClient;
  const credential = new StorageSharedKeyCredential(ACCOUNT, KEY);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'kiln-azurite-'));
    vhds = await vhdMaker();
    const port = await freePort();
    const where = ['--location', directory, '--blobHost', '127.0.0.1', '--blobPort', String(port)];
    // The library may speak a newer version of the protocol than the emulator knows.
    const args = ['--silent', '--disableTelemetry', '--skipApiVersionCheck', ...where];
    assert.ok('path' in script);
    azurite = spawn(process.execPath, [script.path, ...args], { stdio: 'inherit', env: { PATH: process.env.PATH } });
    const service = new BlobServiceClient(`http://127.0.0.1:${port}/${ACCOUNT}`, credential);
    container = service.getContainerClient('vhds');
    for (let tries = 0; ; tries++) {
      assert.equal(azurite.exitCode, null, 'Azurite ended');
      const made = await container.createIfNotExists().catch(error => error as Error);
      if (!(made instanceof Error)) break;
      if (tries === 100) throw made;
      await sleep(100);
    }
  });
  after(async () => {
    if (azurite && azurite.exitCode === null) {
      azurite.kill('SIGKILL');
      await once(azurite, 'exit');
    }
    await vhds?.remove();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  function signed(blobName: string, permissions: string): string {
    const options = { containerName: 'vhds', blobName, expiresOn: new Date(Date.now() + 3_600_000) };
    const sas = generateBlobSASQueryParameters(
      { ...options, permissions: BlobSASPermissions.parse(permissions) },
      credential,
    );
    return `${container.getBlobClient(blobName).url}?${sas}`;
  }

  async function made(name: string): Promise<VhdFile & { readonly bytes: Buffer }> {
    const { path } = await vhds.make(name, 'fixed', 16);
    const bytes = await readFile(path);
    return { path, bytes, fsverity: (await passOverFile(path)).fsverity };
  }

  async function upload(file: VhdFile, uri: string, probe = true) {
    const signal = AbortSignal.timeout(60_000);
    const said: string[] = [];
    await using blob = openRemoteBlob(uri, { allowLocal: true, pause: 10, signal });
    if (probe) await blob.probe();
    const uploaded = await uploadVhd(file, blob, {
      metadata: { team: 'images' },
      signal,
      report: line => void said.push(line),
    });
    return { ...uploaded, said: said.join('\n') };
  }

  test('a VHD arrives whole, as a page blob with holes', async () => {
    const file = await made('first');
    const { sent } = await upload(file, signed('first.vhd', 'rcw'));
    assert.ok(sent < file.bytes.length / 4, `${sent} of ${file.bytes.length} bytes were sent`);
    const blob = container.getPageBlobClient('first.vhd');
    assert.ok((await blob.downloadToBuffer()).equals(file.bytes));
    const { blobType, metadata } = await blob.getProperties();
    assert.deepEqual([blobType, metadata], ['PageBlob', { team: 'images', kiln_fsverity: file.fsverity }]);
    const { pageRange = [] } = await blob.getPageRanges();
    assert.ok(pageRange.reduce((sum, { count = 0 }) => sum + count, 0) <= sent);
  });

  test('what is there is not sent again, and another file takes its place', async () => {
    const [file, other] = [await made('again'), await made('other')];
    await upload(file, signed('again.vhd', 'rcw'));
    const again = await upload(file, signed('again.vhd', 'rcw'), false);
    assert.equal(again.sent, 0);
    const replaced = await upload(other, signed('again.vhd', 'rcw'));
    assert.match(replaced.said, /other content/);
    assert.ok((await container.getBlobClient('again.vhd').downloadToBuffer()).equals(other.bytes));
  });

  test('a signature that may only write is enough', async () => {
    const file = await made('blind');
    const { said } = await upload(file, signed('blind.vhd', 'cw'));
    assert.match(said, /lets nobody read/);
    assert.ok((await container.getBlobClient('blind.vhd').downloadToBuffer()).equals(file.bytes));
  });

  test('one that may only read is refused before anything is sent', async () => {
    const file = await made('refused');
    await assert.rejects(upload(file, signed('refused.vhd', 'r')), (error: { code?: string; message: string }) => {
      assert.equal(error.code, 'UploadFailed');
      assert.match(error.message, /refused\.vhd: making the blob was refused: the server answered 403 \w+\.$/);
      assert.ok(!error.message.includes('sig='));
      return true;
    });
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
