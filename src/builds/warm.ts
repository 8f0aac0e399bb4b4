/**
 * A warm start made ahead of time: the source's image is booted, frozen and stored as the layer that builds of this source and shape go on from, and nothing
 * else. Whoever needs the same one meanwhile waits for it.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../arm/errors.ts';
import type { Progress } from '../images/source.ts';
import type { MachineFactory } from '../machines/machine.ts';
import { type BootInputs, bootPhase } from './boot.ts';
import { keysOf, sourceKey } from './layer.ts';
import { layerBudget, prune } from './layers/budget.ts';
import type { LayerRecord } from './layers/record.ts';
import type { LayerStore } from './layers/store.ts';
import { type LogLine, openBuildLog } from './log.ts';
import type { Phase, PhaseContext } from './phase.ts';
import { type Acquire, sourceContent, sourcePhase } from './sources/platform-image.ts';

export interface WarmRequest extends BootInputs {
  readonly runId: string;
  readonly source: { readonly reference: string; readonly acquire: Acquire };
  readonly store: LayerStore;
}

export interface WarmEnvironment {
  /** Its own, for machine and logs; made here, gone at the end. */
  readonly directory: string;
  readonly machines: MachineFactory;
  readonly onPhase: (index: number, phases: readonly Phase[]) => void;
  readonly onLine: (line: LogLine) => void;
  readonly onProgress: (progress: Progress) => void;
  readonly signal: AbortSignal;
}

export interface Warmed {
  readonly layer: LayerRecord;
  /** False: it was there already, or another one made it. */
  readonly made: boolean;
}

/** The source and the boot, as builds have them. */
function phasesOf({
  source,
  shape,
  osDiskSizeGB,
  dataDisks = [],
}: Omit<WarmRequest, 'runId' | 'store'>): [Phase, Phase] {
  const machine = { shape, osDiskSizeGB, ...(dataDisks.length > 0 && { dataDisks }) };
  return [sourcePhase(source.reference, source.acquire), bootPhase(machine, { layers: 1 })];
}

/** The key under which a warm start is stored. */
export function warmKey(
  request: Omit<WarmRequest, 'runId' | 'store'>,
  image: Parameters<typeof sourceContent>[0],
): string {
  const phases = phasesOf(request);
  return keysOf(phases, sourceKey(phases[0], sourceContent(image)))[1]!;
}

/** Rejects as the source's and boot's phases and the layer store do, with NotSupported where machines of this kind keep no memory, or the signal's reason. */
export async function warm(request: WarmRequest, environment: WarmEnvironment): Promise<Warmed> {
  const { runId, store } = request;
  const { directory, machines, signal, onLine, onProgress } = environment;
  // As of a build: the machine's own user must be able to pass through.
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const failed = new AbortController();
  const path = join(directory, 'customization.log');
  const log = openBuildLog({ id: runId, path, onLine, onError: error => failed.abort(error) });
  await using held = new AsyncDisposableStack();
  held.defer(async () => {
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });
  const context: PhaseContext = {
    ...{ runId, directory, logDirectory: directory, log, machines },
    signal: AbortSignal.any([signal, failed.signal]),
    progress: onProgress,
    own: machine => void held.use(machine),
  };
  const phases = phasesOf(request);
  const [source, boot] = phases;
  environment.onPhase(0, phases);
  const { state, content } = await source.run({}, context);
  const key = keysOf(phases, sourceKey(source, content!))[1]!;
  const there = await store.look(key);
  if (there) return { layer: there, made: false };
  const onWait = () => log.say('Somebody else is making this warm start; waiting for it.');
  await using _lock = await store.lock(key, { signal: context.signal, onWait });
  const meanwhile = await store.look(key);
  if (meanwhile) return { layer: meanwhile, made: false };

  environment.onPhase(1, phases);
  const why = boot.layer!.missed?.(await store.list(), state);
  if (why !== undefined) log.say(why);
  const begun = performance.now();
  const booted = await boot.run(state, context);
  const seconds = (performance.now() - begun) / 1000;
  const kept = await boot.layer!.keep(booted.state, context);
  if (!kept) throw new KilnError('NotSupported', 'Machines of this kind cannot be frozen, so there is no warm start.');
  // What is frozen needs no machine any more, and what is stored next needs the processors and the memory.
  await booted.state.machine!.destroy();
  const { files, facts } = await kept.content;
  const name = `${boot.kind} ${boot.name}`;
  const made = { key, id: randomUUID(), parent: undefined, name, runId, seconds, files, facts };
  await store.keep(made, context.signal);
  await prune(store, { budget: await layerBudget(store.directory) });
  const layer = await store.look(key);
  if (layer) return { layer, made: true };
  throw new KilnError('DiskFull', 'The warm start does not fit into the budget of the layer store.', {
    target: store.directory,
    hint: 'Give it more room with KILN_CACHE_BUDGET.',
  });
}
