/** What a machine leaves when the process that owned it dies: found by the run's directory, and ended. */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeSlot } from './network.ts';
import { type ProcessRecord, startTimeOf } from './process.ts';
import { type Slot, slotsOf } from './slot.ts';

/** File name of the process record of a machine. */
export const recordName = (machine: string): string => `${machine}.qemu.json`;

/**
 * Ends every machine that a dead owner of a run's directory left: processes, namespaces, links, rules, slots. Idempotent; to be called before
 * the directory is removed, and only when its owner is dead.
 */
export async function sweepMachines(directory: string): Promise<void> {
  for (const name of (await readdir(directory).catch(() => [])).filter(name => name.endsWith('.qemu.json'))) {
    const file = path.join(directory, name);
    const record = await readFile(file, 'utf8').then(
      text => JSON.parse(text) as ProcessRecord,
      () => undefined,
    );
    if (record && record.startTime !== '' && startTimeOf(record.pid) === record.startTime) await end(record);
    await rm(file, { force: true });
  }
  if (process.getuid?.() !== 0) return;
  for (const slot of await slotsOf(directory)) {
    await endProcessesOf(slot);
    await closeSlot(slot);
  }
}

/** No process but a slot's QEMU has the slot's user id, whether it was recorded in time or not. */
async function endProcessesOf(slot: Slot): Promise<void> {
  for (const name of (await readdir('/proc')).filter(name => /^\d+$/.test(name))) {
    const pid = Number(name);
    const owner = await stat(`/proc/${name}`).catch(() => undefined);
    const startTime = startTimeOf(pid);
    if (owner?.uid === slot.uid && startTime !== undefined) await end({ pid, startTime });
  }
}

async function end({ pid, startTime }: ProcessRecord): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  while (startTimeOf(pid) === startTime) await sleep(20);
}
