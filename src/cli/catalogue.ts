/** `kiln catalogue`: which disk stands behind publisher:offer:sku, and which of them are here. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { contentText } from '../disks/content.ts';
import { openHome } from '../home.ts';
import { refreshPlatformImage, resolvePlatformImage } from '../images/catalogue/acquire.ts';
import { type CatalogueEntry, formatName, imageName } from '../images/catalogue/entries.ts';
import { catalogue } from '../images/catalogue/lookup.ts';
import { userCatalogue } from '../providers/image-builder/source-image.ts';
import { examples, globalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { interruptible } from './interrupt.ts';
import { ensureRequirements } from './requirements.ts';
import { table } from './terminal.ts';

export function register(command: Command): void {
  const lister = command
    .command('list')
    .description('All entries: the built-in ones and those of catalogue.json in the state directory.')
    .option('--catalogue <file>', 'entries of this file as well')
    .action(async (options: { catalogue?: string }) => {
      const { json, home: at } = globalOptions(lister);
      const home = await openHome({ home: at });
      const userEntries = await userCatalogue({
        home,
        ...(options.catalogue && { catalogue: resolve(options.catalogue) }),
      });
      const rows = [];
      for (const entry of catalogue(userEntries)) {
        const { exactVersion } = await resolvePlatformImage(
          { ...entry, version: 'latest' },
          { cacheDirectory: home.sources, userEntries },
        );
        rows.push({
          name: formatName(entry),
          generation: entry.hyperVGeneration,
          origin: originOf(entry),
          here: exactVersion,
        });
      }
      if (json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
      else
        process.stdout.write(
          table([
            ['IMAGE', 'GEN', 'HERE', 'FROM'],
            ...rows.map(row => [row.name, row.generation, row.here ?? '-', row.origin]),
          ]),
        );
    });
  const refresh = command
    .command('refresh')
    .description('Look for a newer version of an image: bootstrapped ones are made anew, published ones downloaded.')
    .argument('<image>', 'publisher:offer:sku')
    .option('--force', 'make one even when today’s is there')
    .action(async (name: string, options: { force?: boolean }) => {
      const global = globalOptions(refresh);
      if (!/^[^:]+:[^:]+:[^:]+$/.test(name))
        throw new KilnError('UsageError', `${name} is not publisher:offer:sku.`, {
          hint: '`kiln catalogue list` shows the names.',
        });
      await ensureRequirements('build', global);
      const home = await openHome({ home: global.home });
      const display = openDisplay();
      display.step(name);
      try {
        const userEntries = await userCatalogue({ home });
        const image = await interruptible(signal =>
          refreshPlatformImage(
            { ...imageName(name), version: 'latest' },
            {
              cacheDirectory: home.sources,
              userEntries,
              signal,
              force: options.force ?? false,
              report: line => display.line(line),
              onProgress: progress => display.progress(progress),
            },
          ),
        );
        display.done();
        if (global.json) process.stdout.write(`${JSON.stringify(image, null, 2)}\n`);
        else process.stdout.write(`${image.name}\n  ${image.disk.path}\n  ${contentText(image)}\n`);
      } catch (error) {
        display.done('failed');
        throw error;
      }
    });
  examples(command, [
    ['kiln catalogue list', 'what a source may name, and what is here already'],
    ['kiln catalogue refresh Debian:debian-12:12-gen2', 'make today’s version of it'],
  ]);
}

function originOf({ origin }: CatalogueEntry): string {
  switch (origin.kind) {
    case 'bootstrap':
      return `packages of ${origin.distribution} ${origin.release}`;
    case 'published':
      return origin.checksums.replace(/[^/]*$/, origin.file);
    case 'url':
      return origin.url;
    case 'file':
      return origin.path;
    case 'sibling':
      return `the disk of ${origin.sku}`;
  }
}
