/**
 * Trusted Launch: UEFI with Secure Boot and the usual keys enrolled, and a TPM 2.0, which swtpm emulates in a process of its own. The TPM is the machine's alone: made for it, gone
 * with it, so nothing that a guest seals while it is built opens in a machine made from the image.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { access, chmod, chown, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';
import { findProgram } from './accelerator.ts';
import { type Firmware, firstFirmware } from './model.ts';
import { type Confinement, confined } from './process.ts';
import { type Slot, tpmDirectoryOf } from './slot.ts';

export const SWTPM = 'swtpm';

/** Code that keeps its variables from the guest's kernel (SMM), and variables with the keys of Microsoft enrolled: what signs shims. */
const SECURE_FIRMWARE: readonly Firmware[] = [
  { code: '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd' },
  { code: '/usr/share/OVMF/OVMF_CODE.secboot.fd', variables: '/usr/share/OVMF/OVMF_VARS.ms.fd' },
  { code: '/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd', variables: '/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd' },
];

export const findSecureFirmware = (): Promise<Firmware | undefined> => firstFirmware(SECURE_FIRMWARE);

/** What of this host a machine with Trusted Launch lacks, in words that end a sentence; undefined when it has all. */
export async function lacksTrustedLaunch(): Promise<string | undefined> {
  const program = await findProgram(SWTPM).catch(() => undefined);
  const missing = [
    ...(program === undefined ? ['swtpm (package swtpm) is not installed'] : []),
    ...((await findSecureFirmware()) ? [] : ['there is no UEFI firmware with Secure Boot (package ovmf)']),
  ];
  return missing.length === 0 ? undefined : missing.join(' and ');
}

/** swtpm's arguments: one TPM, one client; it ends with the connection. */
export const tpmArguments = (state: string, socket: string): string[] => [
  ...['socket', '--tpm2', '--terminate', '--tpmstate', `dir=${state},mode=0600`],
  ...['--ctrl', `type=unixio,path=${socket},mode=0600`],
];

export interface Tpm {
  /** QEMU connects to it. */
  readonly socketPath: string;
  /** Ends it and removes its state. Safe more than once. */
  close(): Promise<void>;
}

export interface TpmOptions {
  readonly confinement: Confinement;
  /** As root: whose TPM it is. Otherwise its directory is `fallback`. */
  readonly slot: Slot | undefined;
  readonly fallback: string;
  readonly signal: AbortSignal | undefined;
}

const PATIENCE_MS = 20_000;
/** A Unix socket's path has room for 108 bytes, the last of which is zero. */
const LONGEST_PATH = 107;

/** Starts a TPM and waits until it can be connected to. Rejects with ToolMissing, MachineLost or the signal's reason; nothing is left then. */
export async function startTpm({ confinement, slot, fallback, signal }: TpmOptions): Promise<Tpm> {
  const directory = slot ? tpmDirectoryOf(slot) : fallback;
  const [state, socketPath] = [path.join(directory, 'state'), path.join(directory, 'socket')];
  if (Buffer.byteLength(socketPath) > LONGEST_PATH)
    throw new KilnError('NotSupported', `The path of the TPM's socket is too long: ${socketPath}.`, {
      hint: 'Use a state directory with a shorter path (--home).',
    });
  let child: ChildProcess | undefined;
  const close = async () => {
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise(resolve => child!.once('close', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await rm(directory, { recursive: true, force: true });
    await mkdir(state, { recursive: true, mode: 0o700 });
    if (slot) {
      // Its user passes through, and lists nothing.
      await chmod(path.dirname(directory), 0o711);
      for (const one of [directory, state]) await chown(one, slot.uid, slot.uid);
    }
    const [program, ...args] = confined(confinement, { setpriv: await has('setpriv') }, [
      await findProgram(SWTPM),
      ...tpmArguments(state, socketPath),
    ]);
    child = spawn(program!, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      cwd: '/',
      env: { PATH: process.env.PATH, LANG: 'C.UTF-8' },
      detached: true,
    });
    let said = '';
    let failure: Error | undefined;
    child.once('error', error => {
      failure = error;
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2048);
    });
    for (const late = performance.now() + PATIENCE_MS; ; await sleep(20, undefined, signal && { signal })) {
      signal?.throwIfAborted();
      if (await isThere(socketPath)) return { socketPath, close };
      if (failure || child.exitCode !== null || child.signalCode !== null || performance.now() > late)
        throw new KilnError('MachineLost', `The TPM of the machine did not start. ${failure?.message ?? said.trim()}`);
    }
  } catch (error) {
    await close();
    signal?.throwIfAborted();
    throw error;
  }
}

const isThere = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );
const has = (program: string): Promise<boolean> =>
  findProgram(program).then(
    () => true,
    () => false,
  );
