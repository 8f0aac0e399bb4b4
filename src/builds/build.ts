/** One build from beginning to end: phases are put together, folded, and everything that the build held is freed. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress } from '../images/source.ts';
import type { MachineFactory, MachineShape } from '../machines/machine.ts';
import { bootPhase } from './boot.ts';
import { capturePhase } from './capture.ts';
import { copyingAhead } from './copying-ahead.ts';
import { distributePhase, FORMATS, publishedPhase, type Target } from './distributors/distribute.ts';
import { fold, type Recorder } from './fold.ts';
import { generalizePhase } from './generalize.ts';
import { type Keeper, type Kept, keeping } from './keep.ts';
import { limitsOf, type StepCache } from './layers/choice.ts';
import { imageLayer, proofLayer } from './layers/image-layer.ts';
import { machineLayer } from './layers/machine-layer.ts';
import { keepRoom } from './layers/room.ts';
import { type LayerSession, openLayerSession } from './layers/session.ts';
import type { LayerStore } from './layers/store.ts';
import { type LogLine, openBuildLog } from './log.ts';
import { optimizePhase } from './optimize.ts';
import { type BuildOutcome, outcomeOf } from './outcome.ts';
import type { Phase, PhaseContext, PhasePlan } from './phase.ts';
import { provePhase } from './prove.ts';
import { redacting, redactor } from './redact.ts';
import { type Acquire, sourcePhase } from './sources/platform-image.ts';
import { isValidation, openValidation } from './validation.ts';

export interface BuildRequest {
  readonly runId: string;
  readonly templateId: string;
  /** Sentences that the build log begins with: what of the template is built otherwise than it says. */
  readonly notes: readonly string[];
  readonly source: { readonly reference: string; readonly acquire: Acquire };
  readonly shape: MachineShape;
  readonly osDiskSizeGB: number;
  /** Sizes of the data disks that the template adds (GiB), in order. */
  readonly dataDisks: readonly number[];
  readonly customize: readonly Phase[];
  /** Missing: the image stays as it is captured. */
  readonly optimize?: OptimizationRequest;
  readonly bootProof: boolean;
  readonly validate: ValidationRequest;
  readonly distribute: readonly Target[];
  /** Strings that came as secrets, such as the signature in a URL: nothing that is written down of the run shows them. */
  readonly secrets?: readonly string[];
  /** What an earlier run says of a target that has this very image, and is left alone. */
  readonly published?: (target: Target) => Readonly<Record<string, unknown>> | undefined;
  /** Which stored layers are taken, and whether new ones are kept. Missing: neither. */
  readonly cache?: StepCache;
}

/** A boot of the image decides the order of what is published as qcow2. */
export interface OptimizationRequest {
  /** What runs behind the boot, and decides with it. */
  readonly workload?: Phase;
}

export interface ValidationRequest {
  readonly validators: readonly Phase[];
  /** Whether an image that a validator complains of is distributed all the same. */
  readonly continueDistributeOnFailure: boolean;
  /** Nothing is built: the validators look at the source itself. */
  readonly sourceOnly: boolean;
}

export interface BuildEnvironment {
  /** The run's own directory; made here, gone when the build ends. */
  readonly directory: string;
  /** Kept. */
  readonly logDirectory: string;
  readonly machines: MachineFactory;
  /** The state directory, whose region store gets the images. */
  readonly home: string;
  readonly recorder: Recorder;
  readonly onLine: (line: LogLine) => void;
  readonly onProgress: (progress: Progress) => void;
  readonly signal: AbortSignal;
  /** The layers that make room where the disk runs full, whether this build uses any or not. Missing: none do. */
  readonly store?: LayerStore;
  /** Who may keep the machine of a step that failed. Missing: nobody. */
  readonly keeper?: Keeper;
}

export interface BuildPlan {
  readonly phases: readonly PhasePlan[];
}

/** The phases of a request, in order; nothing runs. */
export function phasesOf(request: BuildRequest, distribute: readonly Phase[]): readonly Phase[] {
  const { source, shape, osDiskSizeGB, dataDisks, optimize, bootProof, validate, customize, cache } = request;
  const kept = cache !== undefined;
  const acquire = sourcePhase(source.reference, source.acquire);
  const plain = { shape, osDiskSizeGB };
  const machine = { ...plain, ...(dataDisks.length > 0 && { dataDisks }) };
  const validators = validate.validators.map(phase =>
    validate.continueDistributeOnFailure ? { ...phase, onFailure: 'next kind' as const } : phase,
  );
  if (validate.sourceOnly) return [acquire, bootPhase(plain, { subState: 'Validating' }), ...validators];
  const validated = validators.length > 0;
  const proven = validated || (bootProof && !optimize);
  // What follows a step that is never kept is not kept either.
  // A machine with a TPM is not frozen: its state is another process's.
  const layers = kept && !shape.trusted ? Math.min(customize.length, ...cache.neverSteps) + 1 : 0;
  const formats = formatsOf(request);
  const early = formats.includes('vhd') ? copyingAhead : (phase: Phase) => phase;
  return [
    acquire,
    bootPhase(machine, { layers }),
    ...customize.map((phase, index) =>
      early(index + 1 < layers ? { ...phase, layer: machineLayer(shape, index + 2, layers) } : phase),
    ),
    early(generalizePhase()),
    capturePhase({ formats, booted: proven || optimize !== undefined, kept }),
    ...(optimize ? [optimizing(optimize)] : []),
    ...(proven ? [proof()] : []),
    ...validators,
    ...distribute,
  ];

  function optimizing({ workload }: OptimizationRequest): Phase {
    const { processors, memoryMiB, trusted } = shape;
    return optimizePhase({
      ...{ processors, memoryMiB, ...(trusted && { trusted }) },
      // The machine of the validators, which is booted from what comes of this, proves it else.
      proof: bootProof && !proven,
      ...(workload && { workload }),
      ...(kept && { layer: imageLayer(proven) }),
    });
  }

  function proof(): Phase {
    const { processors, memoryMiB, trusted } = shape;
    const machine = { processors, memoryMiB, ...(trusted && { trusted }) };
    const options = { ...machine, proof: bootProof, validators: validated };
    // Without a proof, an image that does not come up is one that cannot be validated; with it, one that nobody may have.
    const onFailure = bootProof ? undefined : validators[0]?.onFailure;
    // Validators need the machine that proves; what they look at may have changed meanwhile.
    const layer = kept && !validated && { layer: proofLayer() };
    return provePhase({ ...options, ...(onFailure !== undefined && { onFailure }), ...layer });
  }
}

