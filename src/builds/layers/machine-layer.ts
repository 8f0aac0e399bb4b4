/** Layers of a running machine: what it was after boot, and after each customizer. The disk's overlay, and the memory where the kind of machine keeps it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createOverlay } from '../../disks/qemu-img.ts';
import type { SourceImage } from '../../images/source.ts';
import type { MachineMemory, MachineRequest, MachineShape } from '../../machines/machine.ts';
import type { BuildState, LayerContent, PhaseContext, PhaseLayer } from '../phase.ts';
import { memoryNames, memoryOf, overlayName, overlayOf, pinSource } from './overlays.ts';

/**
 * The build machine on the overlay of the given depth.
 * @param layers how many layers of it may be kept in all
 */
export function machineRequest(
  { kind, processors, memoryMiB, trusted }: MachineShape,
  source: SourceImage,
  context: PhaseContext,
  depth: number,
  layers: number,
): MachineRequest {
  const { directory } = context;
  return {
    id: context.runId,
    directory,
    name: 'build',
    kind,
    disk: { path: overlayOf(directory, depth), format: 'qcow2' },
    processors,
    memoryMiB,
    firmware: source.firmware,
    ...(trusted && { trusted }),
    provisioning: source.provisioning,
    consolePath: join(context.logDirectory, 'console.log'),
    signal: context.signal,
    report: line => context.log.say(line),
    checkpoints: Array.from({ length: Math.max(0, layers - depth + 1) }, (_, n) => overlayOf(directory, depth + 1 + n)),
  };
}

/**
 * @param depth from 1, which is boot's
 * @param about further facts that are kept with it
 */
export function machineLayer(
  shape: MachineShape,
  depth: number,
  layers: number,
  about: (state: BuildState) => LayerContent['facts'] = () => ({}),
): PhaseLayer {
  const kept = memoryNames(depth);
  return {
    on: ['boot', 'customize'],
    async keep(state, { directory, signal }) {
      const { machine } = state;
      if (!machine?.checkpoint) return undefined;
      const { disk, memory, facts, pausedMs } = await machine.checkpoint({
        memory: memoryOf(directory, depth),
        signal,
      });
      return {
        state: { ...state, disk: { path: overlayOf(directory, depth + 1), format: 'qcow2' } },
        content: {
          files: {
            [overlayName(depth)]: disk.path,
            ...(memory && { [kept.ram]: memory.ram, [kept.devices]: memory.devices }),
          },
          facts: { ...about(state), machine: facts, pausedMs },
          // Else the store's budget would free nothing before the build ends: memory of every step, as long as it goes on.
          ...(memory && { release: () => forget(memory) }),
        },
      };
    },
    async restore(taken, state, context) {
      const { directory, machines } = context;
      const source = state.source!;
      await pinSource(source.disk, directory);
      const checks: Promise<void>[] = [];
      for (const [index, layer] of taken.entries())
        checks.push((await layer.take(index + 1 === depth ? undefined : [overlayName(index + 1)])).intact);
      const intact = Promise.all(checks);
      intact.catch(() => {});
      const request = machineRequest(shape, source, context, depth + 1, layers);
      const backing = { path: overlayOf(directory, depth), format: 'qcow2' as const };
      await rm(request.disk.path, { force: true });
      await createOverlay({ backing, path: request.disk.path, beside: true });
      const { facts, names } = taken.at(-1)!;
      const memory = names.includes(kept.ram) ? memoryOf(directory, depth) : undefined;
      const checkpoint = {
        facts: facts.machine as Readonly<Record<string, unknown>>,
        ...(memory && { memory }),
        intact,
      };
      const machine = await machines.resume!({ ...request, checkpoint });
      context.own(machine);
      // QEMU has it all.
      if (memory) await forget(memory);
      return { ...state, disk: request.disk, machine };
    },
  };
}

async function forget({ ram, devices }: MachineMemory): Promise<void> {
  for (const file of [ram, devices]) await rm(file, { force: true });
}
