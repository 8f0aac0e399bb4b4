/**
 * The state directory: its layout, its modes, and the checks that turn a wrong one into one clear error.
 *
 * Modes. Kiln as root shares the directory with users that it does not trust with all of it: PostgreSQL runs as one, each run's
 * QEMU as another. They must pass through (x) the root and `runs`, and read the source images that their overlays stand on
 * (public cloud images); they list nothing and read nothing else. Without root everything has one owner and nobody else comes in.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, link, lstat, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { asKilnError, KilnError } from './arm/errors.ts';

/** The number of the layout below. Raise it when an older Kiln could no longer work on the directory. */
export const HOME_VERSION = 1;

/** Absolute paths. All directories exist, but for `postgres`, which is made with the database in it. */
export interface Home {
  readonly root: string;
  /** The embedded PostgreSQL's data; belongs to another user when Kiln runs as root. */
  readonly postgres: string;
  /** May lie elsewhere (KILN_CACHE), shared by several homes, where it may be that it can only be read: nothing in it is precious. */
  readonly cache: string;
  readonly sources: string;
  readonly files: string;
  readonly runs: string;
  readonly logs: string;
  readonly regions: string;
  /** Bytes of what users put into storage accounts. */
  readonly blobs: string;
  readonly catalogueFile: string;
  /** Short enough that a Unix socket in it, or in a directory of it, has a legal path. */
  readonly sockets: string;
}

export interface HomeOptions {
  /** What `--home` says. Default: KILN_HOME, or the system's place for such things. */
  readonly home?: string | undefined;
  readonly env?: NodeJS.ProcessEnv;
}

/** sun_path holds 108 bytes with the final NUL; 47 are left for the names below `sockets`. */
const LONGEST_SOCKETS_PATH = 107 - 47;

/**
 * Opens the state directory, making what is missing. Errors: StateUnwritable (permissions, read-only file system, a file in
 * the way), StateTooNew, DiskFull.
 */
export async function openHome(options: HomeOptions = {}): Promise<Home> {
  const env = options.env ?? process.env;
  const root = resolve(options.home || env.KILN_HOME || defaultRoot(env));
  const cache = env.KILN_CACHE ? resolve(env.KILN_CACHE) : join(root, 'cache');
  const shared = !!env.KILN_CACHE;
  const asRoot = process.getuid?.() === 0;
  const passable = asRoot ? 0o711 : 0o700;
  const readable = asRoot ? 0o755 : 0o700;
  const home: Home = Object.freeze({
    root,
    postgres: join(root, 'postgres'),
    cache,
    sources: join(cache, 'sources'),
    files: join(root, 'files'),
    runs: join(root, 'runs'),
    logs: join(root, 'logs'),
    regions: join(root, 'regions'),
    blobs: join(root, 'blobs'),
    catalogueFile: join(root, 'catalogue.json'),
    sockets: socketsPath(root),
  });
  await directory(root, passable);
  await checkVersion(root);
  await readableDirectory(home.cache, readable, shared);
  await readableDirectory(home.sources, readable, shared);
  await directory(home.files, 0o700);
  await directory(home.runs, passable);
  await directory(home.logs, 0o700);
  await directory(home.regions, 0o700);
  await directory(home.blobs, 0o700);
  await directory(home.sockets, passable);
  await checkSockets(home);
  return home;
}

function defaultRoot(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/kiln';
  // The XDG specification: a relative path is to be ignored.
  const data = env.XDG_DATA_HOME?.startsWith('/') ? env.XDG_DATA_HOME : join(homedir(), '.local', 'share');
  return join(data, 'kiln');
}

function socketsPath(root: string): string {
  const inside = join(root, 'sockets');
  if (Buffer.byteLength(inside) <= LONGEST_SOCKETS_PATH) return inside;
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16);
  return join(tmpdir(), `kiln-${process.getuid?.() ?? 0}-${name}`);
}

/** Makes the directory when it is missing, then proves that it can be entered and written. */
async function directory(path: string, mode: number, shared = false): Promise<void> {
  try {
    const made = await mkdir(path, { recursive: true });
    // mkdir's mode is subject to the umask; an existing directory keeps the modes that its owner gave it.
    if (made !== undefined) await chmod(path, mode);
    await access(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unwritable(path, error, shared);
  }
}

/** One that can only be read will do: builds make nothing in it then. */
async function readableDirectory(path: string, mode: number, shared: boolean): Promise<void> {
  try {
    await directory(path, mode, shared);
  } catch (error) {
    const { code } = ((error as KilnError).cause ?? {}) as NodeJS.ErrnoException;
    if (!['EROFS', 'EACCES', 'EPERM'].includes(code ?? '')) throw error;
    const canRead = await access(`${path}/.`, constants.R_OK | constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!canRead) throw error;
  }
}

async function checkVersion(root: string): Promise<void> {
  const path = join(root, 'version');
  try {
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return await writeVersion(path);
    const version = Number(text.trim());
    if (!Number.isInteger(version) || version < 1)
      throw new KilnError(
        'StateUnwritable',
        `${path} does not hold the number of a layout: ${JSON.stringify(text.trim().slice(0, 40))}.`,
        {
          target: path,
          hint: 'Is this the state directory of Kiln? Choose another --home.',
        },
      );
    if (version > HOME_VERSION)
      throw new KilnError(
        'StateTooNew',
        `The state directory ${root} has layout ${version}; this Kiln knows layouts up to ${HOME_VERSION}.`,
        { target: root },
      );
  } catch (error) {
    throw error instanceof KilnError ? error : unwritable(path, error);
  }
}

/** A link appears whole or not at all, and the first of two processes wins. */
async function writeVersion(path: string): Promise<void> {
  const temporary = `${path}.${process.pid}`;
  try {
    await writeFile(temporary, `${HOME_VERSION}\n`, { mode: 0o644 });
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { force: true });
  }
}

/** A directory in /tmp may have been put there by anybody: it counts only when it is ours and nobody else may write it. */
async function checkSockets(home: Home): Promise<void> {
  if (home.sockets.startsWith(home.root)) return;
  const found = await lstat(home.sockets);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0)
    throw new KilnError(
      'StateUnwritable',
      `${home.sockets}, where the sockets of ${home.root} belong, is not a private directory of this user.`,
      { target: home.sockets, hint: 'Remove it, or choose a --home with a shorter path.' },
    );
}

/** @param shared it is of the cache that KILN_CACHE names */
function unwritable(path: string, error: unknown, shared = false): KilnError {
  const { code } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    EACCES: 'permission denied',
    EPERM: 'permission denied',
    EROFS: 'the file system is read-only',
    // What Node says of a directory that it shall make with its parents, on a read-only file system.
    ENOENT: 'it cannot be made, as on a read-only file system',
    ENOTDIR: 'a part of the path is not a directory',
    EEXIST: 'it is not a directory',
  };
  const reason = reasons[code ?? ''];
  if (reason === undefined) return asKilnError(error);
  const [what, how] = shared ? ['cache', 'KILN_CACHE'] : ['state directory', '--home or KILN_HOME'];
  return new KilnError('StateUnwritable', `The ${what} cannot be used: ${path}: ${reason}.`, {
    target: path,
    hint: `Choose another directory with ${how}, or change its permissions.`,
    cause: error,
  });
}
