/** Room on file systems that the database is on as well: strangers' bytes do not take the last of it, without which nothing can be changed, deletions included. */
import { statfs } from 'node:fs/promises';
import { KilnError } from '../arm/errors.ts';

const RESERVED = 1024 ** 3;
const RESERVED_PART = 0.05;

/** For `bytes` more in a directory's file system. Errors: DiskFull. */
export async function requireRoom(directory: string, bytes: number): Promise<void> {
  const { bavail, blocks, bsize } = await statfs(directory);
  if (bavail * bsize > Math.min(RESERVED, RESERVED_PART * blocks * bsize) + bytes) return;
  throw new KilnError('DiskFull', `The file system of ${directory} has no room left but what the database needs.`);
}
