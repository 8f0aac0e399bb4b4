/** `kiln cache`: what is kept between builds: layers of their steps, and source images. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { ago, parseAge } from '../builds/layers/age.ts';
import { askedBudget, layerBudget, parseSize, prune } from '../builds/layers/budget.ts';
import { type LayerStore, openLayerStore, type StoredLayer } from '../builds/layers/store.ts';
import { openHome } from '../home.ts';
import { type KeptSource, keptSources, removeSource } from '../images/catalogue/cached-sources.ts';
import { registerWarm } from './cache-warm.ts';
import { examples, globalOptions } from './command.ts';
import { bytes, printable, table } from './terminal.ts';

interface Cache {
  readonly store: LayerStore;
  readonly layers: readonly StoredLayer[];
  readonly sources: readonly KeptSource[];
}

async function open(home: string | undefined): Promise<Cache> {
  askedBudget();
  const { cache, sources } = await openHome({ home });
  const store = await openLayerStore(cache);
  const layers = (await store.list()).sort((a, b) => b.usedAt.getTime() - a.usedAt.getTime());
  return { store, layers, sources: await keptSources(sources) };
}

export function register(command: Command): void {
  const list = command
    .command('list')
    .description('Layers, last used first, and source images.')
    .action(async () => {
      const { json, home } = globalOptions(list);
      const { layers, sources, store } = await open(home);
      if (json)
        return print({ layers: layers.map(layer => shownLayer(layer, store)), sources: sources.map(shownSource) });
      const rows = [
        ...layers.map(layer => [
          layer.key.slice(0, 12),
          printable(layer.name),
          ago(layer.madeAt),
          since(layer),
          size(layer),
        ]),
        ...sources.map(source => ['source', source.name, ago(source.madeAt), since(source), size(source)]),
      ];
      process.stdout.write(
        rows.length === 0
          ? 'Nothing is kept yet.\n'
          : table([['LAYER', '', 'MADE', 'USED', 'SIZE'], ...rows], { right: [4] }),
      );
    });
  const du = command
    .command('du')
    .description('How much is kept, and how much of layers may be.')
    .action(async () => {
      const { json, home } = globalOptions(du);
      const { layers, sources, store } = await open(home);
      const budget = await layerBudget(store.directory);
      const facts = {
        layers: { count: layers.length, bytes: sum(layers), budget },
        sources: { count: sources.length, bytes: sum(sources) },
      };
      if (json) return print(facts);
      process.stdout.write(
        table([
          ['layers', String(layers.length), bytes(sum(layers)), `of ${bytes(budget)} (KILN_CACHE_BUDGET)`],
          ['source images', String(sources.length), bytes(sum(sources)), 'without a limit'],
        ]),
      );
    });
  registerPrune(command);
  registerWarm(command);
  examples(command, [
    ['kiln cache list', 'what builds can start from'],
    ['kiln cache prune --older-than 7d', 'layers and source images that no build used for a week'],
    ['kiln cache prune --budget 10GiB', 'layers, least recently used first, until 10 GiB are left'],
    ['kiln cache prune --all', 'everything'],
    ['kiln cache warm Debian:debian-12:12-gen2', 'boot it now, so that the next builds need not'],
    ['kiln cache warm t.json', 'the source and the machine of a template'],
  ]);
}

function registerPrune(command: Command): void {
  const pruner = command
    .command('prune')
    .description('Remove layers beyond the budget; builds that go on keep what they use.')
    .option('--older-than <age>', 'and layers and source images that were last used before, such as 7d, 12h, 30m')
    .option('--budget <size>', 'how much of layers may stay (default: KILN_CACHE_BUDGET, or what `kiln cache du` says)')
    .option('--all', 'all layers and source images')
    .action(async (options: { olderThan?: string; budget?: string; all?: boolean }) => {
      const { json, home } = globalOptions(pruner);
      if (options.all && (options.olderThan ?? options.budget) !== undefined)
        throw new KilnError('UsageError', '--all leaves nothing for --older-than or --budget.');
      const usedBefore =
        options.olderThan === undefined
          ? undefined
          : new Date(Date.now() - parseAge(options.olderThan, '--older-than') * 1000);
      const asked = options.budget === undefined ? undefined : parseSize(options.budget, '--budget');
      const { store, sources } = await open(home);
      const budget = options.all ? -1 : (asked ?? (await layerBudget(store.directory)));
      const gone = await prune(store, { budget, ...(usedBefore && { usedBefore }) });
      const old = sources.filter(({ usedAt }) => options.all || (usedBefore && usedAt < usedBefore));
      for (const source of old) await removeSource(source);
      if (json) return print({ layers: gone.map(layer => shownLayer(layer, store)), sources: old.map(shownSource) });
      process.stderr.write(
        `Removed ${count(gone, 'layer')} (${bytes(sum(gone))}) and ${count(old, 'source image')} (${bytes(sum(old))}).\n`,
      );
    });
}

const sum = (all: readonly { readonly allocated: number }[]) =>
  all.reduce((total, { allocated }) => total + allocated, 0);
const count = (all: readonly unknown[], what: string) => `${all.length} ${what}${all.length === 1 ? '' : 's'}`;
const size = ({ allocated }: { readonly allocated: number }) => bytes(allocated);
const since = ({ usedAt }: { readonly usedAt: Date }) => ago(usedAt.toISOString());
const shownLayer = ({ key, name, runId, madeAt, usedAt, seconds, allocated }: StoredLayer, store: LayerStore) => ({
  ...{ key, name, runId, madeAt, usedAt, seconds, bytes: allocated },
  path: join(store.directory, key),
});
const shownSource = ({ name, directory, madeAt, usedAt, allocated }: KeptSource) => ({
  ...{ name, madeAt, usedAt, bytes: allocated, path: directory },
});
const print = (value: unknown) => void process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
