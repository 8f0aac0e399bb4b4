/** What Kiln itself does to a guest before its first step: part of the key of every layer that holds a machine, so that a newer Kiln passes by what an older one made. */
import { hashCanonical } from '../disks/canonical.ts';
import { provisionScript, RENEWAL } from './container/provision.ts';
import type { MachineKind } from './machine.ts';
import { filesCredential, userCredential } from './qemu/credentials.ts';
import { namesScript } from './qemu/disk-names.ts';
import { BUILD_USER, type MachineIdentity } from './qemu/identity.ts';
import { START_ATTENDANT } from './qemu/renewal-port.ts';
import { seedFiles } from './qemu/seed.ts';
import { SETTLE_SCRIPT } from './qemu/settle.ts';

/** Keys come and go; what is done with them is what counts. */
const NOBODY: MachineIdentity = {
  user: BUILD_USER,
  login: { publicKey: '', privateKey: '' },
  host: { publicKey: '', privateKey: '' },
};

/** SHA-256. */
export function guestScripts(kind: MachineKind): string {
  if (kind === 'container')
    return hashCanonical([
      provisionScript(BUILD_USER, 'cloud-init'),
      provisionScript(BUILD_USER, 'systemd-credentials'),
      RENEWAL,
    ]);
  const seed = seedFiles({ instanceId: '', hostname: '', identity: NOBODY });
  const others = [START_ATTENDANT, SETTLE_SCRIPT, namesScript([0])];
  return hashCanonical([seed, userCredential(NOBODY), filesCredential(NOBODY), ...others]);
}
