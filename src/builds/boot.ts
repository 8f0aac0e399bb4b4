/** The boot phase: an overlay of the source's disk, grown to the template's size, in a running machine that has settled. */
import { link } from 'node:fs/promises';
import { join } from 'node:path';
import { createOverlay } from '../disks/qemu-img.ts';
import type { MachineShape } from '../machines/machine.ts';
import type { Phase } from './phase.ts';

const GIB = 1024 ** 3;

export interface BootInputs {
  readonly shape: MachineShape;
  /** `osDiskSizeGB` of the template; 0 keeps the size of the source. */
  readonly osDiskSizeGB: number;
}

export interface BootOptions {
  /** Of the phase: `Validating` where the source itself is validated, and nothing built. */
  readonly subState?: Phase['subState'];
}

export function bootPhase(inputs: BootInputs, { subState = 'Building' }: BootOptions = {}): Phase {
  const { kind, processors, memoryMiB } = inputs.shape;
  const size = `${processors} processor${processors === 1 ? '' : 's'}, ${memoryMiB} MiB`;
  return {
    kind: 'boot',
    name: kind === 'container' ? 'container on the mounted disk' : `virtual machine, ${size}`,
    subState,
    inputs: { ...inputs },
    async run(state, context) {
      const source = state.source!;
      const wanted = inputs.osDiskSizeGB * GIB;
      const virtualSize = Math.max(wanted, source.virtualSize);
      if (wanted > 0 && wanted < source.virtualSize)
        context.log.say(
          `osDiskSizeGB ${inputs.osDiskSizeGB} is smaller than the source's disk (${source.virtualSize / GIB} GiB): a disk is never shrunk, its size stays.`,
        );
      const disk = { path: join(context.directory, 'disk.qcow2'), format: 'qcow2' as const };
      await createOverlay({ backing: await pinned(source.disk, context.directory), path: disk.path, virtualSize });
      const machine = await context.machines.start({
        id: context.runId,
        directory: context.directory,
        name: 'build',
        kind,
        disk,
        processors,
        memoryMiB,
        firmware: source.firmware,
        provisioning: source.provisioning,
        consolePath: join(context.logDirectory, 'console.log'),
        signal: context.signal,
        report: line => context.log.say(line),
      });
      context.own(machine);
      return { state: { ...state, disk, machine }, detail: { shape: machine.shape, virtualSize } };
    },
  };
}

/**
 * A name of the run's own for the source's disk: an image that is published anew or removed while something is built from it would otherwise change
 * under the overlay, which names its backing file by path. Source images on other file systems are never replaced.
 */
async function pinned<Disk extends { readonly path: string }>(disk: Disk, directory: string): Promise<Disk> {
  const path = join(directory, 'source.qcow2');
  try {
    await link(disk.path, path);
    return { ...disk, path };
  } catch (error) {
    if (['EXDEV', 'EPERM', 'EMLINK'].includes((error as NodeJS.ErrnoException).code ?? '')) return disk;
    throw error;
  }
}
