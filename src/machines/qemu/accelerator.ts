/** Which accelerator QEMU can really use on this host, and why not a better one. */
import { constants } from 'node:fs';
import { access, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { run } from '../../processes/process.ts';
import { probe } from './probe.ts';

export const QEMU = 'qemu-system-x86_64';

export interface Accelerator {
  /** `tcg` is software emulation. `hvf` (macOS) has its place here once somebody has tried it. */
  readonly name: 'kvm' | 'tcg';
  /** Why the processor is emulated, as a whole sentence; missing when it is not. */
  readonly reason?: string;
  /** Such as `7.2.22`. */
  readonly qemuVersion: string;
  /** The group that may open /dev/kvm, when an unprivileged QEMU needs it. */
  readonly kvmGroup?: number;
}

export interface AcceleratorOptions {
  /** Where the probe's answer is remembered for this boot of this host and this QEMU. Without it, nothing is. */
  readonly cacheFile?: string;
}

/** The processor model under KVM, in the probe as in builds. */
export const KVM_CPU = 'host';

const DEVICE = '/dev/kvm';

interface Remembered {
  readonly key: string;
  readonly qemuVersion: string;
  readonly probed?: { readonly works: boolean; readonly reason: string };
}

/**
 * Finds the accelerator for this host. KVM counts only after a probe guest has run on it: a device node, or QEMU accepting
 * the flag, proves nothing on nested hosts. Rejects with ToolMissing when there is no QEMU.
 */
export async function findAccelerator(options: AcceleratorOptions = {}): Promise<Accelerator> {
  const program = await findProgram(QEMU);
  const { cacheFile } = options;
  const key = await hostKey(program);
  const known = await remembered(cacheFile, key);
  const qemuVersion = known?.qemuVersion ?? (await versionOf(program));
  const obstacle = await deviceObstacle();
  if (obstacle !== undefined) {
    if (!known) await remember(cacheFile, { key, qemuVersion });
    return { name: 'tcg', reason: obstacle, qemuVersion };
  }
  const probed = known?.probed ?? (await probe(program, 'kvm', KVM_CPU));
  if (!known?.probed) await remember(cacheFile, { key, qemuVersion, probed });
  if (!probed.works) return { name: 'tcg', reason: `${DEVICE} is there but of no use: ${probed.reason}.`, qemuVersion };
  if (process.getuid?.() !== 0) return { name: 'kvm', qemuVersion };
  const device = await stat(DEVICE);
  if ((device.mode & 0o006) === 0o006) return { name: 'kvm', qemuVersion };
  if ((device.mode & 0o060) === 0o060 && device.gid !== 0) return { name: 'kvm', qemuVersion, kvmGroup: device.gid };
  const reason = `Only root may open ${DEVICE}, and QEMU runs as an unprivileged user: \`chgrp kvm ${DEVICE} && chmod 660 ${DEVICE}\`.`;
  return { name: 'tcg', reason, qemuVersion };
}

/** What stands in the way of KVM before anything is tried, as a sentence. */
async function deviceObstacle(): Promise<string | undefined> {
  if (process.platform !== 'linux')
    return `Hardware acceleration is used on Linux only so far, not on ${process.platform}.`;
  if (process.arch !== 'x64') return `The host's processor (${process.arch}) cannot run x86-64 guests by itself.`;
  try {
    await access(DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      return `There is no ${DEVICE}: hardware virtualisation is off, not passed on to this machine, or its module is not loaded.`;
    return `No permission to open ${DEVICE}: add the user ${os.userInfo().username} to the group kvm and log in again.`;
  }
}

/** The full path of a program. Rejects with ToolMissing. */
export async function findProgram(name: string): Promise<string> {
  for (const directory of (process.env.PATH ?? '').split(path.delimiter)) {
    const candidate = path.join(directory, name);
    if (
      path.isAbsolute(candidate) &&
      (await access(candidate, constants.X_OK).then(
        () => true,
        () => false,
      ))
    )
      return candidate;
  }
  throw new KilnError('ToolMissing', `${name} is not installed.`, { target: name });
}

async function versionOf(program: string): Promise<string> {
  const { stdout } = await run(program, ['--version']);
  return /version (\d+(?:\.\d+)+)/.exec(stdout)?.[1] ?? 'unknown';
}

/** Names this boot of this host with this very QEMU. */
async function hostKey(program: string): Promise<string> {
  const file = await stat(program);
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  return JSON.stringify([os.hostname(), boot.trim(), program, file.size, file.mtimeMs, KVM_CPU]);
}

async function remembered(file: string | undefined, key: string): Promise<Remembered | undefined> {
  if (file === undefined) return undefined;
  try {
    const found = JSON.parse(await readFile(file, 'utf8')) as Remembered;
    return found.key === key && typeof found.qemuVersion === 'string' ? found : undefined;
  } catch {
    return undefined;
  }
}

/** A cache that cannot be written costs a probe the next time, nothing else. */
async function remember(file: string | undefined, answer: Remembered): Promise<void> {
  if (file === undefined) return;
  const draft = `${file}.${process.pid}`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(draft, `${JSON.stringify(answer, null, 2)}\n`);
    await rename(draft, file);
  } catch {
    // see above
  }
}
