/**
 * The memory of a guest that may be frozen: a file without a name that QEMU maps, so that nobody has to hand the bytes over. It lies in the host's memory where
 * there is room for it. Memory that the guest never touched is holes, and costs nothing.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, open, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { copyAll, sparseExtents } from '../../disks/pass.ts';
import { decodePieces, encodePieces, extentsOfPieces, noPieces, type PieceTable } from '../../disks/pieces.ts';

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

/** What is kept of a memory, in files that each have what had changed when they were written. */
export interface KeptMemory {
  /** Oldest first. */
  readonly files: readonly string[];
  readonly table: PieceTable;
}

/**
 * Into a file that does not exist yet, that only its owner can read, and that has what `before` has not. Nobody writes to the memory meanwhile.
 * @param list likewise: where it is noted which pieces lie in which file
 * @returns what is kept now, and the checksum of all of it. Errors: DiskFull and others of the file system; the signal's reason.
 */
export async function saveMemory(
  memory: FileHandle,
  { file, list }: { readonly file: string; readonly list: string },
  { before, signal }: { readonly before?: KeptMemory | undefined; readonly signal?: AbortSignal } = {},
): Promise<KeptMemory & { readonly checksum: string }> {
  const { size } = await memory.stat();
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.truncate(size);
  } finally {
    await handle.close();
  }
  const files = [...(before?.files ?? []), file];
  const pieces = { before: before?.table ?? noPieces(size), after: noPieces(size), origin: files.length };
  const from = nameOf(memory);
  const source = { files: [from], extents: await sparseExtents(from, size, signal) };
  const checksum = await copyAll(source, file, { signal, pieces });
  await writeFile(list, encodePieces(pieces.after, checksum), { flag: 'wx', mode: 0o600 });
  return { files, table: pieces.after, checksum };
}

/**
 * Out of such files, of the memory's size, into one that is all zeros yet. Errors: those of the file system; MachineLost for files of another size, and for another content; Error for
 * another list; the signal's reason.
 */
export async function loadMemory(
  { files, list }: { readonly files: readonly string[]; readonly list: string },
  memory: FileHandle,
  signal?: AbortSignal,
): Promise<KeptMemory> {
  const { size: wanted } = await memory.stat();
  for (const file of files) {
    const { size } = await stat(file);
    if (size !== wanted) throw new KilnError('MachineLost', `A memory of ${wanted} bytes was kept as ${size} bytes.`);
  }
  const { table, checksum } = decodePieces(await readFile(list), wanted, files.length);
  const found = await copyAll({ files, extents: extentsOfPieces(table) }, nameOf(memory), { signal });
  if (found !== checksum) throw new KilnError('MachineLost', 'The memory is not what was kept.');
  return { files, table };
}

const nameOf = (handle: FileHandle): string => `/proc/${process.pid}/fd/${handle.fd}`;