/**
 * Builds. Rejects with the error of the phase that ended it, or the signal's reason; resolves with what became of the rest. On every path the machines
 * are ended and the run's directory is gone, but for what the keeper has taken; only logs and published images stay.
 * @param planned told of the plan before the first phase
 */
export async function build(
  request: BuildRequest,
  environment: BuildEnvironment,
  planned: (phases: readonly Phase[]) => Promise<void>,
): Promise<BuildOutcome> {
  await mkdir(environment.logDirectory, { recursive: true });
  // Other users' processes (the machine's own) must be able to pass through, not to read.
  await mkdir(environment.directory, { recursive: true, mode: 0o711 });
  const failed = new AbortController();
  const signal = AbortSignal.any([environment.signal, failed.signal]);
  const redact = redactor(request.secrets ?? []);
  const openLog = (name: string) =>
    openBuildLog({
      redact,
      id: request.runId,
      path: join(environment.logDirectory, name),
      onLine: environment.onLine,
      onError: error => failed.abort(error),
    });
  const log = openLog('customization.log');
  const validation = openValidation(() => openLog('validation.log'));
  const distribute = request.distribute.map(target => {
    const earlier = request.published?.(target);
    if (earlier) return publishedPhase(target, environment.home, earlier);
    return distributePhase(target, environment.home, { runId: request.runId, templateId: request.templateId });
  });
  let machines = new AsyncDisposableStack();
  let kept: (Kept & { readonly held: AsyncDisposableStack }) | undefined;
  const phases = phasesOf(request, distribute).map((open, index) => {
    const { keeper } = environment;
    const plain = redacting(open, redact);
    const validating = isValidation(plain);
    const phase = keeper ? keeping(plain, keeper, one => keep(one, validating)) : plain;
    return validating ? validation.host(phase, index) : phase;
  });
  /** From here on the machine is not the build's own: what follows goes on without it. */
  const keep = (one: Kept, validating: boolean) => {
    kept = { ...one, held: validating ? validation.yield() : machines };
    if (!validating) machines = new AsyncDisposableStack();
  };
  let layers: LayerSession | undefined;
  let room: AsyncDisposable | undefined;
  try {
    await planned(phases);
    for (const note of request.notes) log.say(note);
    if (environment.store) room = await keepRoom(environment.store, environment.directory, line => log.say(line));
    const context: PhaseContext = {
      runId: request.runId,
      directory: environment.directory,
      logDirectory: environment.logDirectory,
      log,
      signal,
      machines: environment.machines,
      progress: environment.onProgress,
      own: held => void machines.use(held),
    };
    if (request.cache && !request.validate.sourceOnly)
      layers = openLayerSession({ ...request.cache, ...limitsOf(phases, request.cache) }, phases, context);
    const { ends } = await fold(
      phases,
      context,
      {
        ...environment.recorder,
        async started(index, phase, key) {
          if (!isValidation(phase)) await validation.end();
          log.phase = index;
          await environment.recorder.started(index, phase, key);
        },
        async failed(index, phase, error, skipped) {
          if (phase.onFailure !== undefined && !signal.aborted)
            log.of(index).say(`${phase.kind} ${phase.name}: ${error.message}\n${goingOn(phases, phase)}`);
          await environment.recorder.failed(index, phase, error, skipped);
        },
      },
      layers,
    );
    const outcome = outcomeOf(ends);
    // Azure's log of an image that is built says so, whatever becomes of its targets.
    log.end(outcome.state === 'Failed' ? outcome.error.message : undefined);
    return outcome;
  } catch (error) {
    log.end((error as Error).message);
    throw error;
  } finally {
    const removed = () => rm(environment.directory, { recursive: true, force: true });
    try {
      // Steps that went well stay stored when a later one has failed.
      await layers?.settled();
      await room?.[Symbol.asyncDispose]();
      failed.abort();
      await validation.end();
      await machines.disposeAsync();
      await log.close();
    } finally {
      if (!kept) await removed();
      else {
        const { place, command, machine, held } = kept;
        const drop = () => held.disposeAsync().finally(removed);
        await place.hold({ command, ...(machine.gone && { gone: machine.gone }), drop });
      }
    }
  }
}

const formatsOf = (request: BuildRequest) => request.distribute.map(target => FORMATS[target.type]);

/** What follows a failure that does not end the build. */
function goingOn(phases: readonly Phase[], failed: Phase): string {
  if (failed.kind !== 'distribute')
    return 'It is distributed all the same (continueDistributeOnFailure); the run fails.';
  const others = phases.some(phase => phase.kind === 'distribute' && phase !== failed);
  return others ? 'It does not hold up the other targets.' : 'It was the only target.';
}
