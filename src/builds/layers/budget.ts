/** How much the layers may take, and which go first when it is more. */
import { statfs } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import type { LayerStore, StoredLayer } from './store.ts';

const GIB = 1024 ** 3;
const MOST = 20 * GIB;
const DAY = 24 * 3600 * 1000;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: GIB, T: 1024 * GIB };

/** `40GiB`, `500M`, `1.5T`, or bytes. Errors: UsageError, which begins with `what` takes the size. */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?$/i.exec(text.trim());
  if (match) return Math.floor(Number(match[1]) * UNITS[match[2]!.toUpperCase()]!);
  throw new KilnError('UsageError', `${what} takes a size such as 40GiB, not "${text}".`);
}

/** What KILN_CACHE_BUDGET says. Errors: UsageError; whoever starts anything asks first, since a build that comes to it later could do without layers only. */
export function askedBudget(env: NodeJS.ProcessEnv = process.env): number | undefined {
  return env.KILN_CACHE_BUDGET ? parseSize(env.KILN_CACHE_BUDGET, 'KILN_CACHE_BUDGET') : undefined;
}

/** KILN_CACHE_BUDGET, else 20 GiB, or a tenth of the file system where that is less. */
export async function layerBudget(directory: string, env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const asked = askedBudget(env);
  if (asked !== undefined) return asked;
  const { blocks, bsize } = await statfs(directory);
  return Math.min(MOST, Math.floor((blocks * bsize) / 10));
}

export interface PruneOptions {
  /** Bytes that may stay. */
  readonly budget?: number;
  /** Layers that were last used before this go whatever the budget is. */
  readonly usedBefore?: Date;
  readonly now?: Date;
}

/**
 * The layers to be removed, in this order: least recently used first, but those that others stand on after these. So what stays is of use as it is.
 */
export function chosenToGo(layers: readonly StoredLayer[], options: PruneOptions): StoredLayer[] {
  const { budget = Number.POSITIVE_INFINITY, usedBefore = new Date(0), now = new Date() } = options;
  const left = new Set(layers);
  let total = layers.reduce((sum, layer) => sum + layer.allocated, 0);
  const gone: StoredLayer[] = [];
  // The clock was wrong when it was used, and nobody knows when that was. It must not outlive all that comes from now on.
  const used = ({ usedAt }: StoredLayer) => (usedAt.getTime() > now.getTime() + DAY ? 0 : usedAt.getTime());
  const oldest = () => {
    const parents = new Set([...left].map(({ parent }) => parent));
    return [...left]
      .filter(({ id }) => !parents.has(id))
      .reduce<StoredLayer | undefined>((a, b) => (a && used(a) <= used(b) ? a : b), undefined);
  };
  for (let layer = oldest(); layer && (total > budget || used(layer) < usedBefore.getTime()); layer = oldest()) {
    left.delete(layer);
    total -= layer.allocated;
    gone.push(layer);
  }
  return gone;
}

/** @returns what was removed */
export async function prune(store: LayerStore, options: PruneOptions): Promise<StoredLayer[]> {
  await store.sweep();
  const gone = chosenToGo(await store.list(), options);
  for (const { key } of gone) await store.remove(key);
  return gone;
}
