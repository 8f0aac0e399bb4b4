/** Layers give way to builds: where the file system runs full that a build writes to, those that nobody uses go, least recently used first. */
import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { asKilnError } from '../../arm/errors.ts';
import { run } from '../../processes/process.ts';
import { chosenToGo } from './budget.ts';
import type { LayerStore, StoredLayer } from './store.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
/** Where less than this is free, layers go until there is twice as much. */
const LOW = 2 * GIB;
const LOW_PART = 0.1;
/** A guest that writes as fast as a disk can does not get from one look to the next through what is left then. */
const EVERY_MS = 1000;

/**
 * Looks at once, and again and again until it is disposed. Does nothing where the layers lie on another file system.
 * @param directory where the build writes
 * @param say told in one sentence of what went
 */
export async function keepRoom(
  store: LayerStore,
  directory: string,
  say: (sentence: string) => void,
): Promise<AsyncDisposable> {
  let failed = false;
  const look = async () => {
    const gone = await makeRoom(store, directory);
    if (gone.length === 0) return;
    const freed = gone.reduce((sum, { allocated }) => sum + allocated, 0);
    say(
      `The disk runs full: ${gone.length} stored layers (${Math.round(freed / MIB)} MiB) that no build uses made room.`,
    );
  };
  const safely = () =>
    look().catch(error => {
      if (!failed) say(`Stored layers cannot make room on the disk: ${asKilnError(error).message}`);
      failed = true;
    });
  await safely();
  let last = Promise.resolve();
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    last = safely().finally(() => {
      looking = false;
    });
  }, EVERY_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await last;
    },
  };
}

/** @returns what was removed */
async function makeRoom(store: LayerStore, directory: string): Promise<StoredLayer[]> {
  const { bavail, blocks, bsize } = await statfs(directory);
  const low = Math.min(LOW, LOW_PART * blocks * bsize);
  if (bavail * bsize >= low || !(await areTogether(store.directory, directory))) return [];
  const isEnough = (free: number) => free >= 2 * low;
  const gone: StoredLayer[] = [];
  let freed = 0;
  /** Layers that what stays stands on. */
  const needed = new Set<string>();
  for (const layer of chosenToGo(await store.list(), { budget: -1 })) {
    if (needed.has(layer.id) || (await isHeld(store, layer))) {
      if (layer.parent !== undefined) needed.add(layer.parent);
      continue;
    }
    await store.remove(layer.key);
    gone.push(layer);
    freed += layer.allocated;
    if (isEnough(await freeIn(directory))) break;
    if (isEnough(bavail * bsize + freed)) {
      // btrfs shows what was freed when it next commits. The next look shall see it.
      await run('sync', ['--file-system', directory]);
      break;
    }
  }
  return gone;
}

async function freeIn(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

async function areTogether(one: string, other: string): Promise<boolean> {
  return (await stat(one)).dev === (await stat(other)).dev;
}

/** Some run, or a region, has names of its own for its files: removing these frees nothing. */
async function isHeld({ directory }: LayerStore, { key, files }: StoredLayer): Promise<boolean> {
  const found = await Promise.all(files.map(({ name }) => stat(join(directory, key, name)).catch(() => undefined)));
  return found.some(file => file !== undefined && file.nlink > 1);
}
