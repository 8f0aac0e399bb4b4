/** Makes QEMU machines: finds out what the host can do, gathers the parts, starts, and takes all of it back when that fails. */
import { copyFile, type FileHandle, open, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { KilnError } from '../../arm/errors.ts';
import type { FrozenMemory, Machine, MachineFactory, MachineRequest, MachineShape, ResumeRequest } from '../machine.ts';
import { type Accelerator, type AcceleratorOptions, findAccelerator } from './accelerator.ts';
import { type CheckpointParts, Checkpoints } from './checkpoints.ts';
import { commandLine, machineType } from './command-line.ts';
import { ConsoleLog } from './console-log.ts';
import { userCredential, writeCredential } from './credentials.ts';
import { deadlinesOf } from './deadlines.ts';
import { DISK_NODE, dataNode } from './disk-nodes.ts';
import { factsOf, misfits } from './facts.ts';
import { type KeptMemory, loadMemory, openGuestMemory } from './guest-memory.ts';
import { newIdentity } from './identity.ts';
import { QemuMachine } from './machine.ts';
import { cpuOf, type Firmware, findFirmware, MACHINE } from './model.ts';
import { openNetwork } from './network.ts';
import { type OpenDisk, openDisk } from './open-disk.ts';
import { COMMANDS_FD, FIRST_FILE_FD, QemuProcess, QMP_FD, RENEWAL_FD } from './process.ts';
import { GUEST_HOSTNAME, SEED_BYTES, writeSeed } from './seed.ts';
import { memorySocketOf } from './slot.ts';
import { recordName, sweepAbandoned } from './sweep.ts';
import { findSecureFirmware, lacksTrustedLaunch, startTpm } from './trusted-launch.ts';

/** A factory of QEMU machines. What it finds out about the host is kept in `cacheFile`. */
export function qemuFactory(options: AcceleratorOptions = {}): MachineFactory {
  let found: Promise<Accelerator> | undefined;
  let told = false;
  const accelerator = () => {
    found ??= findAccelerator(options);
    found.catch(() => {
      found = undefined;
    });
    return found;
  };
  return {
    shape: async request => shapeOf(request, await accelerator()),
    async start(request) {
      const usable = await accelerator();
      if (usable.reason && !told) request.report(emulationNotice(usable.reason));
      told = true;
      return await start(request, usable);
    },
    resume: async request => await resume(request, await accelerator()),
  };
}

const emulationNotice = (reason: string): string =>
  `No hardware acceleration: ${reason} The processor is emulated instead; work in the guest takes 10 to 20 times longer.`;

function shapeOf(
  request: Pick<MachineRequest, 'processors' | 'memoryMiB' | 'firmware' | 'trusted'>,
  accelerator: Accelerator,
): MachineShape {
  return {
    kind: 'qemu',
    processors: request.processors,
    memoryMiB: request.memoryMiB,
    firmware: request.firmware,
    ...(request.trusted && { trusted: true }),
    accelerator: accelerator.name,
    model: `${accelerator.qemuVersion}/${MACHINE}/${cpuOf(accelerator.name)}`,
  };
}

/** Undone in reverse order when a start fails, and by the machine when it ends. */
type Undo = () => Promise<void>;

const ATTEMPTS = 3;

/**
 * Starts a machine; again when its kernel was put off at once: on a busy host an emulated timer can be late when the kernel tests it, and the
 * kernel then gives up (check_timer in io_apic.c). That is before it has looked at any disk.
 */
async function start(request: MachineRequest, accelerator: Accelerator): Promise<Machine> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(request, accelerator);
    } catch (error) {
      if (attempt === ATTEMPTS || !lostItsTimer(error)) throw error;
      request.report(
        "The guest's kernel found no timer, as happens on a busy host when the processor is emulated. Starting it again.",
      );
    }
  }
}

function lostItsTimer(error: unknown): boolean {
  return (
    error instanceof KilnError && error.code === 'GuestStopped' && /IO-APIC \+ timer doesn't work/.test(error.message)
  );
}

