/** The QEMU process of a machine: how it is confined, how it ends, and what it said. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { findProgram, QEMU } from './accelerator.ts';
import { type ProcessRecord, startTimeOf, writeRecord } from './process-record.ts';

export { startTimeOf } from './process-record.ts';

export interface Confinement {
  readonly namespace?: string;
  readonly uid?: number;
  /** A group besides its own, for /dev/kvm. */
  readonly kvmGroup?: number;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** First descriptor of files; below are the standard streams, the QMP socket, and the ports that a resumed guest is renewed and first worked in through. */
export const QMP_FD = 3;
export const RENEWAL_FD = 4;
export const COMMANDS_FD = 5;
export const FIRST_FILE_FD = 6;

/**
 * The command that starts QEMU confined: in its namespace, as its own user, without any way to new privileges, and ended by the kernel when
 * the process that started it ends. `ip netns exec` and `setpriv` replace themselves, so the process started is QEMU.
 */
export function confined(
  confinement: Confinement,
  tools: { readonly setpriv: boolean },
  qemu: readonly string[],
): string[] {
  const { namespace, uid, kvmGroup } = confinement;
  const enter = namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace];
  if (!tools.setpriv) return [...enter, ...qemu];
  const groups = kvmGroup === undefined ? ['--clear-groups'] : ['--groups', String(kvmGroup)];
  const identity = uid === undefined ? [] : ['--reuid', String(uid), '--regid', String(uid), ...groups];
  return [...enter, 'setpriv', ...identity, '--no-new-privs', '--pdeathsig', 'KILL', ...qemu];
}

const STDERR_KEPT = 8192;

export class QemuProcess {
  readonly exited: Promise<Exit>;
  readonly qmp: Duplex;
  /** Nothing comes out of these in machines that were not given the ports. */
  readonly renewal: Duplex;
  readonly commands: Duplex;
  readonly #child: ChildProcess;
  #exit: Exit | undefined;
  #stderr = '';
  #killed = false;

  private constructor(child: ChildProcess, console?: (chunk: Buffer) => void) {
    this.#child = child;
    if (console) child.stdout?.on('data', console);
    const sockets = child.stdio as unknown as readonly Duplex[];
    this.qmp = sockets[QMP_FD]!;
    this.renewal = sockets[RENEWAL_FD]!;
    this.commands = sockets[COMMANDS_FD]!;
    for (const port of [this.renewal, this.commands]) port.on('error', () => {});
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    this.exited = new Promise(resolve => {
      child.once('close', (code, signal) => {
        process.removeListener('exit', this.#atExit);
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
    process.once('exit', this.#atExit);
  }

  /**
   * Starts QEMU. `console` hears its standard output, all of it before `exited` resolves; `inherit` hands QEMU the terminal; `files` appear in it
   * from FIRST_FILE_FD on. The record is written before anything else can happen; without it nothing is left running. Rejects with ToolMissing.
   */
  static async start(options: {
    readonly confinement: Confinement;
    readonly args: readonly string[];
    readonly console: ((chunk: Buffer) => void) | 'inherit';
    readonly files: readonly number[];
    readonly recordPath: string;
  }): Promise<QemuProcess> {
    const setpriv = await findProgram('setpriv').then(
      () => true,
      () => false,
    );
    const qemu = [await findProgram(QEMU), ...options.args];
    const [program, ...args] = confined(options.confinement, { setpriv }, qemu);
    const terminal = options.console === 'inherit';
    const child = spawn(program!, args, {
      stdio: [
        terminal ? 'inherit' : 'ignore',
        terminal ? 'inherit' : 'pipe',
        terminal ? 'inherit' : 'pipe',
        'pipe',
        'pipe',
        'pipe',
        ...options.files,
      ],
      cwd: '/',
      env: { PATH: process.env.PATH, LANG: 'C.UTF-8' },
      // Its own group: Ctrl-C at the terminal reaches Kiln, which then decides. A console needs the terminal's group.
      detached: !terminal,
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    const started = new QemuProcess(child, options.console === 'inherit' ? undefined : options.console);
    try {
      const record: ProcessRecord = { pid: child.pid!, startTime: startTimeOf(child.pid!) ?? '' };
      writeRecord(options.recordPath, record);
    } catch (error) {
      await started.kill();
      throw error;
    }
    return started;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Ended by {@link kill}, not by itself. */
  get killed(): boolean {
    return this.#killed;
  }

  /** The last lines on standard error. */
  get complaint(): string {
    return this.#stderr.trim().split('\n').slice(-5).join('\n');
  }

  /** Ends it at once. Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#killed = true;
    if (!this.#exit) this.#child.kill('SIGKILL');
    await this.exited;
  }

  readonly #atExit = () => {
    this.#child.kill('SIGKILL');
  };
}
