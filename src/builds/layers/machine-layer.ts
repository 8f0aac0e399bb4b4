/** Layers of a running machine: what it was after boot, and after each customizer. The overlays of its disks, and the memory where the kind of machine keeps it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createOverlay } from '../../disks/qemu-img.ts';
import type { SourceImage } from '../../images/source.ts';
import type { MachineMemory, MachineRequest, MachineShape } from '../../machines/machine.ts';
import type { BuildState, LayerContent, PhaseContext, PhaseLayer, TakenLayer } from '../phase.ts';
import { memoryNames, memoryOf, overlayName, overlayOf, pinDisks } from './overlays.ts';

export interface MachinePlace {
  /** Of the overlays that it writes first. */
  readonly depth: number;
  /** How many layers of it may be kept in all. */
  readonly layers: number;
  /** The units of its data disks. */
  readonly luns: readonly number[];
}

/** The build machine on the overlays of the given depth. */
export function machineRequest(
  { kind, processors, memoryMiB, trusted }: MachineShape,
  source: SourceImage,
  context: PhaseContext,
  { depth, layers, luns }: MachinePlace,
): MachineRequest {
  const { directory } = context;
  const behind = Array.from({ length: Math.max(0, layers - depth + 1) }, (_, n) => depth + 1 + n);
  const disk = (lun?: number) => ({ path: overlayOf(directory, depth, lun), format: 'qcow2' as const });
  const checkpoints = (lun?: number) => behind.map(further => overlayOf(directory, further, lun));
  return {
    id: context.runId,
    directory,
    name: 'build',
    kind,
    disk: disk(),
    ...(luns.length > 0 && {
      dataDisks: luns.map(lun => ({ lun, disk: disk(lun), checkpoints: checkpoints(lun) })),
    }),
    processors,
    memoryMiB,
    firmware: source.firmware,
    ...(trusted && { trusted }),
    provisioning: source.provisioning,
    consolePath: join(context.logDirectory, 'console.log'),
    consoleFilter: context.log.redact.stream(),
    signal: context.signal,
    report: line => context.log.say(line),
    checkpoints: checkpoints(),
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
      const {
        disk,
        dataDisks = [],
        memory,
        ramChecksum,
        facts,
        pausedMs,
      } = await machine.checkpoint({
        memory: memoryOf(directory, depth),
        signal,
      });
      const luns = dataDisks.map(({ lun }) => lun);
      return {
        state: { ...state, ...disksAt(directory, depth + 1, luns) },
        content: {
          files: {
            [overlayName(depth)]: disk.path,
            ...Object.fromEntries(dataDisks.map(({ lun, disk }) => [overlayName(depth, lun), disk.path])),
            ...(memory && {
              ...{ [kept.ram]: memory.ram, [kept.pieces]: memory.pieces, [kept.devices]: memory.devices },
            }),
          },
          ...(ramChecksum !== undefined && { checksums: { [kept.ram]: ramChecksum } }),
          facts: { ...about(state), machine: facts, pausedMs, ...(luns.length > 0 && { luns }) },
          // Else the store's budget would free nothing before the build ends: memory of every step, as long as it goes on.
          ...(memory && { release: () => forget(memoryOf(directory, depth)) }),
        },
      };
    },
    async restore(taken, state, context) {
      const loaded = Promise.withResolvers<boolean>();
      loaded.promise.catch(() => {});
      try {
        return await resumed(taken, state, context, loaded);
      } catch (error) {
        // Whoever checks the layer waits in vain, else; and it may be whole.
        loaded.reject(new Error('its memory was not read', { cause: error }));
        throw error;
      }
    },
  };

  async function resumed(
    taken: readonly TakenLayer[],
    state: BuildState,
    context: PhaseContext,
    loaded: PromiseWithResolvers<boolean>,
  ): Promise<BuildState> {
    const { directory, machines } = context;
    const source = state.source!;
    await pinDisks(source, directory);
    const { facts, names } = taken.at(-1)!;
    const luns = (facts.luns ?? []) as readonly number[];
    // The system's disk, and the others.
    const disks = [undefined, ...luns];
    const checks: Promise<void>[] = [];
    const remembered = names.includes(kept.ram);
    for (const [index, layer] of taken.entries()) {
      const { ram } = memoryNames(index + 1);
      const earlier = [...disks.map(lun => overlayName(index + 1, lun)), ...(remembered ? [ram] : [])];
      const wanted = index + 1 === depth ? undefined : earlier;
      checks.push((await layer.take(wanted, { [ram]: loaded.promise })).intact);
    }
    const intact = Promise.all(checks);
    intact.catch(() => {});
    const request = machineRequest(shape, source, context, { depth: depth + 1, layers, luns });
    for (const lun of disks) {
      const backing = { path: overlayOf(directory, depth, lun), format: 'qcow2' as const };
      const path = overlayOf(directory, depth + 1, lun);
      await rm(path, { force: true });
      await createOverlay({ backing, path, beside: true });
    }
    const memory = remembered ? { ...memoryOf(directory, depth), below: memoriesBelow(directory, depth) } : undefined;
    const checkpoint = {
      facts: facts.machine as Readonly<Record<string, unknown>>,
      ...(memory && { memory }),
      ...{ intact, loaded: loaded.resolve },
    };
    const machine = await machines.resume!({ ...request, checkpoint });
    context.own(machine);
    // QEMU has it all.
    if (memory) await forget(memoryOf(directory, depth), ...memory.below);
    return { ...state, ...disksAt(directory, depth + 1, luns), machine };
  }
}

const memoriesBelow = (directory: string, depth: number): string[] =>
  Array.from({ length: depth - 1 }, (_, index) => memoryOf(directory, index + 1).ram);

async function forget(memory: MachineMemory, ...others: readonly string[]): Promise<void> {
  for (const file of [...Object.values(memory), ...others]) await rm(file, { force: true });
}

/** What a build writes from a depth on. */
function disksAt(directory: string, depth: number, luns: readonly number[]): Pick<BuildState, 'disk' | 'dataDisks'> {
  const disk = (lun?: number) => ({ path: overlayOf(directory, depth, lun), format: 'qcow2' as const });
  return { disk: disk(), ...(luns.length > 0 && { dataDisks: luns.map(lun => ({ lun, disk: disk(lun) })) }) };
}
