/** The checkpoints of one machine, one after the other: what they are made with, and how many there were. */
import { type FileHandle, rm } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import type { Checkpoint, CheckpointRequest, MachineDisk } from '../machine.ts';
import { freeze } from './checkpoint.ts';
import { receiveDevices } from './devices-file.ts';
import { oneLine } from './loss.ts';
import type { QemuMachine } from './machine.ts';
import type { Qmp } from './qmp.ts';
import { type RenewalPort, START_ATTENDANT } from './renewal-port.ts';

/** When the attendant has not answered for so long, it is looked for. */
const ATTENDANT_MS = 30_000;

export interface CheckpointParts {
  /** What the guest writes: the request's disk, then its `checkpoints`. */
  readonly disks: readonly MachineDisk[];
  /** What QEMU knows those behind the first by. */
  readonly overlayFds: readonly number[];
  /** The same, of the first. */
  readonly diskFd: number;
  /** What the guest has its memory in; missing when there will be no checkpoints. */
  readonly ram?: FileHandle;
  /** Where QEMU hands over what its devices know, and who it is. */
  readonly socketPath: string;
  readonly uid?: number;
  readonly facts: Checkpoint['facts'];
}

export class Checkpoints {
  readonly #parts: CheckpointParts;
  #taken = 0;

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
    const { disks, diskFd, overlayFds, ram, socketPath, uid, facts } = this.#parts;
    const index = this.#taken;
    const overlayFd = overlayFds[index];
    if (overlayFd === undefined || !ram)
      throw new KilnError('InternalError', `The machine was started for ${overlayFds.length} checkpoints.`);
    await beAttended(port, machine, signal);
    // As a resume that failed may have left it: a link to a layer's.
    for (const file of [memory.ram, memory.devices]) await rm(file, { force: true });
    await using receiver = await receiveDevices(socketPath, memory.devices, uid);
    const pausedMs = await freeze(qmp, {
      ...{ index, overlayFd, memory, ram, receiver, signal },
      writtenFd: overlayFds[index - 1] ?? diskFd,
    });
    this.#taken++;
    return { disk: disks[index]!, memory, facts, pausedMs };
  }
}

/** The attendant is in the memory of every checkpoint. A step may have ended it. */
async function beAttended(port: RenewalPort, machine: Pick<QemuMachine, 'exec'>, signal: AbortSignal): Promise<void> {
  const late = AbortSignal.timeout(ATTENDANT_MS);
  try {
    if (port.attended) return await port.run(':', AbortSignal.any([signal, late]));
  } catch (error) {
    if (error !== late.reason) throw error;
  }
  await startAttendant(machine, signal);
  await port.run(':', signal);
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
