/** Files and directories that appear under their name complete, or not at all; also after a power failure. */
import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Forces a file's bytes, or a directory's entries, to the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Renames within one file system and makes the new name durable. */
export async function moveDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await sync(dirname(to));
}

/**
 * Lets `write` fill a temporary file beside `to`; then flushes it and renames it to `to`, replacing what was there.
 * On any error the temporary file is removed and `to` stays as it was.
 */
export async function writeDurably<T>(to: string, write: (temporary: string) => Promise<T>): Promise<T> {
  const temporary = `${to}.part-${randomUUID().slice(0, 8)}`;
  try {
    const result = await write(temporary);
    await sync(temporary);
    await moveDurably(temporary, to);
    return result;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
