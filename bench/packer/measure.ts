/** How the comparison is measured: wall time, bytes that the programs and their children wrote, memory of an idle service. */
import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/processes/process.ts';

export interface Measured {
  readonly seconds: number;
  /** Sectors that reached the disks of this machine meanwhile, in bytes; nothing else should write then. */
  readonly bytesWritten: number;
  readonly stdout: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Runs program lines one after the other; what is still in the page cache at the end is flushed and counted, outside the time. */
export async function measure(
  lines: readonly (readonly [string, readonly string[]])[],
  env: NodeJS.ProcessEnv,
): Promise<Measured> {
  await run('sync', []);
  const before = await sectorsWritten();
  const begun = performance.now();
  let stdout = '';
  for (const [program, args] of lines) stdout = (await run(program, args, { env })).stdout;
  const seconds = (performance.now() - begun) / 1000;
  await run('sync', []);
  return { seconds, bytesWritten: ((await sectorsWritten()) - before) * 512, stdout };
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

/** Opens the state directory in a process of its own, lets it rest, reads its memory; and times commands that open and leave it. */
export async function residentMemory(root: string, home: string, env: NodeJS.ProcessEnv): Promise<ServiceFigures> {
  const times: number[] = [];
  for (let n = 0; n < 5; n++) {
    const begun = performance.now();
    await run(join(root, 'kiln'), ['--home', home, 'runs', 'list'], { env });
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
    await run(join(root, 'kiln'), ['--home', home, 'runs', 'list'], { env });
  }
}

/** Bytes of a process, what it shares with others included. */
export async function rss(pid: number): Promise<number> {
  return kib(await readFile(`/proc/${pid}/status`, 'utf8'), /^VmRSS:\s+(\d+)/m);
}

/** Bytes of all processes of the state directory's PostgreSQL: shared memory is counted once, by shares. */
export async function postgres(home: string): Promise<number> {
  const main = Number((await readFile(join(home, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);
  const { stdout } = await run('ps', ['-o', 'pid=', '--pid', String(main), '--ppid', String(main)]);
  let sum = 0;
  for (const pid of stdout.trim().split(/\s+/))
    sum += kib(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => ''), /^Pss:\s+(\d+)/m);
  return sum;
}

const kib = (text: string, pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0) * 1024;
