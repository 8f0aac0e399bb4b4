/**
 * Programs of the system that Kiln runs: one table of what is needed, by which command, from which Debian package,
 * and why; and how what is missing is installed.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { KilnError } from '../arm/errors.ts';
import { RELEASES_OF_UBUNTU } from '../images/catalogue/debian/distributions.ts';

export interface Requirement {
  /** A program, looked for in {@link systemPath}, or the absolute path of a file. */
  readonly program: string;
  /** The Debian package that brings it. */
  readonly package: string;
  /** The commands that cannot do their work without it. */
  readonly commands: readonly string[];
  readonly why: string;
  /** Kiln works without it; `why` says what is lost. Installed by itself for tests alone. */
  readonly optional?: true;
  /** Only an ordinary user (or only root) needs it. */
  readonly only?: 'user' | 'root';
}

const BUILDS = ['build', 'serve', 'test'];
const DISKS = [...BUILDS, 'images export', 'images verify', 'images run'];
const MACHINES = [...BUILDS, 'images run'];

export const REQUIREMENTS: readonly Requirement[] = [
  { program: 'qemu-system-x86_64', package: 'qemu-system-x86', commands: MACHINES, why: 'runs the guests' },
  { program: 'qemu-img', package: 'qemu-utils', commands: DISKS, why: 'makes, inspects and converts disks' },
  {
    program: 'mmdebstrap',
    package: 'mmdebstrap',
    commands: BUILDS,
    why: 'makes the Debian source image from packages',
  },
  {
    program: '/usr/share/keyrings/debian-archive-keyring.gpg',
    package: 'debian-archive-keyring',
    commands: BUILDS,
    why: 'proves that the packages of the Debian source image are the real ones',
  },
  {
    program: 'newuidmap',
    package: 'uidmap',
    commands: BUILDS,
    only: 'user',
    why: 'lets mmdebstrap work without root',
  },
  { program: 'sfdisk', package: 'fdisk', commands: BUILDS, why: 'partitions the source image' },
  { program: 'mke2fs', package: 'e2fsprogs', commands: BUILDS, why: 'makes the file system of the source image' },
  { program: 'mformat', package: 'mtools', commands: BUILDS, why: "makes the seed disk with the guest's build user" },
  { program: 'mcopy', package: 'mtools', commands: BUILDS, why: "fills the seed disk with the guest's build user" },
  {
    program: 'ip',
    package: 'iproute2',
    commands: MACHINES,
    only: 'root',
    why: 'gives each run a network of its own',
  },
  {
    program: 'nft',
    package: 'nftables',
    commands: MACHINES,
    only: 'root',
    why: "keeps a guest away from the host's own services",
  },
  {
    program: 'setpriv',
    package: 'util-linux',
    commands: MACHINES,
    why: 'starts QEMU and PostgreSQL without privileges',
  },
  { program: 'flock', package: 'util-linux', commands: DISKS, why: 'lets one process at a time do what only one may' },
  {
    program: 'systemd-nspawn',
    package: 'systemd-container',
    commands: ['container', 'test'],
    why: 'runs the steps of builds with --machine container',
  },
  {
    program: 'az',
    package: 'azure-cli',
    commands: ['test'],
    why: 'is the client that the tests speak to the server with',
  },
  { program: 'openssl', package: 'openssl', commands: ['test'], why: "judges the server's certificates in a test" },
  {
    program: 'getfattr',
    package: 'attr',
    commands: ['test'],
    why: 'shows a test the attributes of files in images',
  },
  { program: 'ps', package: 'procps', commands: ['test'], why: 'shows tests what is left running' },
  {
    program: '/usr/share/OVMF/OVMF_CODE_4M.fd',
    package: 'ovmf',
    commands: MACHINES,
    optional: true,
    why: 'boots source images that need UEFI; the others boot by BIOS',
  },
  {
    program: RELEASES_OF_UBUNTU,
    package: 'distro-info-data',
    commands: BUILDS,
    optional: true,
    why: 'tells mmdebstrap which releases are Ubuntu’s, for source images that are made of its packages',
  },
  {
    program: 'swtpm',
    package: 'swtpm',
    commands: MACHINES,
    optional: true,
    why: 'gives the machines of Trusted Launch images a TPM; they are built without',
  },
];

