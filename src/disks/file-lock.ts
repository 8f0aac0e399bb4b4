/** A lock between processes that the kernel frees when its holder dies, however it dies. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { KilnError } from '../arm/errors.ts';

export interface LockOptions {
  readonly signal?: AbortSignal;
  /** Called once when another process holds the lock. */
  readonly onWait?: () => void;
}

/**
 * Takes the exclusive lock on `path` (a file that is made if missing and must never be removed) and waits for it as long as needed.
 * Node has no flock(2): util-linux's `flock` holds it around a `cat` that ends with our end of its standard input,
 * so with this process, also by kill -9.
 */
export async function lockFile(path: string, options: LockOptions = {}): Promise<AsyncDisposable> {
  const atOnce = await hold(['--nonblock', path], options.signal);
  if (atOnce) return atOnce;
  options.onWait?.();
  const held = await hold([path], options.signal);
  if (!held) throw new KilnError('StateUnwritable', `The lock ${path} cannot be taken.`, { target: path });
  return held;
}

async function hold(args: readonly string[], signal?: AbortSignal): Promise<AsyncDisposable | undefined> {
  signal?.throwIfAborted();
  // A group of its own: Ctrl-C in the terminal is for us to handle, not for the lock to vanish by.
  const child = spawn('flock', ['--no-fork', ...args, 'cat'], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', text => {
    said += text;
  });
  child.stdin.on('error', () => {});
  const ended = new Promise<number | NodeJS.ErrnoException>(resolve => {
    child.once('error', resolve);
    child.once('close', code => resolve(code ?? 1));
  });
  const abort = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', abort, { once: true });
  child.stdin.write('held\n');
  const outcome = await Promise.race([once(child.stdout, 'data').then(() => 'held' as const), ended]);
  signal?.removeEventListener('abort', abort);
  if (signal?.aborted) {
    child.kill('SIGKILL');
    await ended;
    throw signal.reason;
  }
  if (outcome === 'held')
    return {
      async [Symbol.asyncDispose]() {
        child.stdin.end();
        await ended;
      },
    };
  if (outcome === 1 && args.includes('--nonblock') && said === '') return undefined;
  if (typeof outcome === 'object' && outcome.code === 'ENOENT')
    throw new KilnError('ToolMissing', 'flock (package util-linux) is not installed.', { target: 'flock' });
  throw new KilnError('StateUnwritable', `The lock ${args.at(-1)} cannot be taken: ${said.trim() || outcome}`, {
    target: String(args.at(-1)),
  });
}
