/** Runs the real `kiln` in tests, with a state directory of the test's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../src/processes/process.ts';

export const ROOT = join(import.meta.dirname, '..');
export const KILN = join(ROOT, 'kiln');

export interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  /** Resolves with the match when standard error has shown the pattern; rejects when the command ended without it. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
}

/** Those that a failing test leaves behind would go on with its home, and start its database again. */
const children = new Set<ChildProcess>();

/** With this in its environment a build takes and keeps layers. The cache is shared by all tests: the others are to run what they test. */
export const WITH_LAYERS = { KILN_TEST_LAYERS: '1' };

/** Starts `kiln` directly under Node, so that a signal reaches Kiln itself. Builds run everything, and servers make no warm starts, but {@link WITH_LAYERS}. */
export function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const without = args.includes('build') ? ['--no-cache'] : args.includes('serve') ? ['--no-warm'] : [];
  const plain = env.KILN_TEST_LAYERS === '1' ? [] : without;
  const child = spawn(process.execPath, [join(ROOT, 'src/cli/main.ts'), ...args, ...plain], {
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', text => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', text => {
    stderr += text;
    for (const watch of watchers) watch();
  });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exitCode, signal) => resolve({ exitCode, signal, stdout, stderr }));
  });
  return {
    child,
    ended,
    until: pattern =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(stderr);
          if (!match) return;
          watchers.delete(look);
          resolve(match);
        };
        watchers.add(look);
        look();
        ended.then(() => reject(new Error(`kiln ended before it printed ${pattern}:\n${stdout}\n${stderr}`)), reject);
      }),
  };
}

/** Runs `kiln` to its end. */
export async function kiln(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return start(args, env).ended;
}

/** A state directory that other users' processes can pass through, and that is gone after the test. */
export async function temporaryHome(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'kiln-home-'));
  await run('chmod', ['0711', path]);
  return {
    path,
    async remove() {
      for (const child of children)
        if (child.spawnargs.some(argument => argument.includes(path))) {
          const gone = once(child, 'exit');
          child.kill('SIGKILL');
          await gone;
        }
      await endDatabase(path);
      await rm(path, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A Kiln that was killed leaves its PostgreSQL to the next one, and here there is none. */
export async function endDatabase(home: string): Promise<void> {
  const data = join(home, 'postgres');
  const text = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number(text.split('\n')[0]);
  const runs = async () => (await readlink(`/proc/${pid}/cwd`).catch(() => '')) === data;
  if (!(pid > 0) || !(await runs())) return;
  process.kill(pid, 'SIGQUIT');
  while (await runs()) await sleep(20);
}

/** What a build must never leave behind, wherever it was killed: processes and mounts of this home, its run directories. */
export async function leftovers(home: string): Promise<string[]> {
  const left: string[] = [];
  const { stdout: processes } = await run('ps', ['-eo', 'pid=,args=']);
  for (const line of processes.split('\n'))
    if (line.includes(home) && !/\bps -eo\b/.test(line) && !line.includes('--test'))
      left.push(`process ${line.trim().slice(0, 200)}`);
  const { stdout: mounts } = await run('cat', ['/proc/mounts']);
  for (const line of mounts.split('\n')) if (line.includes(home)) left.push(`mount ${line}`);
  for (const name of await readdir(join(home, 'runs')).catch(() => [])) left.push(`run directory ${name}`);
  // What is put together lies in REGION/.staged, which itself stays.
  const staged = (await readdir(join(home, 'regions'), { recursive: true }).catch(() => [])).filter(name =>
    /(^|\/)\.staged\/[^/]+$|(^|\/)\.(?!staged)|tmp/.test(name),
  );
  left.push(...staged.map(name => `staged ${name}`));
  return left;
}

/** Names of the network namespaces that machines made; only this suite's when nothing else builds on the host. */
export async function namespaces(): Promise<string[]> {
  const { stdout } = await run('ip', ['netns', 'list'], { ok: [0, 1, 255] });
  return stdout
    .split('\n')
    .map(line => line.split(' ')[0]!)
    .filter(name => name.startsWith('kiln'));
}

/** Where source images are kept between tests and runs of tests: preparing one takes minutes. As `kiln test` chooses it. */
export function cacheDirectory(): string {
  if (process.env.KILN_CACHE) return process.env.KILN_CACHE;
  if (process.getuid?.() === 0) return '/var/cache/kiln';
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kiln');
}
