/**
 * A machine: where a build runs: a virtual machine (qemu/), or a container on the mounted disk (container/). Everything that a guest sends is untrusted bytes.
 */
import type { Readable } from 'node:stream';

export const MACHINE_KINDS = ['qemu', 'container'] as const;
export type MachineKind = (typeof MACHINE_KINDS)[number];

/** What can change the outcome or the memory image of a build: part of every layer's key. */
export interface MachineShape {
  readonly kind: MachineKind;
  readonly processors: number;
  readonly memoryMiB: number;
  readonly firmware: 'bios' | 'uefi';
  /** Secure Boot and a TPM; missing where there are none. */
  readonly trusted?: true;
  /** `kvm`, `hvf`, `tcg`, or `none` for a container. */
  readonly accelerator: string;
  /** Emulator version, machine type and CPU model in one stable text, such as `7.2.22/q35/qemu64`. */
  readonly model: string;
}

export type GuestStream = 'stdout' | 'stderr';

/** Receives output while a command runs. Called in order; must not block. */
export type OutputSink = (chunk: Buffer, stream: GuestStream) => void;

export interface ExecOptions {
  /** Sent to the command's standard input, then closed. Without it, standard input is empty. */
  readonly stdin?: string | Buffer | Readable;
  readonly output?: OutputSink;
  /** Aborting ends the command and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  /** Exit status; `null` when a signal ended the command, or the connection broke off. */
  readonly exitCode: number | null;
  /** Name of the signal without SIG, such as `KILL`. */
  readonly signal?: string;
}

export interface UploadOptions {
  /** Permission bits, such as 0o755. Default: the login user's umask. */
  readonly mode?: number;
  readonly signal?: AbortSignal;
  /** Bytes sent so far. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * A running guest in which commands run as the build user: an ordinary user with passwordless sudo, in its home
 * directory, without a terminal.
 * Whoever starts a machine owns it and calls {@link destroy} on every path (or uses `await using`).
 */
export interface Machine extends AsyncDisposable {
  readonly shape: MachineShape;
  /** The build user's name: what generalizing has to remove. */
  readonly user: string;

  /**
   * Runs a shell command line in the guest, through the login shell of the build user.
   * Rejects only when the command could not be run to its end: MachineLost, GuestStopped, GuestUnreachable, or the signal's reason.
   */
  exec(command: string, options?: ExecOptions): Promise<ExecResult>;

  /**
   * Runs a script with root's sh, which reads it from standard input; in an environment that is the kind of machine's. Both streams may arrive as one.
   * Rejects as {@link exec} does.
   */
  asRoot(script: string, options?: Omit<ExecOptions, 'stdin'>): Promise<ExecResult>;

  /**
   * Streams bytes into a file of the guest, as the build user. A relative destination is relative to its home.
   * @returns bytes written. Rejects with StepFailed when the guest cannot write the file.
   */
  upload(source: Readable, destination: string, options?: UploadOptions): Promise<number>;

  /**
   * Freezes what the machine is at this moment, without ending it: the overlay that it wrote becomes a file that never changes again, and it goes on in the
   * next of the request's `checkpoints`; data disks likewise, at the same moment. Called between commands, as often as the request had paths. Missing: this kind of machine cannot.
   * Rejects when it could not be done; the machine then goes on as before, or is lost, and what it does next says so.
   */
  checkpoint?(request: CheckpointRequest): Promise<Checkpoint>;

  /**
   * Lets a person in while the machine runs: the command to type on this host, an argument array. What it needs besides lies in the run's directory.
   * Missing: only Kiln gets in.
   */
  access?(): Promise<readonly string[]>;

  /** Aborted when the machine has ended, whoever ended it. Missing: nobody is told. */
  readonly gone?: AbortSignal;

  /**
   * Clean power-off by the guest itself, or, with `unplug`, without asking it, where it is a virtual machine's; resolves when the machine has ended and its disk is complete
   * and closed. What else it held is freed from then on: {@link destroy} waits for that.
   */
  powerOff(options?: { readonly signal?: AbortSignal; readonly unplug?: boolean }): Promise<void>;

