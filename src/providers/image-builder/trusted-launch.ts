/** Whether a template's machines get Secure Boot and a TPM: where an image definition that it publishes to says so, and source and host have what it takes. */
import type { MachineFactory, MachineKind } from '../../machines/machine.ts';
import { isTrusted } from './same-kind.ts';

export interface TrustedWish {
  /** Of the image definitions that the template publishes to, where they say one. */
  readonly securityTypes: readonly string[];
  readonly firmware: 'bios' | 'uefi';
  readonly kind: MachineKind;
  readonly machines: Pick<MachineFactory, 'lacksTrustedLaunch'>;
}

/** `sentence`: for the build log, where somebody wants it and it cannot be had. The image is built all the same: it is a property of machines, not of their disks. */
export async function trustedLaunch(
  wish: TrustedWish,
): Promise<{ readonly trusted?: true; readonly sentence?: string }> {
  const type = wish.securityTypes.find(isTrusted);
  if (type === undefined) return {};
  const lacking = await lacks(wish);
  if (lacking === undefined) return { trusted: true };
  return {
    sentence: `The image definition has the security type ${type}, but the machines of this build have neither Secure Boot nor a TPM: ${lacking}. Whether the image boots with them is not proven.`,
  };
}

async function lacks({ firmware, kind, machines }: TrustedWish): Promise<string | undefined> {
  if (kind === 'container') return 'it is built in a container';
  if (firmware !== 'uefi') return 'Kiln boots this source by BIOS (an entry of catalogue.json says "firmware": "uefi")';
  return machines.lacksTrustedLaunch ? await machines.lacksTrustedLaunch() : 'its kind of machine has none';
}
