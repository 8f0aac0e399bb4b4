/**
 * The boot proof: before anybody can use the image, a throw-away overlay of it boots as a new machine until it answers, and
 * what was to be gone is gone. An image that builds and does not boot is the worst failure of image builders. Where the template has validators, they run in
 * that same machine: the image is booted once.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asKilnError, KilnError } from '../arm/errors.ts';
import { createOverlay } from '../disks/qemu-img.ts';
import type { DataDisk, Machine, MachineRequest } from '../machines/machine.ts';
import { ask } from './ask.ts';
import type { BuildState, GuestIdentity, Phase, PhaseContext, PhaseLayer } from './phase.ts';

/** With sudo: older cloud-inits write even public keys for root alone. */
const HOST_KEYS = 'sudo -n cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | cut -d" " -f1,2';

const FACTS = ['cat /etc/machine-id', 'wc -l < ~/.ssh/authorized_keys', HOST_KEYS].join('; ');

export interface ProveOptions {
  readonly processors: number;
  readonly memoryMiB: number;
  /** With Secure Boot and a TPM, as the machine that it was built in. */
  readonly trusted?: true;
  /** Whether an image that fails this is not published. Without it the machine is there for the validators only. */
  readonly proof: boolean;
  /** Whether validators follow: the machine then settles, and goes on running for them. */
  readonly validators: boolean;
  readonly onFailure?: Phase['onFailure'];
  /** How it is kept that the image was proven, where it may be. */
  readonly layer?: PhaseLayer;
}

export function provePhase(options: ProveOptions): Phase {
  const { proof, validators, onFailure, layer, ...size } = options;
  return {
    kind: proof ? 'prove' : 'validate',
    name: validators ? 'boot a throw-away copy for the validators' : 'boot a throw-away copy',
    subState: validators ? 'Validating' : 'Building',
    ...(onFailure !== undefined && { onFailure }),
    inputs: {},
    ...(layer && { layer }),
    async run(state, context) {
      await using held = new AsyncDisposableStack();
      const hint = proof && !validators ? ' The tag kiln.bootProof=off skips the proof.' : '';
      const until = validators ? 'settled' : 'answers';
      const machine = await bootCopy(state, context, { ...size, name: 'proof', until, hint, held });
      if (proof) await checkCopy(machine, state, context);
      if (!validators) return { state };
      context.own(held.move());
      return { state: { ...state, machine } };
    },
  };
}

export interface CopyOptions
  extends Pick<MachineRequest, 'name' | 'processors' | 'memoryMiB' | 'trusted' | 'until' | 'copyOnRead'> {
  /** What else to try when it does not come up; begins with a space. */
  readonly hint: string;
  /** Gets what is to be freed: the machine, and the disk that it wrote, NAME.qcow2 of the run's directory, and NAME-lunN.qcow2 beside it. */
  readonly held: AsyncDisposableStack;
}

/** Boots a throw-away overlay of the finished image as a new machine. Rejects with BootProofFailed when it does not come up, else as a start of a machine does. */
export async function bootCopy(
  { image, dataArtifacts = [] }: BuildState,
  context: PhaseContext,
  { hint, held, ...request }: CopyOptions,
): Promise<Machine> {
  const path = join(context.directory, `${request.name}.qcow2`);
  held.defer(() => rm(path, { force: true }));
  await createOverlay({ backing: image!, path });
  const dataDisks: DataDisk[] = [];
  for (const { lun, ...backing } of dataArtifacts) {
    const path = join(context.directory, `${request.name}-lun${lun}.qcow2`);
    held.defer(() => rm(path, { force: true }));
    await createOverlay({ backing, path });
    dataDisks.push({ lun, disk: { path, format: 'qcow2' } });
  }
  const console = `${request.name}-console.log`;
  try {
    return held.use(
      await context.machines.start({
        ...request,
        id: context.runId,
        directory: context.directory,
        kind: 'qemu',
        disk: { path, format: 'qcow2' },
        ...(dataDisks.length > 0 && { dataDisks }),
        firmware: image!.firmware,
        provisioning: 'cloud-init',
        consolePath: join(context.logDirectory, console),
        consoleFilter: context.log.redact.stream(),
        signal: context.signal,
        report: line => context.log.say(line),
      }),
    );
  } catch (thrown) {
    const error = asKilnError(thrown);
    if (error.code !== 'GuestUnreachable' && error.code !== 'GuestStopped') throw thrown;
    throw new KilnError('BootProofFailed', `The finished image does not come up: ${error.message}`, {
      cause: error,
      hint: `See ${console} of the run: a customizer broke the boot, the network, sshd or cloud-init.${hint}`,
    });
  }
}

/** Whether what was to be gone from the image is gone. Rejects with BootProofFailed. */
export async function checkCopy(machine: Machine, { identity }: BuildState, context: PhaseContext): Promise<void> {
  const [machineId = '', keys = '', ...hostKeys] = await ask(machine, FACTS, context.signal);
  check({ machineId, authorizedKeys: Number(keys), hostKeys }, identity!);
  context.log.say(`The image boots and answers; machine-id and host keys are new, the build user is gone.`);
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
