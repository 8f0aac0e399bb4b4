/**
 * The boot proof: before anybody can use the image, a throw-away overlay of it boots as a new machine until it answers, and
 * what was to be gone is gone. An image that builds and does not boot is the worst failure of image builders.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asKilnError, KilnError } from '../arm/errors.ts';
import { createOverlay } from '../disks/qemu-img.ts';
import type { Machine } from '../machines/machine.ts';
import { ask } from './ask.ts';
import { HOST_KEYS } from './generalize.ts';
import type { GuestIdentity, Phase, PhaseContext } from './phase.ts';

const FACTS = ['cat /etc/machine-id', 'wc -l < ~/.ssh/authorized_keys', HOST_KEYS].join('; ');

export function provePhase(machine: { readonly processors: number; readonly memoryMiB: number }): Phase {
  return {
    kind: 'prove',
    name: 'boot a throw-away copy',
    subState: 'Building',
    inputs: {},
    async run(state, context) {
      const image = state.image!;
      const overlay = join(context.directory, 'proof.qcow2');
      await createOverlay({ backing: image, path: overlay });
      const proof = await boot(overlay, state.image!.firmware, machine, context);
      try {
        const [machineId = '', keys = '', ...hostKeys] = await ask(proof, FACTS, context.signal);
        check({ machineId, authorizedKeys: Number(keys), hostKeys }, state.identity!);
        context.log.say(`The image boots and answers; machine-id and host keys are new, the build user is gone.`);
        return { state };
      } finally {
        await proof.destroy();
        await rm(overlay, { force: true });
      }
    },
  };
}

async function boot(
  path: string,
  firmware: 'bios' | 'uefi',
  { processors, memoryMiB }: { readonly processors: number; readonly memoryMiB: number },
  context: PhaseContext,
): Promise<Machine> {
  try {
    const machine = await context.machines.start({
      id: context.runId,
      directory: context.directory,
      name: 'proof',
      disk: { path, format: 'qcow2' },
      processors,
      memoryMiB,
      firmware,
      provisioning: 'cloud-init',
      consolePath: join(context.logDirectory, 'proof-console.log'),
      signal: context.signal,
      until: 'answers',
      report: line => context.log.say(line),
    });
    context.own(machine);
    return machine;
  } catch (thrown) {
    const error = asKilnError(thrown);
    if (error.code !== 'GuestUnreachable' && error.code !== 'GuestStopped') throw thrown;
    throw new KilnError('BootProofFailed', `The finished image does not come up: ${error.message}`, {
      cause: error,
      hint: 'See proof-console.log of the run: a customizer broke the boot, the network, sshd or cloud-init. The tag kiln.bootProof=off skips the proof.',
    });
  }
}

interface Facts {
  readonly machineId: string;
  readonly authorizedKeys: number;
  readonly hostKeys: readonly string[];
}

/** What a new machine from the image must not share with the machine that built it. */
function check(facts: Facts, built: GuestIdentity): void {
  const wrong: string[] = [];
  if (!/^[0-9a-f]{32}$/.test(facts.machineId)) wrong.push('it has no machine-id');
  else if (facts.machineId === built.machineId) wrong.push('its machine-id is that of the build machine');
  if (facts.hostKeys.length === 0) wrong.push('it has no SSH host keys');
  const shared = facts.hostKeys.filter(key => built.hostKeys.includes(key));
  if (shared.length > 0)
    wrong.push(`it has the build machine's SSH host keys (${shared.map(key => key.split(' ')[0]).join(', ')})`);
  if (facts.authorizedKeys !== 1) wrong.push('the build user was still there');
  if (wrong.length > 0)
    throw new KilnError('BootProofFailed', `The finished image boots, but ${wrong.join('; ')}.`, {
      hint: 'Did a customizer restore these files, or does /tmp/DeprovisioningScript.sh start a service that does?',
    });
}
