/**
 * The memory of a guest that may be frozen: a file without a name that QEMU maps, so that nobody has to hand the bytes over. It lies in the host's memory where
 * there is room for it. Memory that the guest never touched is holes, and costs nothing.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, open, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { copyFile } from '../../disks/pass.ts';

/** Linux has a file system in memory there; in containers it is often too small. */
const SHARED_MEMORY = '/dev/shm';

const MIB = 1024 * 1024;

/** Memories of this process, the open ones and some that were: guests have yet to touch most of what they were promised. */
const promised = new Set<FileHandle>();

/** One after the other: what one takes is known to the next. */
let opening: Promise<unknown> = Promise.resolve();

/**
 * Memory of nothing but zeros. It is gone when all who have it open have ended.
 * @param directory where it goes when the host has no such file system, or too small a one: the kernel then writes what the guest changes to the disk now and then
 */
export function openGuestMemory(mebibytes: number, directory: string): Promise<FileHandle> {
  const opened = opening.then(() => openNext(mebibytes * MIB, directory));
  opening = opened.catch(() => {});
  return opened;
}

async function openNext(bytes: number, directory: string): Promise<FileHandle> {
  const file = path.join((await hasRoom(bytes)) ? SHARED_MEMORY : directory, `kiln-${randomUUID()}`);
  const handle = await open(file, 'wx+', 0o600);
  try {
    await rm(file);
    await handle.truncate(bytes);
    promised.add(handle);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function hasRoom(bytes: number): Promise<boolean> {
  try {
    await access(SHARED_MEMORY, constants.W_OK);
    const { bavail, bsize } = await statfs(SHARED_MEMORY);
    return bavail * bsize - (await owed()) >= bytes;
  } catch {
    return false;
  }
}

/** What guests can still take there, of what their memories are to hold. */
async function owed(): Promise<number> {
  const { dev } = await stat(SHARED_MEMORY);
  for (const memory of promised) if (memory.fd < 0) promised.delete(memory);
  const memories = await Promise.all([...promised].map(memory => memory.stat().catch(() => undefined)));
  return memories
    .filter(memory => memory?.dev === dev)
    .reduce((sum, memory) => sum + Math.max(0, memory!.size - memory!.blocks * 512), 0);
}

/**
 * Into a file that does not exist yet, and that only its owner can read. Nobody writes to the memory meanwhile.
 * @returns the file's checksum. Errors: DiskFull and others of the file system; the signal's reason.
 */
export async function saveMemory(memory: FileHandle, to: string, signal?: AbortSignal): Promise<string> {
  const { size } = await memory.stat();
  const file = await open(to, 'wx', 0o600);
  try {
    await file.truncate(size);
  } finally {
    await file.close();
  }
  return await copyFile(nameOf(memory), to, size, signal);
}

/**
 * Out of such a file, of the memory's size, into one that is all zeros yet.
 * @returns the file's checksum, for who wants to know whether it is what was saved. Errors: those of the file system; MachineLost for one of another size; the signal's reason.
 */
export async function loadMemory(from: string, memory: FileHandle, signal?: AbortSignal): Promise<string> {
  const [wanted, { size }] = [(await memory.stat()).size, await stat(from)];
  if (size !== wanted) throw new KilnError('MachineLost', `A memory of ${wanted} bytes was kept as ${size} bytes.`);
  return await copyFile(from, nameOf(memory), size, signal);
}

const nameOf = (handle: FileHandle): string => `/proc/${process.pid}/fd/${handle.fd}`;
