/** The checkpoints of one machine, one after the other: what they are made with, and how many there were. */
import { rm } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import type { Checkpoint, CheckpointRequest, MachineDisk } from '../machine.ts';
import { freeze } from './checkpoint.ts';
import { oneLine } from './loss.ts';
import type { QemuMachine } from './machine.ts';
import { receiveMemory } from './memory-file.ts';
import type { Qmp } from './qmp.ts';
import { type RenewalPort, START_ATTENDANT } from './renewal-port.ts';

export interface CheckpointParts {
  /** What the guest writes: the request's disk, then its `checkpoints`. */
  readonly disks: readonly MachineDisk[];
  /** What QEMU knows those behind the first by. */
  readonly overlayFds: readonly number[];
  /** The same, of the first. */
  readonly diskFd: number;
  /** Where QEMU hands over the memory, and who it is. */
  readonly socketPath: string;
  readonly uid?: number;
  readonly facts: Checkpoint['facts'];
}

export class Checkpoints {
  readonly #parts: CheckpointParts;
  #taken = 0;
  #attended: boolean;

  /** @param attended whether the process that a resumed machine is renewed by runs in the guest already */
  constructor(parts: CheckpointParts, attended: boolean) {
    this.#parts = parts;
    this.#attended = attended;
  }

  /** Rejects as {@link freeze} does, with GuestUnreachable when the guest does not take part, or with the signal's reason. */
  async take(
    { memoryPath }: CheckpointRequest,
    machine: Pick<QemuMachine, 'exec'>,
    { qmp, port }: { readonly qmp: Qmp; readonly port: RenewalPort },
    signal: AbortSignal,
  ): Promise<Checkpoint> {
    const { disks, diskFd, overlayFds, socketPath, uid, facts } = this.#parts;
    const index = this.#taken;
    const overlayFd = overlayFds[index];
    if (overlayFd === undefined)
      throw new KilnError('InternalError', `The machine was started for ${overlayFds.length} checkpoints.`);
    // Somebody in the guest may have ended it.
    const attended = this.#attended;
    this.#attended = false;
    if (!attended) await startAttendant(machine, signal);
    // Not for the memory's sake, which has it all: whoever looks at the disk alone finds it whole.
    await port.run('sync', signal);
    this.#attended = true;
    // As a resume that failed may have left it: a link to a layer's.
    await rm(memoryPath, { force: true });
    await using receiver = await receiveMemory(socketPath, memoryPath, uid);
    const pausedMs = await freeze(qmp, {
      ...{ index, overlayFd, memoryPath, receiver, signal },
      writtenFd: overlayFds[index - 1] ?? diskFd,
    });
    this.#taken++;
    return { disk: disks[index]!, memory: memoryPath, facts, pausedMs };
  }
}

/** Starts the process in the guest that a resumed machine will be renewed by; it is in the memory of every checkpoint. */
async function startAttendant(machine: Pick<QemuMachine, 'exec'>, signal: AbortSignal): Promise<void> {
  let said = '';
  const output = (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-1000);
  };
  const { exitCode } = await machine.exec(START_ATTENDANT, { signal, output });
  if (exitCode !== 0)
    throw new KilnError('NotSupported', `The guest cannot be prepared for checkpoints: ${oneLine(said)}`);
}