const startOnce = (request: MachineRequest, accelerator: Accelerator): Promise<Machine> =>
  begin(request, accelerator, machine => machine.settle());

/** Rejects with NotSupported when the checkpoint is one of another host, besides what a start rejects with. */
async function resume(request: ResumeRequest, accelerator: Accelerator): Promise<Machine> {
  const wrong = misfits(request.checkpoint.facts, await factsOf(request, accelerator));
  if (request.checkpoint.memory === undefined) wrong.push('its memory was not kept');
  if (wrong.length > 0) throw new KilnError('NotSupported', `The machine cannot be resumed here: ${wrong.join(', ')}.`);
  return await begin(request, accelerator, machine => machine.resume(request.checkpoint.intact));
}

async function begin(
  request: MachineRequest | ResumeRequest,
  accelerator: Accelerator,
  ready: (machine: QemuMachine) => Promise<void>,
): Promise<Machine> {
  const undo: Undo[] = [];
  const release = async () => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  let machine: QemuMachine;
  try {
    machine = await assemble(request, accelerator, undo, release);
  } catch (error) {
    await release();
    throw error;
  }
  try {
    await ready(machine);
    return machine;
  } catch (error) {
    await machine.destroy();
    throw error;
  }
}

/** Rejects with ToolMissing, or with NotSupported where what Trusted Launch needs is missing. */
async function firmwareFor({ trusted }: MachineRequest): Promise<Firmware> {
  if (!trusted) return await findFirmware();
  const lacking = await lacksTrustedLaunch();
  const firmware = await findSecureFirmware();
  if (firmware && lacking === undefined) return firmware;
  throw new KilnError('NotSupported', `A machine with Trusted Launch cannot be made here: ${lacking}.`);
}

/** Says of the memory whether it is what was frozen; what cannot be read at all is for others to find out. */
async function fill(
  ram: FileHandle,
  { ram: newest, below, pieces }: FrozenMemory,
  request: MachineRequest | ResumeRequest,
): Promise<KeptMemory> {
  const loaded = 'checkpoint' in request ? request.checkpoint.loaded : undefined;
  try {
    const kept = await loadMemory({ files: [...below, newest], list: pieces }, ram, request.signal);
    loaded?.(true);
    return kept;
  } catch (error) {
    loaded?.(false);
    throw error;
  }
}

