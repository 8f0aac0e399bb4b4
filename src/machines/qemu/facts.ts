/** What a machine's memory only fits to: kept with each checkpoint, and compared before one is resumed. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { MachineRequest } from '../machine.ts';
import type { Accelerator } from './accelerator.ts';
import { cpuOf, MACHINE } from './model.ts';

/** Raise it when the devices of a machine, or what is in a guest for its renewal, change. */
const DEVICES = 3;

export type ResumeFacts = Readonly<Record<string, string | number>>;

export async function factsOf(
  { processors, memoryMiB, firmware, provisioning, dataDisks = [] }: MachineRequest,
  accelerator: Accelerator,
): Promise<ResumeFacts> {
  return {
    devices: DEVICES,
    ...{ qemu: accelerator.qemuVersion, machine: MACHINE, accelerator: accelerator.name },
    cpu: cpuOf(accelerator.name),
    // With acceleration the guest has seen what the host's own processor can do.
    ...(accelerator.name === 'kvm' && { host: await hostProcessor() }),
    ...{ processors, memoryMiB, firmware, provisioning },
    ...(dataDisks.length > 0 && { dataDisks: dataDisks.map(({ lun }) => lun).join() }),
  };
}

/** What of a checkpoint does not fit here, in words for a person; empty when all of it does. */
export function misfits(kept: Readonly<Record<string, unknown>>, here: ResumeFacts): string[] {
  const names = [...new Set([...Object.keys(kept), ...Object.keys(here)])];
  return names
    .filter(name => kept[name] !== here[name])
    .map(name => `${name} was ${kept[name] ?? 'unknown'} and is ${here[name] ?? 'unknown'}`);
}

async function hostProcessor(): Promise<string> {
  const text = await readFile('/proc/cpuinfo', 'utf8');
  const first = text.split('\n\n', 1)[0]!.split('\n');
  const telling = first.filter(line => /^(vendor_id|cpu family|model|stepping|microcode|flags)\s*:/.test(line));
  return createHash('sha256').update(telling.join('\n')).digest('hex').slice(0, 16);
}
