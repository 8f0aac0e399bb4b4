/** An image booted for a person: its serial console on the person's terminal, changes thrown away. */
import { randomBytes } from 'node:crypto';
import { copyFile, type FileHandle, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { createOverlay, type DiskFile } from '../../disks/qemu-img.ts';
import { type AcceleratorOptions, findAccelerator } from './accelerator.ts';
import { commandLine, machineType } from './command-line.ts';
import { DISK_NODE, dataNode } from './disk-nodes.ts';
import { newIdentity } from './identity.ts';
import { cpuOf, findFirmware, MACHINE } from './model.ts';
import { openNetwork } from './network.ts';
import { type OpenDisk, openDisk } from './open-disk.ts';
import { FIRST_FILE_FD, QemuProcess, QMP_FD } from './process.ts';
import { alive, ownRecord, readRecord, writeRecord } from './process-record.ts';
import { Qmp } from './qmp.ts';
import { writeSeed } from './seed.ts';
import { recordName, sweepAbandoned, sweepMachines } from './sweep.ts';
import { terminalKeeper } from './terminal-state.ts';

export interface ConsoleRequest extends AcceleratorOptions {
  /** Never written to: the machine runs on a throw-away overlay. */
  readonly disk: DiskFile;
  /** The same, at their units. */
  readonly dataDisks?: readonly { readonly lun: number; readonly disk: DiskFile }[];
  readonly firmware: 'bios' | 'uefi';
  readonly processors: number;
  readonly memoryMiB: number;
  /** Where the overlay and the seed live while it runs. Default: the system's directory for temporary files. */
  readonly directory?: string;
  /** Told before the terminal belongs to the guest. */
  readonly report: (line: string) => void;
  /** Ends it, and rejects with its reason. Without one, SIGINT, SIGTERM and SIGHUP to this process do. */
  readonly signal?: AbortSignal;
}

const NAME = 'console';
/** How long QEMU may take to quit. */
const QUIT_MS = 5000;
const PREFIX = 'kiln-console-';
const OWNER = 'owner.json';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Boots an image and hands its serial console to the terminal of this process until the guest powers off, Ctrl-A X is typed, or the signal aborts. A user is made
 * by cloud-init, with a password that `report` is told. Nothing is left. Rejects with ToolMissing, or MachineLost when QEMU fails.
 */
export async function runConsole(request: ConsoleRequest): Promise<void> {
  if (request.signal) return await boot(request);
  const controller = new AbortController();
  const end = () => controller.abort(new KilnError('Canceled', 'The console was ended; nothing is left of it.'));
  for (const name of SIGNALS) process.on(name, end);
  try {
    await boot({ ...request, signal: controller.signal });
  } finally {
    for (const name of SIGNALS) process.removeListener(name, end);
  }
}

async function boot(request: ConsoleRequest): Promise<void> {
  const accelerator = await findAccelerator(request);
  await using stack = new AsyncDisposableStack();
  const parent = request.directory ?? os.tmpdir();
  await sweepConsoles(parent);
  const directory = await mkdtemp(path.join(parent, PREFIX));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  writeRecord(path.join(directory, OWNER), ownRecord());
  // Takes what is left of an interrupted start, too.
  stack.defer(() => sweepMachines(directory));

  const overlayOf = async (backing: DiskFile, name: string) => {
    const overlay = path.join(directory, `${name}.qcow2`);
    await createOverlay({ backing, path: overlay });
    return { path: overlay, format: 'qcow2' as const };
  };
  const identity = newIdentity();
  const password = randomBytes(6).toString('base64url');
  const seed = path.join(directory, 'seed.img');
  await writeSeed(seed, { instanceId: path.basename(directory), hostname: 'kiln', identity, password }, request.signal);

  const files: FileHandle[] = [];
  const hand = (handle: FileHandle) => FIRST_FILE_FD + files.push(stack.use(handle)) - 1;
  const disk = await openDisk(DISK_NODE, await overlayOf(request.disk, 'disk'), [], hand);
  const dataDisks: (OpenDisk & { readonly lun: number })[] = [];
  for (const { lun, disk } of request.dataDisks ?? []) {
    const node = dataNode(lun);
    dataDisks.push({ lun, ...(await openDisk(node, await overlayOf(disk, node), [], hand)) });
  }
  const seedFd = hand(await open(seed, 'r'));
  const uefi = request.firmware === 'uefi' ? await findFirmware() : undefined;
  const variables = path.join(directory, 'uefi-variables.fd');
  if (uefi) await copyFile(uefi.variables, variables);
  const variablesFd = uefi && hand(await open(variables, 'r+'));

  await sweepAbandoned();
  const { network, slot, close } = await openNetwork(directory, request.report);
  stack.defer(close);
  request.signal?.throwIfAborted();
  if (accelerator.reason) request.report(`The processor is emulated, so this takes a while: ${accelerator.reason}`);
  request.report(`Log in as ${identity.user} with the password ${password} once cloud-init has made the user.`);
  request.report('The machine ends when the guest powers off, or with Ctrl-A X. Changes are not kept.');
  // QEMU puts the terminal into raw mode, and gives it back only when it may end by itself.
  stack.defer(await terminalKeeper());
  const qemu = await QemuProcess.start({
    confinement: {
      ...(network.namespace !== undefined && { namespace: network.namespace }),
      ...(slot && { uid: slot.uid }),
      ...(accelerator.kvmGroup !== undefined && { kvmGroup: accelerator.kvmGroup }),
    },
    args: commandLine({
      name: `kiln-${path.basename(directory)}`,
      accelerator: accelerator.name,
      cpu: cpuOf(accelerator.name),
      machine: machineType(MACHINE, uefi !== undefined),
      processors: request.processors,
      memoryMiB: request.memoryMiB,
      ...{ disk, dataDisks },
      seedFd,
      qmpFd: QMP_FD,
      ...(uefi && { uefi: { codePath: uefi.code, variablesFd: variablesFd! } }),
      console: 'terminal',
    }),
    console: 'inherit',
    files: files.map(handle => handle.fd),
    recordPath: path.join(directory, recordName(NAME)),
  });
  stack.defer(() => qemu.kill());
  const qmp = new Qmp(qemu.qmp);
  stack.defer(() => qmp.close());
  await qmp.open().catch(() => {});
  // Asked to quit, QEMU gives the terminal back as it was.
  const end = () => {
    const late = setTimeout(() => void qemu.kill(), QUIT_MS);
    void qemu.exited.then(() => clearTimeout(late));
    void qmp.execute('quit').catch(() => qemu.kill());
  };
  if (request.signal?.aborted) end();
  request.signal?.addEventListener('abort', end, { once: true });
  stack.defer(() => request.signal?.removeEventListener('abort', end));
  const exit = await qemu.exited;
  request.signal?.throwIfAborted();
  if (exit.code !== 0)
    throw new KilnError(
      'MachineLost',
      `The virtual machine (QEMU) ended with ${exit.signal ?? `exit code ${exit.code}`}.`,
    );
}

/** A directory without an owner is one in the making, unless it is older than this. */
const IN_THE_MAKING_MS = 60_000;

/** Ends what consoles left in a directory whose terminal or process went away without notice. To be called at any time. */
export async function sweepConsoles(parent: string): Promise<void> {
  for (const name of (await readdir(parent).catch(() => [])).filter(name => name.startsWith(PREFIX))) {
    const directory = path.join(parent, name);
    const owner = readRecord(path.join(directory, OWNER));
    if (owner ? alive(owner) : await isYoung(directory)) continue;
    await sweepMachines(directory);
    await rm(directory, { recursive: true, force: true });
  }
}

const isYoung = (directory: string): Promise<boolean> =>
  stat(directory).then(
    ({ mtimeMs }) => Date.now() - mtimeMs < IN_THE_MAKING_MS,
    () => true,
  );
