/** What a server takes while it builds: memory and room on the disk, sampled. */
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../src/processes/process.ts';
import { familyOf, postmaster, pss } from './measure.ts';

/** Between two looks (ms): each costs a little of what is measured. */
const INTERVAL = 1000;

/** Bytes. */
export interface Footprint {
  /** Peak of the processes, by proportional set sizes: what several share is counted once. The page cache is nobody's. */
  readonly memory: number;
  /** Peak of the directory; holes take nothing, several names of one file count once. */
  readonly disk: number;
}

/** Looks at the server, what descends from it, and its PostgreSQL, until the end of `work`. */
export async function footprintDuring(
  { home, pid }: { readonly home: string; readonly pid: number },
  work: Promise<unknown>,
): Promise<Footprint> {
  const peak = { memory: 0, disk: 0 };
  let over = false;
  const ended = work.finally(() => {
    over = true;
  });
  ended.catch(() => {});
  while (!over) {
    peak.memory = Math.max(peak.memory, await pss(await familyOf([pid, await postmaster(home)])));
    peak.disk = Math.max(peak.disk, await allocated(home));
    await Promise.race([sleep(INTERVAL), ended.catch(() => {})]);
  }
  await ended;
  return peak;
}

/** What disappears while du looks is no error. */
async function allocated(directory: string): Promise<number> {
  const { stdout } = await run('du', ['-sxk', directory], { ok: [0, 1] });
  return Number.parseInt(stdout, 10) * 1024;
}
