/**
 * Files of blobs: written once, never changed. Each lies below the directory of the process that wrote it, so that what a dead one wrote and never named in a row is
 * found by looking there once: HOME/blobs/OWNER/SHARD/ID.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { type FileHandle, link, mkdir, open, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cloneOrCopy } from '../disks/copy.ts';
import { sync } from '../disks/durable.ts';
import { requireRoom } from '../disks/room.ts';
import { Crc64 } from './crc64.ts';

export interface WrittenFile {
  /** Below the directory of blobs; undefined for no bytes at all. */
  readonly file: string | undefined;
  readonly size: number;
  readonly md5: Buffer;
  /** Where it was asked for. */
  readonly crc64?: Buffer;
}

export interface WriteOptions {
  readonly crc64?: boolean;
}

export interface BlobFiles {
  pathOf(file: string): string;
  /** Writes a new file and flushes it and its name. On any error nothing is left. Errors: DiskFull, before the last room is taken. */
  write(source: AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<WrittenFile>;
  /** A second name for a file that never changes, or a copy of it where the file system has no such thing. @returns the new file */
  adopt(path: string): Promise<string>;
  /** Removes what no row names. Missing files are no error. */
  discard(files: Iterable<string | undefined>): Promise<void>;
}

/** What is written at once. */
const BATCH = 1024 * 1024;
const SHARDS = 256;

export function openBlobFiles(directory: string, owner: string): BlobFiles {
  const pathOf = (file: string) => join(directory, file);
  const shards = new Map<string, Promise<void>>();

  /** A new name in a directory that is there for good. */
  async function newFile(): Promise<string> {
    const shard = `${owner}/${randomInt(SHARDS).toString(16).padStart(2, '0')}`;
    let made = shards.get(shard);
    if (!made) {
      made = makeShard(directory, shard);
      shards.set(shard, made);
      made.catch(() => shards.delete(shard));
    }
    await made;
    return `${shard}/${randomBytes(12).toString('hex')}`;
  }

  return {
    pathOf,
    async write(source, { crc64 = false } = {}) {
      const md5 = createHash('md5');
      const crc = crc64 ? new Crc64() : undefined;
      const file = await newFile();
      const path = pathOf(file);
      const handle = await open(path, 'wx', 0o600);
      let size = 0;
      try {
        for await (const batch of batches(source)) {
          await requireRoom(directory, BATCH);
          for (const chunk of batch) {
            md5.update(chunk);
            crc?.update(chunk);
            size += chunk.byteLength;
          }
          await writeAll(handle, batch);
        }
        if (size > 0) await handle.sync();
        await handle.close();
        if (size > 0) await sync(dirname(path));
        else await unlink(path);
      } catch (error) {
        await handle.close().catch(() => undefined);
        await rm(path, { force: true });
        throw error;
      }
      return {
        file: size > 0 ? file : undefined,
        size,
        md5: md5.digest(),
        ...(crc && { crc64: crc.digest() }),
      };
    },
    async adopt(from) {
      const file = await newFile();
      const path = pathOf(file);
      await link(from, path).catch(async (error: NodeJS.ErrnoException) => {
        if (!['EXDEV', 'EPERM', 'EMLINK'].includes(error.code ?? '')) throw error;
        await cloneOrCopy(from, path);
      });
      await sync(dirname(path));
      return file;
    },
    async discard(files) {
      for (const file of files) if (file !== undefined) await rm(pathOf(file), { force: true });
    },
  };
}

async function makeShard(directory: string, shard: string): Promise<void> {
  const path = join(directory, shard);
  const made = await mkdir(path, { recursive: true, mode: 0o700 });
  if (made === undefined) return;
  await sync(dirname(path));
  await sync(directory);
}

async function* batches(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array[]> {
  let batch: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    if (chunk.byteLength === 0) continue;
    batch.push(chunk);
    size += chunk.byteLength;
    if (size < BATCH) continue;
    yield batch;
    batch = [];
    size = 0;
  }
  if (size > 0) yield batch;
}

/** A write may take less than it is given, as on a disk that is nearly full. */
async function writeAll(handle: FileHandle, batch: readonly Uint8Array[]): Promise<void> {
  const total = batch.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const { bytesWritten } = await handle.writev(batch);
  if (bytesWritten === total) return;
  await handle.appendFile(Buffer.concat(batch).subarray(bytesWritten));
}

/** Says of the directory of a dead process that all in it is named by rows, or was when it was looked at. */
const SWEPT = '.swept';

export interface SweepOptions {
  readonly directory: string;
  /** Whether the process that writes there lives. */
  readonly isAlive: (owner: string) => Promise<boolean>;
  /** Of those files, the ones that a row names. */
  readonly named: (files: readonly string[]) => Promise<ReadonlySet<string>>;
}

/** Removes what dead processes wrote and never named in a row. @returns how many files. Several processes may do it at once. */
export async function sweepBlobFiles({ directory, isAlive, named }: SweepOptions): Promise<number> {
  let removed = 0;
  for (const owner of await readdir(directory)) {
    const shards = await namesIn(join(directory, owner));
    if (await isAlive(owner)) continue;
    if (shards.includes(SWEPT)) {
      await removeEmpty(join(directory, owner), shards);
      continue;
    }
    let kept = 0;
    for (const shard of shards) {
      const files = (await namesIn(join(directory, owner, shard))).map(name => `${owner}/${shard}/${name}`);
      const known = await named(files);
      for (const file of files)
        if (known.has(file)) kept += 1;
        else {
          await rm(join(directory, file), { force: true });
          removed += 1;
        }
    }
    if (kept > 0) await writeFile(join(directory, owner, SWEPT), '');
    else await rm(join(directory, owner), { recursive: true, force: true });
  }
  return removed;
}

/** What is left when the last files of a dead process are gone. */
async function removeEmpty(path: string, shards: readonly string[]): Promise<void> {
  for (const shard of shards) if (shard !== SWEPT && (await namesIn(join(path, shard))).length > 0) return;
  await rm(path, { recursive: true, force: true });
}

async function namesIn(path: string): Promise<string[]> {
  return await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
}
