/** A secret in a file for its owner's eyes, from its first byte on; a shell's redirection makes it for everybody's. */
import { open, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import type { Credentials } from '../directory/administrator.ts';

/** Makes the file, as `kiln env --credentials` reads it. @returns its path. Errors: UsageError, also for a file that is there: its secret is shown nowhere else. */
export async function writeCredentials(file: string, credentials: Credentials): Promise<string> {
  const path = resolve(file);
  const handle = await open(path, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    const reason = error.code === 'EEXIST' ? 'it is there already, and its secret may be the only copy' : error.message;
    throw new KilnError('UsageError', `${path} cannot be made: ${reason}.`, { cause: error });
  });
  try {
    await handle.writeFile(`${JSON.stringify(credentials, null, 2)}\n`);
    await handle.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return path;
}
