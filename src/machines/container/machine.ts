/**
 * A machine without a VM: the disk is mounted, and each command runs in a container of its own on it (systemd-nspawn), at the host's own speed. No kernel of
 * the image is booted and no services run; what a command leaves running ends with it. The container is no boundary against a hostile template.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { KilnError } from '../../arm/errors.ts';
import type {
  Checkpoint,
  CheckpointRequest,
  ExecOptions,
  ExecResult,
  Machine,
  MachineShape,
  UploadOptions,
} from '../machine.ts';
import { uploadThrough } from '../upload.ts';
import type { Cell } from './cell.ts';
import type { MountedDisk } from './mounted-disk.ts';

export interface ContainerParts {
  readonly shape: MachineShape;
  readonly user: string;
  /** Everything of the machine lives in it. */
  readonly outer: Cell;
  readonly disk: MountedDisk;
  /** The overlay that is written first, and those that it goes on in after each checkpoint. */
  readonly overlays: readonly string[];
  /** A network namespace whose only way leads outside, not to the host's loopback. */
  readonly namespace: string;
  /** The name servers that are reachable from there. */
  readonly resolvConf: string;
  /** Frees what the machine held besides its cells. */
  readonly release: () => Promise<void>;
}

/** What sshd gives a command on Debian; sudo and PAM add what the image says. */
const PATH = '/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games';

/**
 * A process namespace for one command, whose first process is in the group that is killed: all that the command has started dies with it. Killing nspawn alone would
 * leave the container running.
 */
const ALONE = Object.freeze([
  ...(['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'] as const),
  ...(['sh', '-c', '"$@"; exit $?', 'sh'] as const),
] as const);

export class ContainerMachine implements Machine {
  readonly shape: MachineShape;
  readonly user: string;
  readonly #parts: ContainerParts;
  readonly #gone = new AbortController();
  /** nspawn lets one container at a time have a directory. */
  #last: Promise<unknown> = Promise.resolve();
  #destroyed: Promise<void> | undefined;
  /** How many of the overlays are. */
  #frozen = 0;

  /** Takes over the cell and what `release` frees. */
  constructor(parts: ContainerParts) {
    this.shape = parts.shape;
    this.user = parts.user;
    this.#parts = parts;
  }

  exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    return this.#next(() => this.#run(this.#asUser('/bin/bash', '-c', command), options));
  }

  upload(source: Readable, destination: string, options?: UploadOptions): Promise<number> {
    return uploadThrough(this, source, destination, options);
  }

  asRoot(script: string, options: Omit<ExecOptions, 'stdin'> = {}): Promise<ExecResult> {
    const stdin = `unset container container_uuid NOTIFY_SOCKET\n${script}`;
    return this.#next(() => this.#run(['--', '/bin/sh', '-s'], { ...options, stdin }));
  }

  /** The disk alone: nothing runs between commands whose memory would have to be kept. */
  checkpoint({ signal }: CheckpointRequest): Promise<Checkpoint> {
    return this.#next(async () => {
      this.#gone.signal.throwIfAborted();
      signal?.throwIfAborted();
      const { disk, overlays } = this.#parts;
      const [path, next] = [overlays[this.#frozen], overlays[this.#frozen + 1]];
      if (path === undefined || next === undefined) throw new Error('there is no overlay to go on in');
      const begun = performance.now();
      await disk.freeze(next);
      this.#frozen++;
      return { disk: { path, format: 'qcow2' }, facts: {}, pausedMs: Math.round(performance.now() - begun) };
    });
  }

  /** Unmounts and closes the disk: nothing runs that would have to be ended first. */
  async powerOff(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#gone.signal.throwIfAborted();
    options.signal?.throwIfAborted();
    await this.#next(() => this.#parts.disk.close());
    this.destroy().catch(() => {});
  }

  destroy(): Promise<void> {
    this.#destroyed ??= (async () => {
      this.#gone.abort(new KilnError('MachineLost', 'The machine has been ended.'));
      await this.#parts.disk.cell.destroy();
      await this.#parts.outer.destroy();
      await this.#parts.release();
    })();
    return this.#destroyed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  /** After what runs already; a failure is its own caller's. */
  #next<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** A shell of the build user's in a container on the same disk; one at a time, as for commands. It ends with the machine. */
  async access(): Promise<readonly string[]> {
    this.#gone.signal.throwIfAborted();
    const [program, args] = this.#parts.disk.cell.inside(
      ...['env', 'SYSTEMD_NSPAWN_TMPFS_TMP=0', 'systemd-nspawn', '--console=autopipe'],
      ...this.#container(),
      ...this.#asUser('/bin/bash', '-l'),
    );
    return [program, ...args];
  }

  #asUser(...command: string[]): string[] {
    return ['--user', this.user, '--chdir', `/home/${this.user}`, `--setenv=PATH=${PATH}`, '--', ...command];
  }

  async #run(what: readonly string[], { stdin, output, signal: asked }: ExecOptions): Promise<ExecResult> {
    const signal = AbortSignal.any([this.#gone.signal, ...(asked ? [asked] : [])]);
    signal.throwIfAborted();
    const nspawn = ['systemd-nspawn', '--pipe', ...this.#container()];
    const [program, args] = this.#parts.disk.cell.inside(...ALONE, ...nspawn, ...what);
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      cwd: '/',
      // /tmp of the image, as in a machine that boots, instead of a fresh one for each command.
      env: { PATH: process.env.PATH, LANG: 'C.UTF-8', SYSTEMD_NSPAWN_TMPFS_TMP: '0' },
      detached: true,
    });
    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // already gone
      }
    };
    signal.addEventListener('abort', kill, { once: true });
    process.once('exit', kill);
    child.stdout!.on('data', (chunk: Buffer) => output?.(chunk, 'stdout'));
    child.stderr!.on('data', (chunk: Buffer) => output?.(chunk, 'stderr'));
    child.stdin!.on('error', () => {});
    let unread: Error | undefined;
    if (stdin instanceof Readable) {
      stdin.once('error', error => {
        unread = error;
        kill();
      });
      stdin.pipe(child.stdin!);
    } else child.stdin!.end(stdin);
    try {
      const exitCode = await new Promise<number | null>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
      });
      if (unread) throw unread;
      signal.throwIfAborted();
      return { exitCode };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw new KilnError('ToolMissing', 'setpriv is not installed.', { target: 'setpriv', cause: error });
    } finally {
      signal.removeEventListener('abort', kill);
      process.removeListener('exit', kill);
      if (stdin instanceof Readable) stdin.unpipe(child.stdin!);
    }
  }

  /**
   * No machined, no journal, no time zone of the host: nothing of this machine gets into the image. The name servers are shown by a mount, whatever the image
   * has at /etc/resolv.conf stays. Without CAP_MKNOD nobody makes a device file for one of the host's disks. sync must do what it says (no --suppress-sync, though it would be
   * quicker): update-grub reads the disk beside the file system, and finds no root file system in what has not been written out.
   */
  #container(): string[] {
    const { disk, namespace, resolvConf } = this.#parts;
    return [
      ...['--quiet', '--register=no', '--keep-unit', '--directory', disk.root, '--hostname=localhost', '--as-pid2'],
      ...['--resolv-conf=off', '--timezone=off', '--link-journal=no', '--drop-capability=CAP_MKNOD,CAP_SYS_BOOT'],
      ...disk.devices,
      `--bind-ro=${resolvConf.replaceAll(':', '\\:')}:/etc/resolv.conf`,
      `--network-namespace-path=${join('/run/netns', namespace)}`,
    ];
  }
}
