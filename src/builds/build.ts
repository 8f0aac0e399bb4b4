/** One build from beginning to end: phases are put together, folded, and everything that the build held is freed. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress } from '../images/source.ts';
import type { MachineFactory, MachineShape } from '../machines/machine.ts';
import { artifacts as makeArtifacts } from './artifacts.ts';
import { bootPhase } from './boot.ts';
import { capturePhase } from './capture.ts';
import { type DistributionTarget, distributePhase, FORMATS } from './distributors/distribute.ts';
import { fold, type Recorder } from './fold.ts';
import { generalizePhase } from './generalize.ts';
import { type LogLine, openBuildLog } from './log.ts';
import type { Phase, PhasePlan } from './phase.ts';
import { provePhase } from './prove.ts';
import { type Acquire, sourcePhase } from './sources/platform-image.ts';

export interface BuildRequest {
  readonly runId: string;
  readonly templateId: string;
  /** Sentences that the build log begins with: what of the template is built otherwise than it says. */
  readonly notes: readonly string[];
  readonly source: { readonly reference: string; readonly acquire: Acquire };
  readonly shape: MachineShape;
  readonly osDiskSizeGB: number;
  readonly customize: readonly Phase[];
  readonly bootProof: boolean;
  readonly distribute: readonly DistributionTarget[];
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
}

export interface BuildPlan {
  readonly phases: readonly PhasePlan[];
}

/** The phases of a request, in order; nothing runs. */
export function phasesOf(request: BuildRequest, distribute: readonly Phase[]): readonly Phase[] {
  return [
    sourcePhase(request.source.reference, request.source.acquire),
    bootPhase({ shape: request.shape, osDiskSizeGB: request.osDiskSizeGB }),
    ...request.customize,
    generalizePhase(),
    capturePhase(),
    ...(request.bootProof ? [provePhase(request.shape)] : []),
    ...distribute,
  ];
}

/**
 * Builds. Rejects with the error of the phase that failed, or the signal's reason. On every path the machines are
 * ended and the run's directory is gone; only logs and published images stay.
 * @param planned told of the plan before the first phase
 */
export async function build(
  request: BuildRequest,
  environment: BuildEnvironment,
  planned: (phases: readonly Phase[]) => Promise<void>,
): Promise<void> {
  await mkdir(environment.logDirectory, { recursive: true });
  // Other users' processes (the machine's own) must be able to pass through, not to read.
  await mkdir(environment.directory, { recursive: true, mode: 0o711 });
  const failed = new AbortController();
  const signal = AbortSignal.any([environment.signal, failed.signal]);
  const log = openBuildLog({
    id: request.runId,
    path: join(environment.logDirectory, 'customization.log'),
    onLine: environment.onLine,
    onError: error => failed.abort(error),
  });
  const made = makeArtifacts({ directory: environment.directory, signal, onProgress: environment.onProgress });
  const distribute = request.distribute.map(target =>
    distributePhase(target, environment.home, made, { runId: request.runId, templateId: request.templateId }),
  );
  const phases = phasesOf(request, distribute);
  const machines = new AsyncDisposableStack();
  try {
    await planned(phases);
    for (const note of request.notes) log.say(note);
    await fold(
      phases,
      {
        runId: request.runId,
        directory: environment.directory,
        logDirectory: environment.logDirectory,
        log,
        signal,
        machines: environment.machines,
        progress: environment.onProgress,
        own: machine => machines.use(machine),
      },
      {
        ...environment.recorder,
        async succeeded(index, phase, result) {
          if (phase.kind === 'capture')
            made.prepare(
              result.state.image!,
              request.distribute.map(target => FORMATS[target.type]),
            );
          await environment.recorder.succeeded(index, phase, result);
        },
        async started(index, phase, key) {
          log.phase = index;
          await environment.recorder.started(index, phase, key);
        },
      },
    );
    log.mark('[INFO] (telemetry) Finalizing.');
  } catch (error) {
    log.mark(`Build 'azure-arm' errored: ${(error as Error).message}`);
    throw error;
  } finally {
    failed.abort();
    await made.settled();
    await machines.disposeAsync();
    await log.close();
    await rm(environment.directory, { recursive: true, force: true });
  }
}
