/** The checkpoints of one machine, one after the other: what they are made with, and how many there were. */
import { type FileHandle, rm } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import type { Checkpoint, CheckpointRequest } from '../machine.ts';
import { type FreezingDisk, freeze } from './checkpoint.ts';
import { receiveDevices } from './devices-file.ts';
import type { KeptMemory } from './guest-memory.ts';
import { oneLine } from './loss.ts';
import type { QemuMachine } from './machine.ts';
import type { OpenDisk } from './open-disk.ts';
import type { Qmp } from './qmp.ts';
import { type RenewalPort, START_ATTENDANT } from './renewal-port.ts';

export interface CheckpointParts {
  /** What the guest writes to. */
  readonly disk: OpenDisk;
  readonly dataDisks: readonly (OpenDisk & { readonly lun: number })[];
  /** What the guest has its memory in; missing when there will be no checkpoints. */
  readonly ram?: FileHandle;
  /** What is kept of that in a machine that goes on; once it is filled. */
  readonly loaded?: Promise<KeptMemory | undefined>;
  /** Where QEMU hands over what its devices know, and who it is. */
  readonly socketPath: string;
  readonly uid?: number;
  readonly facts: Checkpoint['facts'];
}

export class Checkpoints {
  readonly #parts: CheckpointParts;
  #taken = 0;
  #kept: KeptMemory | undefined;

  constructor(parts: CheckpointParts) {
    this.#parts = parts;
  }

  /** Rejects as {@link freeze} does, with GuestUnreachable when the guest does not take part, or with the signal's reason. */
  async take(
    { memory }: CheckpointRequest,
    machine: Pick<QemuMachine, 'exec'>,
    { qmp, port }: { readonly qmp: Qmp; readonly port: RenewalPort },
    signal: AbortSignal,
  ): Promise<Checkpoint> {
    const { disk, dataDisks, ram, socketPath, uid, facts } = this.#parts;
    const index = this.#taken;
    const disks = [disk, ...dataDisks].map(one => freezing(one, index));
    if (!ram) throw new KilnError('InternalError', 'The memory of the machine is in no file that can be copied.');
    await beAttended(port, machine, signal);
    // As a resume that failed may have left it: a link to a layer's.
    for (const file of Object.values(memory)) await rm(file, { force: true });
    const before = this.#kept ?? (await this.#parts.loaded);
    await using receiver = await receiveDevices(socketPath, memory.devices, uid);
    const { pausedMs, kept } = await freeze(qmp, { index, disks, memory, before, ram, receiver, signal });
    this.#taken++;
    this.#kept = kept;
    const below = kept.files.slice(0, -1);
    const frozen = dataDisks.map(({ lun, written }) => ({ lun, disk: written[index]! }));
    return {
      disk: disk.written[index]!,
      ...(frozen.length > 0 && { dataDisks: frozen }),
      ...{ memory: { ...memory, below }, facts, pausedMs },
      // The first has all of it.
      ...(below.length === 0 && { ramChecksum: kept.checksum }),
    };
  }
}

/** @param index how many checkpoints there were */
function freezing({ node, chain, overlays }: OpenDisk, index: number): FreezingDisk {
  const over = overlays[index];
  if (over === undefined)
    throw new KilnError('InternalError', `The machine was started for ${overlays.length} checkpoints.`);
  return { node, overlayFd: over.fd, writtenFd: (overlays[index - 1] ?? chain[0]!).fd };
}

/** The attendant is in the memory of every checkpoint. A step may have ended it. */
async function beAttended(port: RenewalPort, machine: Pick<QemuMachine, 'exec'>, signal: AbortSignal): Promise<void> {
  if (await port.answers(signal)) return;
  await startAttendant(machine, signal);
  await port.ping(signal);
}

async function startAttendant(machine: Pick<QemuMachine, 'exec'>, signal: AbortSignal): Promise<void> {
  let said = '';
  const output = (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-1000);
  };
  const { exitCode } = await machine.exec(START_ATTENDANT, { signal, output });
  if (exitCode !== 0)
    throw new KilnError('NotSupported', `The guest cannot be prepared for checkpoints: ${oneLine(said)}`);
}
