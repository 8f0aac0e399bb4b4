/**
 * A cell of a container machine: a mount namespace and a process namespace of their own, held by one process. Everything that is mounted and run in it is nowhere
 * else, so that one death ends all of it: the cell's own by destroy(), or Kiln's, by whatever means (PDEATHSIG). The kernel then takes down mounts, loop devices
 * and processes; no sweep is needed, but for file systems that are frozen at that moment (frozen.ts).
 *
 * A machine has two, one in the other. Whoever dies last in a mount namespace unmounts what is in it, and writes back what is dirty: a program that serves a file
 * system must not be the one who waits for that. So the outer cell has the daemon that shows the disk, and the inner one has the disk mounted.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { type Finished, type RunOptions, run } from '../../processes/process.ts';

const READY = 'ready';

export class Cell {
  readonly #holder: ChildProcess;
  readonly #inner: number;
  readonly #ended: Promise<void>;

  private constructor(holder: ChildProcess, inner: number, ended: Promise<void>) {
    this.#holder = holder;
    this.#inner = inner;
    this.#ended = ended;
  }

  /** @param outer the cell that this one lives in, and dies with. Errors: ToolMissing; NotSupported where the host lets nobody make namespaces. */
  static async open(outer?: Cell): Promise<Cell> {
    const hold = [
      ...['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'],
      // Waits for ever, and for every process that loses its parent in there.
      ...['sh', '-c', `sleep infinity & echo ${READY}; wait`],
    ];
    const [program, args] = outer ? outer.inside('unshare', ...hold) : ['unshare', hold];
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
      detached: true,
    });
    let complaint = '';
    holder.stderr!.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-1000);
    });
    const ended = new Promise<void>(resolve => {
      holder.once('close', () => resolve());
      holder.once('error', () => resolve());
    });
    const lines = createInterface({ input: holder.stdout! });
    try {
      await Promise.race([
        new Promise<void>((resolve, reject) => {
          lines.once('line', () => resolve());
          holder.once('error', reject);
        }),
        ended.then(() => {
          throw new KilnError('NotSupported', `This host cannot hold a container machine: ${complaint.trim()}`, {
            hint: 'It takes root and the right to make namespaces. A virtual machine needs neither: --machine vm.',
          });
        }),
      ]);
      return new Cell(holder, await firstOf(holder.pid!), ended);
    } catch (error) {
      holder.kill('SIGKILL');
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw new KilnError('ToolMissing', 'setpriv is not installed.', { target: 'setpriv', cause: error });
    }
  }

  /** The argument array that runs a program inside. */
  inside(program: string, ...args: string[]): [string, string[]] {
    return ['nsenter', ['--target', String(this.#inner), '--mount', '--pid', '--', program, ...args]];
  }

  /** Runs a program inside to its end. Errors: those of {@link run}, which name the program and what it said. */
  async run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
    try {
      return await run(...this.inside(program, ...args), options);
    } catch (error) {
      if (this.#holder.exitCode === null && this.#holder.signalCode === null) throw error;
      throw new KilnError('MachineLost', `The container machine has ended: ${asKilnError(error).message}`);
    }
  }

  /** Ends everything inside at once. Resolves when it is gone. Safe more than once. */
  async destroy(): Promise<void> {
    if (this.#holder.exitCode === null && this.#holder.signalCode === null)
      try {
        // The first process of the namespace: the kernel ends all others with it.
        process.kill(this.#inner, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    await this.#ended;
  }
}

/** The first process of the new namespace: at the end of a chain of only children, it is the one that has number 1 in there. */
async function firstOf(holder: number): Promise<number> {
  for (let pid = holder; ; ) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    if (/^NSpid:.*\t1$/m.test(status)) return pid;
    const [child] = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ');
    if (!child) throw new Error(`process ${holder} holds no namespace`);
    pid = Number(child);
  }
}
