/** An image booted for a person: its serial console on the person's terminal, changes thrown away. */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import { createOverlay, type DiskFile } from '../../disks/qemu-img.ts';
import { type AcceleratorOptions, findAccelerator } from './accelerator.ts';
import { commandLine, machineType } from './command-line.ts';
import { openDiskChain } from './disk-chain.ts';
import { newIdentity } from './identity.ts';
import { cpuOf, findFirmware, MACHINE } from './model.ts';
import { openNetwork } from './network.ts';
import { FIRST_FILE_FD, type ProcessRecord, QemuProcess, QMP_FD, startTimeOf } from './process.ts';
import { Qmp } from './qmp.ts';
import { writeSeed } from './seed.ts';
import { recordName, sweepMachines } from './sweep.ts';

export interface ConsoleRequest extends AcceleratorOptions {
  /** Never written to: the machine runs on a throw-away overlay. */
  readonly disk: DiskFile;
  readonly firmware: 'bios' | 'uefi';
  readonly processors: number;
  readonly memoryMiB: number;
  /** Where the overlay and the seed live while it runs. Default: the system's directory for temporary files. */
  readonly directory?: string;
  /** Told before the terminal belongs to the guest. */
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal;
}

const NAME = 'console';
const PREFIX = 'kiln-console-';
const OWNER = 'owner.json';

/**
 * Boots an image and hands its serial console to the terminal of this process until the guest powers off, Ctrl-A X is typed, or the signal aborts. A user is made
 * by cloud-init, with a password that `report` is told. Nothing is left. Rejects with ToolMissing, or MachineLost when QEMU fails.
 */
export async function runConsole(request: ConsoleRequest): Promise<void> {
  const accelerator = await findAccelerator(request);
  await using stack = new AsyncDisposableStack();
  const parent = request.directory ?? os.tmpdir();
  await sweepConsoles(parent);
  const directory = await mkdtemp(path.join(parent, PREFIX));
  await writeFile(
    path.join(directory, OWNER),
    JSON.stringify({ pid: process.pid, startTime: startTimeOf(process.pid) }),
  );
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  // Takes what is left of an interrupted start, too.
  stack.defer(() => sweepMachines(directory));

  const overlay = path.join(directory, 'disk.qcow2');
  await createOverlay({ backing: request.disk, path: overlay });
  const identity = newIdentity();
  const password = randomBytes(6).toString('base64url');
  const seed = path.join(directory, 'seed.img');
  await writeSeed(seed, { instanceId: path.basename(directory), hostname: 'kiln', identity, password }, request.signal);

  const files: { readonly fd: number }[] = [];
  const hand = (handle: { readonly fd: number }) => FIRST_FILE_FD + files.push(handle) - 1;
  const chain = (await openDiskChain(overlay, 'qcow2')).map(({ handle, format }) => {
    stack.use(handle);
    return { fd: hand(handle), format };
  });
  const seedFd = hand(stack.use(await open(seed, 'r')));
  const uefi = request.firmware === 'uefi' ? await findFirmware() : undefined;
  const variables = path.join(directory, 'uefi-variables.fd');
  if (uefi) await copyFile(uefi.variables, variables);
  const variablesFd = uefi && hand(stack.use(await open(variables, 'r+')));

  const { network, slot, close } = await openNetwork(directory, request.report);
  stack.defer(close);
  request.signal?.throwIfAborted();
  if (accelerator.reason) request.report(`The processor is emulated, so this takes a while: ${accelerator.reason}`);
  request.report(`Log in as ${identity.user} with the password ${password} once cloud-init has made the user.`);
  request.report('The machine ends when the guest powers off, or with Ctrl-A X. Changes are not kept.');
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
      disk: chain,
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
  const end = () => void qmp.execute('quit').catch(() => qemu.kill());
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

/** Ends what consoles left whose terminal went away without notice. */
async function sweepConsoles(parent: string): Promise<void> {
  for (const name of (await readdir(parent)).filter(name => name.startsWith(PREFIX))) {
    const directory = path.join(parent, name);
    const owner = await readFile(path.join(directory, OWNER), 'utf8').catch(() => undefined);
    if (owner === undefined) continue;
    const { pid, startTime } = JSON.parse(owner) as ProcessRecord;
    if (startTimeOf(pid) === startTime) continue;
    await sweepMachines(directory);
    await rm(directory, { recursive: true, force: true });
  }
}
