/** Programs that Kiln runs on the host: argument arrays only, an owner for each, and an error that says what was run. */
import { spawn } from 'node:child_process';
import { KilnError } from '../arm/errors.ts';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Buffer;
  /** Each line of standard error and standard output, as it arrives. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** Exit codes that are not an error. Default: 0. */
  readonly ok?: readonly number[];
}

export interface Finished {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

const KEPT = 1024 * 1024;

/**
 * Runs a program to its end. Keeps the last MiB of each stream. An abort kills the whole process group and rejects
 * with the signal's reason. Rejects with ToolMissing when the program is not there, DiskFull when it said so.
 */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  options.signal?.throwIfAborted();
  const child = spawn(...mortal(program, args), {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    detached: true,
  });
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // already gone
    }
  };
  options.signal?.addEventListener('abort', kill, { once: true });
  process.once('exit', kill);
  const kept = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    let rest = '';
    child[stream]!.setEncoding('utf8').on('data', (text: string) => {
      kept[stream] = (kept[stream] + text).slice(-KEPT);
      if (!options.onLine) return;
      const lines = (rest + text).split(/\r?\n|\r/);
      rest = lines.pop()!;
      for (const line of lines) options.onLine(line, stream);
    });
  }
  child.stdin?.on('error', () => {}).end(options.input);
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, name) => resolve(code ?? (name ? 128 : 1)));
    });
    options.signal?.throwIfAborted();
    if (exitCode === 127 && NOT_FOUND.test(kept.stderr)) throw missing(program);
    if (!(options.ok ?? [0]).includes(exitCode)) throw failure(program, args, exitCode, kept);
    return { ...kept, exitCode };
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? missing(program, error) : error;
  } finally {
    options.signal?.removeEventListener('abort', kill);
    process.removeListener('exit', kill);
  }
}

/** What setpriv says when it cannot execute the program. */
const NOT_FOUND = /^setpriv: failed to execute .*: No such file or directory/m;

const missing = (program: string, cause?: unknown) =>
  new KilnError('ToolMissing', `${program} is not installed.`, { target: program, cause });

/** On Linux the kernel ends the program in the moment Kiln dies, also by kill -9: nothing writes on into a directory that a sweep removes. */
function mortal(program: string, args: readonly string[]): [string, readonly string[]] {
  return process.platform === 'linux' ? ['setpriv', ['--pdeathsig', 'KILL', '--', program, ...args]] : [program, args];
}

function failure(program: string, args: readonly string[], exitCode: number, kept: { stdout: string; stderr: string }) {
  const said = (kept.stderr.trim() || kept.stdout.trim()).split('\n').slice(-5).join('\n');
  if (/no space left on device|disk quota exceeded/i.test(said))
    return new KilnError('DiskFull', `No space left on the file system while ${program} was writing: ${said}`);
  return new KilnError(
    'InternalError',
    `${[program, ...args.map(shownArgument)].join(' ')} ended with exit code ${exitCode}: ${said}`,
  );
}

/** Scripts and lists are arguments as well: a message shows where they begin. */
function shownArgument(argument: string): string {
  const line = argument.split('\n', 1)[0]!;
  return line.length > 120 || line !== argument ? `${line.slice(0, 120)}…` : line;
}