  /** Ends the machine at once and frees everything it held. Safe at any time and more than once. */
  destroy(): Promise<void>;
}

export interface CheckpointRequest {
  /** Where the memory may be written to, by kinds of machines that keep it. Neither exists yet. */
  readonly memory: MachineMemory;
  readonly signal?: AbortSignal;
}

/** The files of a machine's memory. */
export interface MachineMemory {
  /** Of the guest's, what no earlier checkpoint has; sparse. */
  readonly ram: string;
  /** Which of these files has which part of it. */
  readonly pieces: string;
  /** What its processors and devices know. */
  readonly devices: string;
}

export interface FrozenMemory extends MachineMemory {
  /** `ram` of the checkpoints before it, oldest first. */
  readonly below: readonly string[];
}

/** What a machine was at one moment: enough to go on from there, any number of times. */
export interface Checkpoint {
  /** The frozen overlay. It names what it stands on relatively (`layer-1.qcow2`), so a chain that is linked elsewhere under its names is whole. */
  readonly disk: MachineDisk;
  /** The same of the data disks, where it has any. */
  readonly dataDisks?: readonly DataDisk[];
  /** Missing where only the disk is kept, which is then clean as after an unmount. */
  readonly memory?: FrozenMemory;
  /** Of `memory.ram`, as `checksumFile` gives it; where it became known while that was written. */
  readonly ramChecksum?: string;
  /** What resuming needs to know besides. JSON, kept with the layer: no secrets. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** How long the guest stood still (ms). */
  readonly pausedMs: number;
}

/** The disk that a machine boots: a qcow2 file of the run's own, usually a fresh overlay. */
export interface MachineDisk {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
}

/** A disk besides the system's, at a logical unit of the one SCSI controller. */
export interface DataDisk {
  readonly lun: number;
  readonly disk: MachineDisk;
}

/**
 * How the guest gets its build user: a cloud-init NoCloud seed, or systemd's credentials, which are faster by far and need systemd 252 or newer. Azure's
 * own way comes later behind the same words.
 */
export type Provisioning = 'cloud-init' | 'systemd-credentials';

/** What becomes of bytes on their way; some may wait for those that follow. */
export interface ByteFilter {
  push(chunk: Buffer): Buffer;
  /** What has waited. */
  end(): Buffer;
}

export interface MachineRequest {
  /** The run's id: names namespaces and processes. */
  readonly id: string;
  /** The run's own directory; sockets, seed and key live here and go with it. Several machines may share it one after the other. */
  readonly directory: string;
  /** Distinguishes machines of one run in file names: `build`, `proof`. */
  readonly name: string;
  readonly kind: MachineKind;
  readonly disk: MachineDisk;
  /** Each with the overlays that it goes on in, as many as `checkpoints`. */
  readonly dataDisks?: readonly (DataDisk & { readonly checkpoints?: readonly string[] })[];
  readonly processors: number;
  readonly memoryMiB: number;
  readonly firmware: 'bios' | 'uefi';
  /** Secure Boot and a TPM of its own (Trusted Launch); takes `uefi`, and no checkpoints. */
  readonly trusted?: true;
  readonly provisioning: Provisioning;
  /** Serial console output is appended here, byte for byte, or as the filter gives it. */
  readonly consolePath: string;
  readonly consoleFilter?: ByteFilter;
  readonly signal?: AbortSignal;
  /** When the machine counts as started: its guest has settled (default), or as soon as a login works. */
  readonly until?: 'answers' | 'settled';
  /** What happens while starting, in plain words, for the build log. */
  readonly report: (line: string) => void;
  /**
   * Absolute paths of the overlays that the machine goes on in after each checkpoint, in order; the machine makes them. Missing or empty: there will be none.
   */
  readonly checkpoints?: readonly string[];
  /** What the guest reads of what `disk` stands on gets into `disk`, block by block in the order in which it is first needed. Takes no checkpoints. */
  readonly copyOnRead?: boolean;
}

/** A start from a checkpoint: `disk` is a fresh overlay on the frozen one. */
export interface ResumeRequest extends MachineRequest {
  readonly checkpoint: Pick<Checkpoint, 'memory' | 'facts'> & {
    /** Rejects when the files are not what was frozen: nothing runs before that is known. Missing: they are. */
    readonly intact?: Promise<unknown>;
    /** Told whether the memory is what was frozen, which has to be read anyway: `intact` may wait for that. */
    readonly loaded?: (whole: boolean) => void;
  };
}

/** What a machine's shape follows from, besides the host. */
export type ShapeRequest = Pick<MachineRequest, 'kind' | 'processors' | 'memoryMiB' | 'firmware' | 'trusted'>;

/** A way to make machines. */
export interface MachineFactory {
  /** The shape that a request will get on this host, without starting anything. */
  shape(request: ShapeRequest): Promise<MachineShape>;
  /** Why `trusted` machines cannot be had on this host, in words that end a sentence; undefined where they can. Missing: they cannot. */
  lacksTrustedLaunch?(): Promise<string | undefined>;
  /**
   * Boots a machine and resolves when the guest answers and has settled (cloud-init done, package locks free), or earlier (`until`).
   * Rejects with ToolMissing, MachineLost, GuestStopped, GuestUnreachable (deadline, scaled when emulated) or the signal's reason;
   * nothing is left running then.
   */
  start(request: MachineRequest): Promise<Machine>;
  /**
   * Goes on from a checkpoint of a machine of the same shape, as a machine of its own: machine-id, keys, entropy and clock are new before anything runs in it, and
   * settled as after {@link start}. Rejects when that is not possible, with nothing left running: the caller then starts cold.
   * Missing: this kind of machine cannot (a factory of several kinds rejects with NotSupported).
   */
  resume?(request: ResumeRequest): Promise<Machine>;
}