async function assemble(
  request: MachineRequest | ResumeRequest,
  accelerator: Accelerator,
  undo: Undo[],
  release: () => Promise<void>,
): Promise<QemuMachine> {
  request.signal?.throwIfAborted();
  const file = (suffix: string) => path.join(request.directory, `${request.name}.${suffix}`);
  const remove = (name: string) => undo.push(() => rm(name, { force: true }));
  const opened: FileHandle[] = [];
  // QEMU has its own copies once it runs.
  await using handles = new AsyncDisposableStack();
  const inherit = (handle: FileHandle) => FIRST_FILE_FD + opened.push(handle) - 1;
  const hand = (handle: FileHandle) => inherit(handles.use(handle));

  // What takes long goes on beside the rest; nothing is taken back before it has ended.
  const networking = sweepAbandoned().then(() => openNetwork(request.directory, request.report));
  undo.push(async () => (await networking.catch(() => undefined))?.close());
  const { checkpoints = [] } = request;
  const memory = 'checkpoint' in request ? request.checkpoint.memory : undefined;
  const mayFreeze = checkpoints.length > 0 || memory !== undefined;
  const ram = mayFreeze ? await openGuestMemory(request.memoryMiB, request.directory) : undefined;
  if (ram) undo.push(() => ram.close());
  const filling = ram && memory ? fill(ram, memory, request) : Promise.resolve(undefined);
  undo.push(async () => void (await filling.catch(() => {})));
  for (const going of [networking, filling]) going.catch(() => {});

  const identity = newIdentity();
  const disk = await openDisk(DISK_NODE, request.disk, checkpoints, hand);
  const dataDisks: (OpenDisk & { readonly lun: number })[] = [];
  for (const { lun, disk, checkpoints = [] } of request.dataDisks ?? [])
    dataDisks.push({ lun, ...(await openDisk(dataNode(lun), disk, checkpoints, hand)) });
  const devicesFd = memory && hand(await open(memory.devices, 'r'));
  const uefi = request.firmware === 'uefi' ? await firmwareFor(request) : undefined;
  const variables = file('uefi-variables.fd');
  remove(variables);
  if (uefi) await copyFile(uefi.variables, variables);
  const variablesFd = uefi && hand(await open(variables, 'r+'));
  const console = ConsoleLog.open(request.consolePath, { filter: request.consoleFilter });
  undo.push(async () => console.close());

  const { network, slot } = await networking;
  const attendable = request.checkpoints !== undefined || memory !== undefined;
  if (slot) await ram?.chown(slot.uid, slot.uid);
  const memoryFd = ram && inherit(ram);
  const provision = async () => {
    const seeded = request.provisioning === 'cloud-init';
    if (memory !== undefined && !seeded) return {};
    const provisionPath = file(seeded ? 'seed.img' : 'credentials');
    remove(provisionPath);
    if (memory !== undefined) {
      // Whoever has settled does not read it again: the device must be there, that is all.
      await writeFile(provisionPath, Buffer.alloc(SEED_BYTES), { mode: 0o600 });
    } else if (seeded) {
      const instanceId = `${request.id}-${request.name}`;
      await writeSeed(provisionPath, { instanceId, hostname: GUEST_HOSTNAME, identity }, request.signal);
    } else await writeCredential(provisionPath, identity, slot?.uid);
    const fd = hand(await open(provisionPath, 'r'));
    return seeded ? { seedFd: fd } : { credentials: { open: userCredential(identity), secretFd: fd } };
  };
  const provisioned = await provision();
  const facts = await factsOf(request, accelerator);
  const recordPath = path.join(request.directory, recordName(request.name));
  remove(recordPath);
  request.signal?.throwIfAborted();
  const confinement = {
    ...(network.namespace !== undefined && { namespace: network.namespace }),
    ...(slot && { uid: slot.uid }),
  };
  const { signal } = request;
  const tpm = request.trusted && (await startTpm({ confinement, slot, fallback: file('tpm'), signal }));
  if (tpm) undo.push(tpm.close);
  const process = await QemuProcess.start({
    confinement: { ...confinement, ...(accelerator.kvmGroup !== undefined && { kvmGroup: accelerator.kvmGroup }) },
    args: commandLine({
      name: `kiln-${request.id}-${request.name}`,
      accelerator: accelerator.name,
      cpu: cpuOf(accelerator.name),
      machine: machineType(MACHINE, uefi !== undefined, request.trusted),
      processors: request.processors,
      memoryMiB: request.memoryMiB,
      disk,
      dataDisks,
      ...(request.copyOnRead && { copyOnRead: true }),
      ...provisioned,
      qmpFd: QMP_FD,
      ...(attendable && { renewalFd: RENEWAL_FD, commandsFd: COMMANDS_FD }),
      ...(memoryFd !== undefined && { memoryFd }),
      incoming: devicesFd !== undefined,
      sshForward: network,
      ...(uefi && { uefi: { codePath: uefi.code, variablesFd: variablesFd! } }),
      ...(tpm && { trusted: { tpmSocketPath: tpm.socketPath } }),
      console: 'output',
    }),
    console: chunk => console.write(chunk),
    files: opened.map(handle => handle.fd),
    recordPath,
  });
  const parts: CheckpointParts = {
    ...{ disk, dataDisks },
    socketPath: slot ? memorySocketOf(slot) : file('memory.sock'),
    ...(slot && { uid: slot.uid }),
    facts,
    ...(ram && { ram, loaded: filling }),
  };
  return new QemuMachine({
    request,
    shape: shapeOf(request, accelerator),
    identity,
    process,
    console,
    sshAddress: network.address,
    sshPort: network.port,
    deadlines: deadlinesOf(accelerator.name),
    attendable,
    filled: filling,
    ...(devicesFd !== undefined && { devicesFd }),
    ...(checkpoints.length > 0 && { checkpoints: new Checkpoints(parts) }),
    release,
  });
}
