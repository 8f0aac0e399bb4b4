/** Eight container builds that are asked for at once, of a server with two workers; and the same eight, each asked for when the one before has ended. */
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../src/processes/process.ts';
import { type Footprint, footprintDuring } from './footprint.ts';
import { type AskedRun, startBench } from './http/server.ts';
import { templateOf } from './job.ts';
import type { Lab } from './lab.ts';

export const BUILDS = 8;
export const WORKERS = 2;

/** Seconds after the first was asked for. */
export interface QueuedRun {
  readonly asked: number;
  readonly started: number;
  readonly ended: number;
}

export interface QueueFigures extends Footprint {
  /** Until the last has ended. */
  readonly seconds: number;
  /** In the order in which they were asked for. */
  readonly runs: readonly QueuedRun[];
}

export interface Queue {
  readonly inARow: QueueFigures;
  readonly atOnce: QueueFigures;
}

export async function measureQueue(lab: Lab): Promise<Queue> {
  return { inARow: await eight(lab, 'in-a-row'), atOnce: await eight(lab, 'at-once') };
}

async function eight(lab: Lab, how: 'at-once' | 'in-a-row'): Promise<QueueFigures> {
  const home = join(lab.directory, how);
  const cache = join(home, 'cache');
  const workers = how === 'at-once' ? WORKERS : 1;
  // Layers of its own: they are part of what it takes on the disk, and push out nobody else's.
  await mkdir(cache, { recursive: true });
  await run('chmod', ['0711', home]);
  await run('cp', ['-al', join(lab.env.KILN_CACHE!, 'sources'), cache]);
  const server = await startBench(home, {
    args: ['--workers', `${workers}`, '--machine', 'container'],
    env: { ...lab.env, KILN_CACHE: cache },
  });
  try {
    const names = Array.from({ length: BUILDS }, (_, n) => `queued-${n + 1}`);
    for (const name of names) await server.putTemplate(name, templateOf({ steps: 'one', last: name, output: 'vhd' }));
    const asked = new Map<string, number>();
    const ask = async (name: string) => {
      asked.set(name, Date.now());
      return await server.askForRun(name);
    };
    const footprint = await footprintDuring(
      { home, pid: server.pid },
      inTime(how === 'at-once' ? atOnce() : inARow(), lab.signal()),
    );
    const rows = JSON.parse(await lab.kiln(['--json', 'runs', 'list'], { home })) as readonly RunRow[];
    const begun = asked.get(names[0]!)!;
    const since = (time: string | number) => (new Date(time).getTime() - begun) / 1000;
    const runs: QueuedRun[] = [];
    for (const name of names) {
      const row = rows.find(each => each.name === name)!;
      runs.push({
        asked: since(asked.get(name)!),
        started: since(await begunAt(home, row.id)),
        ended: since(row.endedAt),
      });
    }
    return { ...footprint, seconds: Math.max(...runs.map(({ ended }) => ended)), runs };

    async function inARow() {
      for (const name of names) await (await ask(name)).succeeded;
    }
    async function atOnce() {
      // One request after the other, all within a second: an order that can be kept.
      const runs: AskedRun[] = [];
      for (const name of names) runs.push(await ask(name));
      await Promise.all(runs.map(({ succeeded }) => succeeded));
    }
  } finally {
    await server.stop();
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface RunRow {
  readonly id: string;
  readonly name: string;
  readonly endedAt: string;
}

/** When a worker took the run (ms): that is when its log is made. `startedAt` of a run is when it was asked for. */
const begunAt = async (home: string, id: string): Promise<number> =>
  (await stat(join(home, 'logs', id, 'customization.log'))).birthtimeMs;

/** Rejects when the work has hung; the server that it waits for is ended next. */
async function inTime(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => over.reject(signal.reason), { once: true });
  await Promise.race([work, over.promise]);
}
