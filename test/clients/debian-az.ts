/**
 * The Azure CLI of Debian 13 (2.74), on a host of another release: a root file system of its own, made once from the packages of the host's mirror and kept
 * beside the source images. What runs in it gets a throw-away layer on top, and mounts that end with it, so the kept files stay as the packages are.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFile } from '../../src/disks/file-lock.ts';
import { DISTRIBUTIONS } from '../../src/images/catalogue/debian/distributions.ts';
import { hostMirrors, hostProxy } from '../../src/images/catalogue/debian/mirrors.ts';
import { run } from '../../src/processes/process.ts';
import { cacheDirectory } from '../kiln.ts';

const RELEASE = 'trixie';
/** libnss-myhostname: glibc by itself does not know `account.blob.localhost`. */
const PACKAGES = ['azure-cli', 'ca-certificates', 'libnss-myhostname'];
const TOOLS = ['mmdebstrap', 'unshare', 'setpriv'];
/** Documentation and translations are a fifth of it. */
const LEFT_OUT = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/locale/*', '/usr/share/info/*'];

const UNFINISHED = '.az-2.74-';

/** Where it is; or why it cannot be had here, as a sentence for a skipped test. */
export type DebianAz = { readonly root: string } | { readonly missing: string };

/** Whether it can be had, at once; {@link debianAz} then has it, or says what went wrong. */
export async function debianAzMissing(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'az of Debian 13 needs root for its root file system';
  for (const tool of TOOLS)
    if (!(await hasProgram(tool))) return `az of Debian 13 needs ${tool}, which is not installed here`;
  return false;
}

/** Makes it where it is not there yet, in minutes. A half-made one is never found: its directory gets its name at the end. */
export async function debianAz(): Promise<DebianAz> {
  const missing = await debianAzMissing();
  if (missing) return { missing };
  const cache = cacheDirectory();
  const root = join(cache, 'az-2.74');
  await mkdir(cache, { recursive: true });
  if (existsSync(root)) return { root };
  await using _lock = await lockFile(join(cache, 'az-2.74.lock'));
  if (existsSync(root)) return { root };
  // Nobody else makes one now: what is there is what a killed process left.
  for (const name of await readdir(cache))
    if (name.startsWith(UNFINISHED)) await rm(join(cache, name), { recursive: true, force: true });
  const work = await mkdtemp(join(cache, UNFINISHED));
  try {
    const made = join(work, 'root');
    await bootstrap(made, work);
    await rename(made, root);
    return { root };
  } catch (error) {
    const said = String((error as Error).message)
      .split('\n')
      .slice(-3)
      .join(' ');
    return { missing: `az of Debian 13 cannot be made from packages here: ${said}` };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export interface Inside {
  /** Directories of the host that are at the same path inside, writable. */
  readonly shared: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly onLine?: (line: string) => void;
}

/**
 * Runs a program in it, with the host's network and nothing else of the host's but the shared directories. Mounts and processes are in namespaces of their
 * own: nothing of them is left, however it ends.
 */
export async function runInside(root: string, program: readonly string[], { shared, env, cwd, onLine }: Inside) {
  const script = [
    'set -e',
    'root=$1 cwd=$2; shift 2',
    'mount -t tmpfs -o mode=755 layers /mnt',
    'mkdir /mnt/upper /mnt/work /mnt/root',
    'mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" az /mnt/root',
    'cd /mnt/root',
    'mount -t proc proc proc',
    'mount --rbind /dev dev',
    'cp -L /etc/resolv.conf /etc/hosts etc/',
    'while [ "$1" != -- ]; do mkdir -p "./$1"; mount --bind "$1" "./$1"; shift; done',
    'shift',
    'exec /usr/sbin/chroot . /bin/sh -c \'cd "$0" && exec "$@"\' "$cwd" "$@"',
  ].join('\n');
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child'];
  const args = [...namespaces, '/bin/sh', '-c', script, 'inside', root, cwd, ...shared, '--', ...program];
  return await run('unshare', args, {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env },
    ok: Array.from({ length: 256 }, (_, code) => code),
    ...(onLine && { onLine }),
  });
}

async function bootstrap(root: string, scratch: string): Promise<void> {
  const args = ['--mode=root', '--variant=minbase', '--format=directory', `--include=${PACKAGES.join(',')}`];
  const lean = LEFT_OUT.map(path => `--dpkgopt=path-exclude=${path}`);
  const namespaces = ['--mount', '--pid', '--mount-proc', '--fork', '--kill-child'];
  await run('unshare', [...namespaces, 'mmdebstrap', ...args, ...lean, RELEASE, root, ...(await mirrors())], {
    env: { ...process.env, ...(await hostProxy()), LC_ALL: 'C.UTF-8', TMPDIR: scratch },
  });
}

/** The host's own mirrors serve other releases as well. None: mmdebstrap's choice. */
async function mirrors(): Promise<string[]> {
  const host = /^VERSION_CODENAME=(\S+)$/m.exec(await readFile('/etc/os-release', 'utf8').catch(() => ''))?.[1];
  const lines = host === undefined ? [] : await hostMirrors(DISTRIBUTIONS.debian, host);
  return lines.map(line => line.replaceAll(` ${host}`, ` ${RELEASE}`));
}

async function hasProgram(name: string): Promise<boolean> {
  const { exitCode } = await run('/bin/sh', ['-c', 'command -v "$0"', name], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    ok: [0, 1, 127],
  });
  return exitCode === 0;
}
