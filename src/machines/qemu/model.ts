/** The machine that a guest sees: type, processor model, firmware. Measured choices; a change of them changes every layer's key. */
import { access } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import { KVM_CPU } from './accelerator.ts';

/** With its HPET: booting costs the same without (measured side by side), and Linux then calibrates the TSC wrongly now and then. */
export const MACHINE = 'q35';

/** Fast under emulation, and still what x86-64-v2 distributions (AlmaLinux 9 …) ask for. */
const TCG_CPU = 'qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16';

export const cpuOf = (accelerator: 'kvm' | 'tcg'): string => (accelerator === 'kvm' ? KVM_CPU : TCG_CPU);

export interface Firmware {
  readonly code: string;
  /** What a machine's own variables are copied from. */
  readonly variables: string;
}

const FIRMWARE: readonly Firmware[] = [
  { code: '/usr/share/OVMF/OVMF_CODE_4M.fd', variables: '/usr/share/OVMF/OVMF_VARS_4M.fd' },
  { code: '/usr/share/OVMF/OVMF_CODE.fd', variables: '/usr/share/OVMF/OVMF_VARS.fd' },
  { code: '/usr/share/edk2/ovmf/OVMF_CODE.fd', variables: '/usr/share/edk2/ovmf/OVMF_VARS.fd' },
];

/** The first that is whole on this host. */
export async function firstFirmware(known: readonly Firmware[]): Promise<Firmware | undefined> {
  for (const firmware of known) {
    const there = await Promise.all([access(firmware.code), access(firmware.variables)]).then(
      () => true,
      () => false,
    );
    if (there) return firmware;
  }
  return undefined;
}

/** UEFI firmware (OVMF) of the host. Rejects with ToolMissing. */
export async function findFirmware(): Promise<Firmware> {
  const found = await firstFirmware(FIRMWARE);
  if (found) return found;
  throw new KilnError('ToolMissing', 'No UEFI firmware (OVMF) is installed, and the image boots by UEFI.', {
    target: 'ovmf',
  });
}
