/** How the comparison is measured: wall time, bytes that the programs and their children wrote, memory of an idle service. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../src/processes/process.ts';

export interface Measured {
  readonly seconds: number;
  /** Sectors that reached the disks of this machine meanwhile, in bytes; nothing else should write then. */
  readonly bytesWritten: number;
  /** Of all programs. */
  readonly stdout: string;
}

export type ProgramLine = readonly [program: string, args: readonly string[]];

export interface MeasureOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Kills all of it; the measurement rejects. */
  readonly signal: AbortSignal;
  /** Directories of files that are in the page cache when it begins. */
  readonly reads: readonly string[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Where the programs are that take part, and their libraries. */
export async function programDirectories(): Promise<string[]> {
  const libraries = (await readdir('/usr/lib')).filter(name => name.endsWith('-linux-gnu'));
  return ['/usr/bin', '/usr/sbin', ...libraries.map(name => join('/usr/lib', name))];
}

/**
 * Runs program lines one after the other; what is still in the page cache at the end is flushed and counted, outside the time. What was in it before would depend on
 * whose turn it was: some kernels put out what nobody has touched for a minute (DAMON), and a turn may take longer.
 */
export async function measure(lines: readonly ProgramLine[], options: MeasureOptions): Promise<Measured> {
  const { env, signal, reads } = options;
  await readAll(reads);
  await run('sync', []);
  const before = await sectorsWritten();
  const begun = performance.now();
  let stdout = '';
  for (const [program, args] of lines) stdout += (await run(program, args, { env, signal })).stdout;
  const seconds = (performance.now() - begun) / 1000;
  await run('sync', []);
  return { seconds, bytesWritten: ((await sectorsWritten()) - before) * 512, stdout };
}

/** Files that go away meanwhile are none. */
async function readAll(directories: readonly string[]): Promise<void> {
  const find = [...directories, '-xdev', '-type', 'f', '-exec', 'cat', '--', '{}', '+'];
  await once(spawn('find', find, { stdio: 'ignore' }), 'exit');
}

/** /proc/diskstats, whole disks only: the tenth field counts sectors of 512 bytes written. */
async function sectorsWritten(): Promise<number> {
  const disks = new Set(await readdir('/sys/block'));
  const lines = (await readFile('/proc/diskstats', 'utf8')).trim().split('\n');
  return lines
    .map(line => line.trim().split(/\s+/))
    .filter(([, , name]) => disks.has(name!) && !/^(loop|ram|zram|dm-)/.test(name!))
    .reduce((sum, fields) => sum + Number(fields[9]), 0);
}

export interface ServiceFigures {
  readonly startSeconds: number;
  readonly starts: number;
  /** Bytes. */
  readonly node: number;
  readonly postgres: number;
}

export interface ServiceToMeasure {
  /** Of the checkout. */
  readonly root: string;
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Opens the state directory in a process of its own, lets it rest, reads its memory; and times commands that open and leave it. */
export async function residentMemory({ root, home, env }: ServiceToMeasure): Promise<ServiceFigures> {
  const list = () => run(process.execPath, [join(root, 'src/cli/main.ts'), '--home', home, 'runs', 'list'], { env });
  const times: number[] = [];
  for (let n = 0; n < 5; n++) {
    const begun = performance.now();
    await list();
    times.push((performance.now() - begun) / 1000);
  }
  const script = `import { openService } from '${join(root, 'src/service.ts')}';
    await openService({ home: '${home}', log: () => {} }); console.log('open'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('exit', code => reject(new Error(`the service ended with ${code}`)));
    });
    await sleep(5_000);
    return {
      startSeconds: median(times),
      starts: times.length,
      node: await rss(child.pid!),
      postgres: await postgres(home),
    };
  } finally {
    child.kill('SIGKILL');
    // The next command finds the dead one's server and, being the last, stops it.
    await list();
  }
}

/** Bytes of a process, what it shares with others included. */
export async function rss(pid: number): Promise<number> {
  return kib(await readFile(`/proc/${pid}/status`, 'utf8'), /^VmRSS:\s+(\d+)/m);
}

/** Bytes of all processes of the state directory's PostgreSQL: shared memory is counted once, by shares. */
export async function postgres(home: string): Promise<number> {
  return pss(await familyOf([await postmaster(home)]));
}

/** Process id of the server of the state directory. */
export const postmaster = async (home: string): Promise<number> =>
  Number((await readFile(join(home, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);

/** The processes and all that descend from them. */
export async function familyOf(roots: readonly number[]): Promise<number[]> {
  const { stdout } = await run('ps', ['-eo', 'pid=,ppid=']);
  const parents = stdout
    .trim()
    .split('\n')
    .map(line => line.trim().split(/\s+/).map(Number) as [number, number]);
  const family = new Set(roots);
  for (let size = 0; size < family.size; ) {
    size = family.size;
    for (const [pid, parent] of parents) if (family.has(parent)) family.add(pid);
  }
  return [...family];
}

/** Bytes; what several processes share is counted once, by shares. Those that are gone have none. */
export async function pss(processes: readonly number[]): Promise<number> {
  let sum = 0;
  for (const pid of processes)
    sum += kib(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => ''), /^Pss:\s+(\d+)/m);
  return sum;
}

const kib = (text: string, pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0) * 1024;
