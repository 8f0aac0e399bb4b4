/**
 * A build is a fold of phases over layers. A phase is data (what the plan prints and what its key is made of) and one
 * function that takes the state of the build and gives the next.
 */

import type { VhdAhead } from '../disks/vhd-ahead.ts';
import type { Progress, SourceImage } from '../images/source.ts';
import type { DataDisk, Machine, MachineDisk, MachineFactory } from '../machines/machine.ts';
import type { Artifact, ArtifactFormat, DataArtifact } from './artifacts.ts';
import type { BuildLog } from './log.ts';

export const PHASE_KINDS = [
  'source',
  'boot',
  'customize',
  'generalize',
  'capture',
  'optimize',
  'prove',
  'validate',
  'distribute',
] as const;
export type PhaseKind = (typeof PHASE_KINDS)[number];

/** What can be known of a phase before it runs; pure data. */
export interface PhasePlan {
  readonly kind: PhaseKind;
  /** For people: `Shell "install nginx"`, `VHD → westus2`. */
  readonly name: string;
  /** Everything that can change what the phase makes; hashed into the layer's key. No secrets, no paths of the host. */
  readonly inputs: Readonly<Record<string, unknown>>;
}

export interface Phase extends PhasePlan {
  /** Azure's runSubState while it runs. */
  readonly subState: 'Building' | 'Customizing' | 'Optimizing' | 'Validating' | 'Distributing';
  /**
   * What a failure of its own means for those after it: nothing of them runs (`end`, the default), they go on as if it had not been there (`next`), or the
   * first that is of another kind does (`next kind`). The end of the whole build, by whatever aborts it, is always the end.
   */
  readonly onFailure?: 'end' | 'next' | 'next kind';
  /**
   * Phases that follow each other and have lanes run at once, but those of one lane one after the other. They leave the state as it is, are never kept, and are the
   * last ones.
   */
  readonly lane?: string;
  /** Facts that are kept with the run from the beginning, also when the phase fails. No secrets. */
  readonly about?: Readonly<Record<string, unknown>>;
  run(state: BuildState, context: PhaseContext): Promise<PhaseResult>;
  /** How what it made is kept, and taken instead of made. Missing: it always runs, unless what follows it was kept. */
  readonly layer?: PhaseLayer;
}

/** What is stored of a phase. */
export interface LayerContent {
  /** Absolute paths, by the names that the files get in every run's directory; they never change again. */
  readonly files: Readonly<Record<string, string>>;
  /** Of files whose checksum is known already, by the same names. */
  readonly checksums?: Readonly<Record<string, string | undefined>>;
  /** What is needed to go on from here. JSON; no secrets. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** Removes what the build itself has no use of: called when the files are stored, or will not be. */
  readonly release?: () => Promise<void>;
}

export interface Kept {
  /** What the build goes on with. */
  readonly state: BuildState;
  /** Read and stored while the build goes on. */
  readonly content: LayerContent | Promise<LayerContent>;
}

/** A stored layer in the hands of a build. */
export interface TakenLayer {
  readonly facts: Readonly<Record<string, unknown>>;
  readonly names: readonly string[];
  /**
   * Gives the run's directory the files (all, or those named). They are checked meanwhile: `intact` rejects when they are damaged, and another way is looked for
   * then. Nothing that cannot be taken back may be done with them before.
   * @param read those that the build itself reads, by name, and whether they are what was kept: they are not read once more
   */
  take(
    names?: readonly string[],
    read?: Readonly<Record<string, Promise<boolean>>>,
  ): Promise<{ readonly intact: Promise<void> }>;
}

export interface PhaseLayer {
  /** The kinds of earlier phases whose layers this one stands on: all of those have to be there. */
  readonly on: readonly PhaseKind[];
  /** Called right after the phase has run. Undefined where there is nothing to keep. */
  keep(state: BuildState, context: PhaseContext): Promise<Kept | undefined>;
  /** @param layers what it stands on, in order, and itself at the end */
  restore(layers: readonly TakenLayer[], state: BuildState, context: PhaseContext): Promise<BuildState>;
  /** Facts of stored layers, none of which is this one: a sentence for the log, where one of them only just does not fit. */
  missed?(stored: readonly { readonly facts: LayerContent['facts'] }[], state: BuildState): string | undefined;
}

/** What flows through the fold. Each phase returns a new one; what a phase does not make, it passes on. */
export interface BuildState {
  readonly source?: SourceImage;
  /** The run's own disk: an overlay on the source, or on layers. */
  readonly disk?: MachineDisk;
  /** The same of its data disks, by their units; missing where it has none. */
  readonly dataDisks?: readonly DataDisk[];
  /** Running between boot and capture; again, from the finished image, for the validators. Owned by the build, not by the phase. */
  readonly machine?: Machine;
  /** The VHD of that disk as far as it is copied already; missing where none is wanted, or not yet. Owned by the build. */
  readonly ahead?: VhdAhead;
  /** What identified the build machine and must be gone from the image. */
  readonly identity?: GuestIdentity;
  readonly image?: FinishedDisk;
  /** What distributors publish of it. */
  readonly artifacts?: readonly Artifact[];
  /** The same of its data disks, by their units; missing where it has none. */
  readonly dataArtifacts?: readonly DataArtifact[];
}

export interface GuestIdentity {
  readonly machineId: string;
  /** Public SSH host keys as `type base64`, without comments. */
  readonly hostKeys: readonly string[];
}

/** The captured, standalone image: what is booted for the proof, one of the files that distributors publish. */
export interface FinishedDisk {
  readonly path: string;
  readonly format: ArtifactFormat;
  readonly virtualSize: number;
  readonly allocatedSize: number;
  readonly hyperVGeneration: 'V1' | 'V2';
  readonly osType: 'Linux' | 'Windows';
  readonly firmware: 'bios' | 'uefi';
}

export interface PhaseResult {
  readonly state: BuildState;
  /** Where the outcome is known better than the inputs say (`latest` became a disk with a checksum): what later keys build on. */
  readonly content?: Readonly<Record<string, unknown>>;
  /** Bytes that the phase wrote or moved, where that says something. */
  readonly bytes?: number;
  /** Taken from a store instead of made. */
  readonly cached?: boolean;
  /** Facts worth keeping with the run, and with the layer. No secrets. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** What the log says of what was made; also where that is taken from the store. */
  readonly summary?: string;
}

export interface PhaseContext {
  readonly runId: string;
  /** The run's own directory; gone after the run. */
  readonly directory: string;
  /** Kept after the run: customization.log, validation.log, console.log. */
  readonly logDirectory: string;
  readonly log: BuildLog;
  readonly signal: AbortSignal;
  readonly machines: MachineFactory;
  readonly progress: (progress: Progress) => void;
  /** Gives a machine, or what it needs, to the build, which destroys it on every path, in reverse order. */
  readonly own: (held: AsyncDisposable) => void;
}