/** PATH with the directories of system programs, which Debian leaves out of an ordinary user's. */
export function systemPath(path = process.env.PATH ?? ''): string {
  const parts = path.split(delimiter).filter(part => part !== '');
  return [...new Set([...parts, '/usr/local/sbin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'])].join(delimiter);
}

/** The absolute path of a program, or of a file that is named by its path; `undefined` when it is not there. */
export function locate(program: string): string | undefined {
  if (isAbsolute(program)) return existsSync(program) ? program : undefined;
  for (const directory of systemPath().split(delimiter)) {
    const path = join(directory, program);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not here
    }
  }
  return undefined;
}

/** What a command (`build`, `images run` …) lacks on this machine. Optional things are asked for by tests alone, which would be skipped without. */
export function missingFor(command: string): Requirement[] {
  return REQUIREMENTS.filter(
    requirement =>
      (requirement.optional !== true || command === 'test') &&
      concerns(requirement, command) &&
      !locate(requirement.program),
  );
}

/** Whether a requirement means anything for a command run by this user. */
export function concerns(requirement: Requirement, command: string): boolean {
  const user = process.getuid?.() === 0 ? 'root' : 'user';
  // Tests of root's run Kiln as an ordinary user, too.
  const both = command === 'test' && user === 'root';
  return requirement.commands.includes(command) && (both || (requirement.only ?? user) === user);
}

/** What a person types to install packages. */
export function installLine(packages: readonly string[]): string {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `${sudo}apt-get update && ${sudo}apt-get install --no-install-recommends ${packages.join(' ')}`;
}

export interface EnsureOptions {
  /** Install without asking. */
  readonly yes: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Sees to it that the programs of a command are there. Installs what is missing with apt-get: after a question where
 * there is a person, at once with `yes`, or as root where there is nobody to ask.
 * Rejects with ToolMissing, whose hint is the line to type.
 */
export async function ensureRequirements(command: string, options: EnsureOptions): Promise<void> {
  const missing = missingFor(command);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(requirement => requirement.package))];
  const refuse = (message: string, hint: string) =>
    new KilnError('ToolMissing', message, {
      hint,
      details: missing.map(
        ({ program, why }) =>
          new KilnError('ToolMissing', `${why} (package ${packageOf(program)})`, { target: program }),
      ),
    });
  if (!locate('apt-get'))
    throw refuse(
      'Programs that Kiln needs are not installed, and this system has no apt-get.',
      'Install them yourself.',
    );

  const root = process.getuid?.() === 0;
  const person = process.stdin.isTTY === true && process.stderr.isTTY === true;
  const line = `Type: ${installLine(packages)}`;
  if (!options.yes && !person && !root) throw refuse('Programs that Kiln needs are not installed.', line);
  if (!root && !locate('sudo')) throw refuse('Installing packages needs root, and there is no sudo.', line);
  process.stderr.write(`kiln ${command} needs programs that are not installed:\n`);
  for (const { program, why } of missing) process.stderr.write(`  ${program}: ${why}\n`);
  if (!options.yes && person && !(await agreed(packages, options.signal)))
    throw new KilnError('ToolMissing', 'Nothing was installed.', { hint: line });

  const { installPackages } = await import('./packages.ts');
  await installPackages(packages, { asRoot: root ? [] : person ? ['sudo'] : ['sudo', '-n'], ...options });
  const still = missingFor(command).map(requirement => requirement.program);
  if (still.length > 0)
    throw new KilnError(
      'ToolMissing',
      `apt-get installed ${packages.join(', ')}, yet these are missing: ${still.join(', ')}.`,
    );
}

function packageOf(program: string): string {
  return REQUIREMENTS.find(requirement => requirement.program === program)!.package;
}

async function agreed(packages: readonly string[], signal: AbortSignal | undefined): Promise<boolean> {
  const question = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const text = `Install ${packages.join(', ')} with apt-get? [Y/n] `;
    const answer = await question.question(text, signal ? { signal } : {});
    return /^(y|yes|)$/i.test(answer.trim());
  } finally {
    question.close();
  }
}
