/** Files that hold a secret: made once, complete or not at all, for the eyes of their owner only. */
import { randomUUID } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sync, writeDurably } from './durable.ts';

/** The text of the file; the first of several processes that find none makes it, the others read what that one made. */
export async function readOrMakePrivate(path: string, make: () => Promise<string>): Promise<string> {
  const found = await readIfThere(path);
  if (found !== undefined) return found;
  const temporary = `${path}.part-${randomUUID().slice(0, 8)}`;
  try {
    await writeNew(temporary, await make());
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await sync(dirname(path));
  } finally {
    await rm(temporary, { force: true });
  }
  return await readFile(path, 'utf8');
}

/** Replaces the file. */
export async function writePrivate(path: string, text: string): Promise<void> {
  await writeDurably(path, temporary => writeNew(temporary, text));
}

/** undefined when there is no such file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** With its modes from the first byte on. */
async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
