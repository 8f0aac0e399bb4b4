/** VHDs as people make them, in storage accounts of the tests' server. */
import assert from 'node:assert/strict';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commitBlocks, putBlockBlob, stageBlock } from '../../src/blobs/block-blobs.ts';
import { ensureContainers } from '../../src/blobs/containers.ts';
import type { WrittenFile } from '../../src/blobs/files.ts';
import { createPageBlob, putPages } from '../../src/blobs/page-blobs.ts';
import { type BlobStore, openBlobStore } from '../../src/blobs/store.ts';
import { run } from '../../src/processes/process.ts';
import type { Service } from '../../src/service.ts';
import { SUBSCRIPTION, type TestServer } from '../server.ts';

const MIB = 1024 * 1024;

export interface MadeVhd {
  /** What is in it, as a raw disk. */
  readonly raw: string;
  readonly path: string;
}

export interface Vhds {
  make(name: string, subformat: 'fixed' | 'dynamic', mebibytes?: number): Promise<MadeVhd>;
  remove(): Promise<void>;
}

/** Small disks with a boot sector and some text here and there. */
export async function vhdMaker(): Promise<Vhds> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-vhds-'));
  return {
    async make(name, subformat, mebibytes = 8) {
      const raw = join(directory, `${name}.raw`);
      const handle = await open(raw, 'w');
      await handle.truncate(mebibytes * MIB);
      for (const at of [0, (mebibytes * MIB) / 2, mebibytes * MIB - 4096]) await handle.write(`${name} at ${at}`, at);
      await handle.write(Buffer.of(0x55, 0xaa), 0, 2, 510);
      await handle.close();
      const path = join(directory, `${name}.vhd`);
      const options = `subformat=${subformat},force_size=on`;
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', '-o', options, raw, path]);
      return { raw, path };
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

export async function makeAccount(server: TestServer, group: string, name: string, location: string): Promise<string> {
  const id = `${group}/providers/Microsoft.Storage/storageAccounts/${name}`;
  const body = { location, sku: { name: 'Standard_LRS' }, kind: 'StorageV2' };
  const made = await server.request('PUT', id, { apiVersion: '2022-09-01', body });
  assert.ok(made.status === 200 || made.status === 202, made.text);
  return id;
}

export const newGroup = async (server: TestServer, name: string, location: string): Promise<string> => {
  const group = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${name}`;
  const made = await server.request('PUT', group, { apiVersion: '2021-04-01', body: { location } });
  assert.equal(made.status, 201, made.text);
  return group;
};

export type Uploaded = 'page' | 'block' | 'blocks';

/** Puts bytes into a blob: as pages (only those with something in them), as one block blob, or as a list of blocks. */
export async function upload(
  service: Pick<Service, 'environment' | 'engine' | 'home'>,
  [account, container, blob]: readonly [string, string, string],
  content: string | Buffer,
  as: Uploaded = 'page',
): Promise<void> {
  const { database } = service.environment;
  const store = openBlobStore({ database, home: service.home, owner: service.engine.worker, log: () => undefined });
  try {
    await ensureContainers(database, account, [container]);
    const bytes = typeof content === 'string' ? await readFile(content) : content;
    await uploads[as](store, { account, container, blob }, bytes);
  } finally {
    await store.close();
  }
}

type Address = Parameters<typeof createPageBlob>[1];

const PLAIN = { headers: {}, metadata: {} };

const written = (store: BlobStore, bytes: Buffer): Promise<WrittenFile> =>
  store.files.write(
    (async function* () {
      yield bytes;
    })(),
  );

const uploads: Record<Uploaded, (store: BlobStore, address: Address, bytes: Buffer) => Promise<void>> = {
  async page(store, address, bytes) {
    await createPageBlob(store, address, { ...PLAIN, size: bytes.length });
    for (let start = 0; start < bytes.length; start += MIB) {
      const piece = bytes.subarray(start, start + MIB);
      if (piece.every(byte => byte === 0)) continue;
      await putPages(store, address, { start, end: start + piece.length }, await written(store, piece));
    }
  },
  async block(store, address, bytes) {
    await putBlockBlob(store, address, await written(store, bytes), PLAIN);
  },
  async blocks(store, address, bytes) {
    const list: string[] = [];
    for (let start = 0; start < bytes.length; start += 3 * MIB) {
      const id = Buffer.from(String(start).padStart(12, '0')).toString('base64');
      await stageBlock(store, address, id, await written(store, bytes.subarray(start, start + 3 * MIB)));
      list.push(id);
    }
    await commitBlocks(
      store,
      address,
      list.map(id => ({ id, from: 'Latest' as const })),
      PLAIN,
    );
  },
};
