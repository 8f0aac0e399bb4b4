/** A Debian or Ubuntu source image made on this host from packages, for where no cloud image can be downloaded. */
import { randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { asKilnError, KilnError } from '../../../arm/errors.ts';
import { convertDisk } from '../../../disks/qemu-img.ts';
import { run } from '../../../processes/process.ts';
import type { AcquireOptions } from '../../source.ts';
import { assembleDisk, LAYOUT, MKE2FS_CONF } from './disk-layout.ts';
import { DISTRIBUTIONS, type DistributionName } from './distributions.ts';
import { CUSTOMIZE_HOOK, guestFiles, guestPackages } from './guest-files.ts';
import { hostMirrors, hostProxy } from './mirrors.ts';

export interface BootstrapTool {
  readonly program: string;
  readonly package: string;
  /** Needed only where Kiln does not run as root. */
  readonly unprivilegedOnly?: true;
}

/** Programs that a bootstrap runs on the host, each with the Debian package it comes in. */
export const BOOTSTRAP_TOOLS: readonly BootstrapTool[] = Object.freeze([
  { program: 'mmdebstrap', package: 'mmdebstrap' },
  { program: 'mke2fs', package: 'e2fsprogs' },
  { program: 'sfdisk', package: 'fdisk' },
  { program: 'mformat', package: 'mtools' },
  { program: 'qemu-img', package: 'qemu-utils' },
  { program: 'flock', package: 'util-linux' },
  { program: 'setpriv', package: 'util-linux' },
  { program: 'unshare', package: 'util-linux' },
  { program: 'tar', package: 'tar' },
  { program: 'dd', package: 'coreutils' },
  { program: 'newuidmap', package: 'uidmap', unprivilegedOnly: true },
]);

export interface BootstrapRequest extends AcquireOptions {
  readonly distribution: DistributionName;
  /** Its code name, such as `bookworm`. */
  readonly release: string;
  /** The qcow2 file to make. */
  readonly disk: string;
  /** Everything that the programs print; kept whatever happens. */
  readonly logPath: string;
  /** Where the root file system is unpacked: about 1.5 GB, on a local file system. Default: beside the disk as root, TMPDIR otherwise. */
  readonly workDirectory?: string;
}

/** What mmdebstrap announces, in order: its own lines are the only measure of progress it gives. */
const STAGES = ['apt-get update', 'downloading', 'extracting', 'essential', 'remaining', 'customize', 'cleaning'];

/**
 * Makes a bootable disk of {@link LAYOUT}.size bytes: GPT, BIOS and UEFI boot loaders, cloud-init, the Azure agent. About a minute
 * or two. Rejects with BootstrapFailed (and the log's path), ToolMissing, DiskFull or the signal's reason; leaves only the log then.
 */
export async function bootstrap(request: BootstrapRequest): Promise<void> {
  const privileged = process.getuid?.() === 0;
  const distribution = DISTRIBUTIONS[request.distribution];
  // Without root, the users of mmdebstrap's namespace must be able to reach the directory: not through a private home.
  const base = request.workDirectory ?? (privileged ? dirname(request.disk) : tmpdir());
  const work = await mkdtemp(join(base, '.bootstrap-'));
  const root = join(work, 'root');
  const log = createWriteStream(request.logPath);
  const signal = request.signal && { signal: request.signal };
  const env = {
    ...process.env,
    ...(await hostProxy(request.signal)),
    LC_ALL: 'C.UTF-8',
    PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
    MKE2FS_CONFIG: join(work, 'mke2fs.conf'),
    // What mmdebstrap leaves when it is killed goes with the work directory.
    TMPDIR: work,
  };
  const note = (line: string) => log.write(`${line}\n`);
  /** Runs a program as the owner of the root file system: root itself, or the root of our subordinate ids. */
  const asOwner = (args: readonly string[]) =>
    privileged
      ? run(args[0]!, args.slice(1), { ...signal, env, onLine: note })
      : run('mmdebstrap', ['--unshare-helper', ...args], { ...signal, env, onLine: note });
  try {
    await chmod(work, 0o755);
    const identity = { root: randomUUID(), esp: fatSerial() };
    await writeFile(env.MKE2FS_CONFIG, MKE2FS_CONF);
    const overlay = await packGuestFiles(work, guestFiles(distribution, identity), env);
    await installPackages({ ...request, work, root, overlay, env, privileged, note });

    request.onProgress?.({ label: 'making the disk', done: STAGES.length, total: STAGES.length + 1, unit: 'steps' });
    // The file is made inside the root file system's owner's reach; it holds packages only, nothing secret.
    const images = join(work, 'images');
    await mkdir(images);
    if (!privileged) await chmod(images, 0o777);
    const rootImage = join(images, 'root.ext4');
    const size = `${LAYOUT.root.size / 1024}k`;
    const eager = ['-E', 'lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0'];
    await asOwner([
      'mke2fs',
      '-q',
      '-t',
      'ext4',
      '-L',
      'root',
      '-U',
      identity.root,
      ...eager,
      '-d',
      root,
      rootImage,
      size,
    ]);
    const raw = join(work, 'disk.raw');
    await assembleDisk({ root, rootImage, disk: raw, identity, env, ...signal });
    await convertDisk({ path: raw, format: 'raw' }, { to: request.disk, format: 'qcow2', ...signal });
  } catch (error) {
    request.signal?.throwIfAborted();
    const known = asKilnError(error);
    if (known.code !== 'InternalError') throw known;
    note(known.message);
    throw new KilnError(
      'BootstrapFailed',
      `${distribution.title} ${request.release} could not be made from packages: ${lastLines(known.message)}`,
      {
        target: request.logPath,
        hint: `The whole log is in ${request.logPath}. Check that this host reaches a mirror of ${distribution.title}.`,
        cause: error,
      },
    );
  } finally {
    log.end();
    // Also when canceled: this must not be.
    if (!privileged)
      await run('mmdebstrap', ['--unshare-helper', 'rm', '-rf', root, join(work, 'images')], { env }).catch(() => {});
    await run('rm', ['-rf', '--one-file-system', '--', work]);
  }
}

interface Installation extends BootstrapRequest {
  readonly work: string;
  readonly root: string;
  readonly overlay: string;
  readonly env: NodeJS.ProcessEnv;
  readonly privileged: boolean;
  readonly note: (line: string) => void;
}

async function installPackages(request: Installation): Promise<void> {
  const distribution = DISTRIBUTIONS[request.distribution];
  const mirrors = await hostMirrors(distribution, request.release, request.signal);
  const { title, knownBy } = distribution;
  if (mirrors.length === 0 && knownBy !== undefined && !existsSync(knownBy))
    throw new KilnError('ToolMissing', `${knownBy} is not there: mmdebstrap knows no mirror of ${title}.`, {
      target: knownBy,
      hint: 'Install the package distro-info-data.',
    });
  const keyring = join(request.work, 'archive-key.gpg');
  if (distribution.key) await writeFile(keyring, distribution.key);
  const args = [
    `--mode=${request.privileged ? 'root' : 'unshare'}`,
    '--variant=minbase',
    '--format=directory',
    `--include=${guestPackages(distribution, request.release).join(',')}`,
    `--customize-hook=tar-in ${request.overlay} /`,
    `--customize-hook=${CUSTOMIZE_HOOK}`,
    ...(distribution.key ? [`--keyring=${keyring}`] : []),
    request.release,
    request.root,
    ...mirrors,
  ];
  let stage = 0;
  // Killed with us, also by kill -9, and all that it started and mounted with it: nothing else would end it, and whoever
  // removed its directory would reach through its mounts into the host's own /dev.
  const namespaces = request.privileged
    ? ['unshare', '--mount', '--pid', '--mount-proc', '--fork', '--kill-child']
    : [];
  await run('setpriv', ['--pdeathsig', 'KILL', ...namespaces, 'mmdebstrap', ...args], {
    env: request.env,
    ...(request.signal && { signal: request.signal }),
    onLine: line => {
      request.note(line);
      const next = STAGES.findIndex((words, index) => index >= stage && /^I: /.test(line) && line.includes(words));
      if (next < 0) return;
      stage = next + 1;
      const label = line.replace(/^I: |\.\.\.$/g, '');
      request.onProgress?.({ label, done: next, total: STAGES.length + 1, unit: 'steps' });
    },
  });
}

/** Packs files as root's own, whoever runs this. */
async function packGuestFiles(work: string, files: Readonly<Record<string, string>>, env: NodeJS.ProcessEnv) {
  const tree = join(work, 'files');
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), text);
  }
  const archive = join(work, 'files.tar');
  const owner = ['--owner=0', '--group=0', '--numeric-owner', '--mode=u=rwX,go=rX'];
  await run(
    'tar',
    ['-C', tree, ...owner, '-cf', archive, ...new Set(Object.keys(files).map(path => path.split('/')[0]!))],
    { env },
  );
  return archive;
}

function fatSerial(): string {
  return randomBytes(4).toString('hex').toUpperCase().replace(/^.{4}/, '$&-');
}

function lastLines(text: string): string {
  const lines = text.split('\n');
  return lines.slice(-6).join('\n');
}
