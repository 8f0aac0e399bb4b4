/** The boot phase: an overlay of the source's disk, grown to the template's size, in a running machine that has settled. */
import { rm } from 'node:fs/promises';
import { contentOf } from '../disks/content.ts';
import { createOverlay } from '../disks/qemu-img.ts';
import { guestScripts } from '../machines/guest-scripts.ts';
import type { MachineShape } from '../machines/machine.ts';
import { openDataDisks } from './data-disks.ts';
import { machineLayer, machineRequest } from './layers/machine-layer.ts';
import { overlayOf, pinSource } from './layers/overlays.ts';
import { type WarmStart, whyCold } from './layers/warm-start.ts';
import type { BuildState, Phase, PhaseLayer } from './phase.ts';

const GIB = 1024 ** 3;

export interface BootInputs {
  readonly shape: MachineShape;
  /** `osDiskSizeGB` of the template; 0 keeps the size of the source. */
  readonly osDiskSizeGB: number;
  /** Sizes of the template's additionalDataDisks (GiB); missing where there are none. */
  readonly dataDisks?: readonly number[];
}

export interface BootOptions {
  /** Of the phase: `Validating` where the source itself is validated, and nothing built. */
  readonly subState?: Phase['subState'];
  /** How many layers of the machine may be kept in all, this one included. Default: none. */
  readonly layers?: number;
}

function warmLayer(inputs: BootInputs, layers: number): PhaseLayer {
  const warmStart = ({ source }: BuildState): WarmStart => ({
    source: { name: source!.name, ...contentOf(source!) },
    ...{ shape: inputs.shape, osDiskSizeGB: inputs.osDiskSizeGB },
    ...(inputs.dataDisks && { dataDisks: [...inputs.dataDisks] }),
  });
  return {
    ...machineLayer(inputs.shape, 1, layers, state => ({ warmStart: warmStart(state) })),
    missed: (stored, state) => whyCold(stored, warmStart(state)),
  };
}

export function bootPhase(inputs: BootInputs, { subState = 'Building', layers = 0 }: BootOptions = {}): Phase {
  const { kind, processors, memoryMiB } = inputs.shape;
  const size = `${processors} processor${processors === 1 ? '' : 's'}, ${memoryMiB} MiB`;
  return {
    kind: 'boot',
    name: kind === 'container' ? 'container on the mounted disk' : `virtual machine, ${size}`,
    subState,
    inputs: { ...inputs, scripts: guestScripts(inputs.shape.kind) },
    ...(layers > 0 && { layer: warmLayer(inputs, layers) }),
    async run(state, context) {
      const source = state.source!;
      const wanted = inputs.osDiskSizeGB * GIB;
      const virtualSize = Math.max(wanted, source.virtualSize);
      if (wanted > 0 && wanted < source.virtualSize)
        context.log.say(
          `osDiskSizeGB ${inputs.osDiskSizeGB} is smaller than the source's disk (${source.virtualSize / GIB} GiB): a disk is never shrunk, its size stays.`,
        );
      const disk = { path: overlayOf(context.directory, 1), format: 'qcow2' as const };
      await rm(disk.path, { force: true });
      await createOverlay({
        backing: await pinSource(source.disk, context.directory),
        path: disk.path,
        virtualSize,
        beside: true,
      });
      const dataDisks = await openDataDisks(source, inputs.dataDisks ?? [], context);
      const luns = dataDisks.map(({ lun }) => lun);
      const machine = await context.machines.start(
        machineRequest(inputs.shape, source, context, { depth: 1, layers, luns }),
      );
      context.own(machine);
      return {
        state: { ...state, disk, machine, ...(luns.length > 0 && { dataDisks }) },
        detail: { shape: machine.shape, virtualSize, ...(luns.length > 0 && { dataDisks: luns }) },
      };
    },
  };
}
