/** `kiln images`: what was built here; copied out, checked, booted, removed. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { KilnError } from '../arm/errors.ts';
import type { DiskFormat } from '../disks/qemu-img.ts';
import { openHome } from '../home.ts';
import { dataDisksOf } from '../images/data-disks.ts';
import { exportImage, find, list, remove, type StoredImage } from '../images/store.ts';
import { capped, sizeOf } from '../machines/sizes.ts';
import { examples, globalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { registerVerify } from './images-verify.ts';
import { interruptible } from './interrupt.ts';
import { ensureRequirements } from './requirements.ts';
import { bytes, table } from './terminal.ts';

const IMAGE = 'name, run output or resource id of an image, or its beginning';
const location = () => new Option('-l, --location <region>', 'the replica in this region');

export function register(command: Command): void {
  const lister = command
    .command('list')
    .description('Images, by region.')
    .addOption(location())
    .action(async (options: { location?: string }) => {
      const { json, home } = globalOptions(lister);
      const images = await list((await openHome({ home })).root, options);
      if (json) print(images.map(({ manifest, path }) => ({ ...manifest, path })));
      else
        process.stdout.write(
          images.length === 0 ? 'No image was built here yet.\n' : table([HEAD, ...images.map(row)], { right: [4] }),
        );
    });
  const show = command
    .command('show')
    .description('One image: its manifest, and where its disk lies.')
    .argument('<image>', IMAGE)
    .addOption(location())
    .action(async (name: string, options: { location?: string }) => {
      const { json, home } = globalOptions(show);
      const { manifest, path } = await find((await openHome({ home })).root, name, options);
      if (json) print({ ...manifest, path });
      else process.stdout.write(table(Object.entries({ ...manifest, path }).map(([key, value]) => [key, text(value)])));
    });
  registerExport(command);
  registerVerify(command);
  const remover = command
    .command('remove')
    .description('Remove an image: this replica only, and its files only; the record of its run stays.')
    .argument('<image>', IMAGE)
    .addOption(location())
    .action(async (name: string, options: { location?: string }) => {
      const { root } = await openHome({ home: globalOptions(remover).home });
      const image = await find(root, name, options);
      const dataDisks = dataDisksOf(await list(root), image);
      await remove(image);
      for (const { stored } of dataDisks) await remove(stored);
      process.stderr.write(`Removed ${image.manifest.name} from ${image.manifest.location}.\n`);
    });
  registerRun(command);
  examples(command, [
    ['kiln images list', 'what was built here'],
    ['kiln images export hello-vhd --format qcow2 -o hello.qcow2', 'a copy in another format'],
    ['kiln images export hello-image --disk 0', 'its data disk at LUN 0'],
    ['kiln images run hello-vhd', 'boot a throw-away copy, with a console'],
  ]);
}

interface ExportOptions {
  readonly location?: string;
  readonly disk?: string;
  readonly format?: DiskFormat;
  readonly output?: string;
}

/** @param lun as typed. Errors: NotFound, which names the disks that there are. */
async function diskOf(root: string, image: StoredImage, lun: string | undefined): Promise<StoredImage> {
  if (lun === undefined) return image;
  const disks = dataDisksOf(await list(root), image);
  const found = disks.find(disk => String(disk.lun) === lun);
  if (found) return found.stored;
  throw new KilnError('NotFound', `${image.manifest.name} has no data disk at LUN ${lun}.`, {
    target: image.manifest.id,
    hint: disks.length === 0 ? 'It has no data disks.' : `It has those at LUN ${disks.map(one => one.lun).join(', ')}.`,
  });
}

function registerExport(command: Command): void {
  const exporter = command
    .command('export')
    .description('Copy an image out, sparse; a file that is there is replaced when the copy is complete.')
    .argument('<image>', IMAGE)
    .addOption(location())
    .option('--disk <lun>', 'the data disk at this unit, instead of the disk of the system')
    .addOption(new Option('-f, --format <format>', 'of the copy').choices(['vhd', 'qcow2', 'raw']))
    .option('-o, --output <file>', 'where to (default: its name here, with the extension of the format)')
    .action(async (name: string, options: ExportOptions) => {
      const global = globalOptions(exporter);
      await ensureRequirements('images export', global);
      const { root } = await openHome({ home: global.home });
      const image = await diskOf(root, await find(root, name, options), options.disk);
      const format = options.format ?? image.manifest.format;
      const to = resolve(
        options.output ?? `${image.manifest.name.replaceAll(/[ /]/g, '-').replaceAll(/[()]/g, '')}.${format}`,
      );
      if ((await stat(to).catch(() => undefined))?.isDirectory())
        throw new KilnError('UsageError', `${to} is a directory.`, { hint: 'Name a file with --output.' });
      const display = openDisplay();
      display.step(`${image.manifest.name} → ${to}`);
      try {
        await interruptible(signal =>
          exportImage(image, {
            format,
            to,
            signal,
            onProgress: share =>
              display.progress({ label: format, done: Math.round(share * 100), total: 100, unit: 'steps' }),
          }),
        );
        display.done();
      } catch (error) {
        display.done('failed');
        throw error;
      }
      if (global.json) print({ image: image.manifest.id, format, path: to });
    });
}

function registerRun(command: Command): void {
  const runner = command
    .command('run')
    .description('Boot a throw-away copy of an image and hand over its console; the image stays as it is.')
    .argument('<image>', IMAGE)
    .addOption(location())
    .action(async (name: string, options: { location?: string }) => {
      const global = globalOptions(runner);
      await ensureRequirements('images run', global);
      const home = await openHome({ home: global.home });
      const image = await find(home.root, name, options);
      const { runConsole } = await import('../machines/qemu/console.ts');
      const { manifest, path } = image;
      const { processors, memoryMiB } = capped(sizeOf('', manifest.hyperVGeneration)!);
      await runConsole({
        disk: { path, format: manifest.format },
        dataDisks: dataDisksOf(await list(home.root), image).map(({ lun, stored }) => ({
          lun,
          disk: { path: stored.path, format: stored.manifest.format },
        })),
        firmware: manifest.firmware,
        processors,
        memoryMiB: Math.min(memoryMiB, 2048),
        directory: home.runs,
        cacheFile: join(home.cache, 'accelerator.json'),
        report: line => void process.stderr.write(`${line}\n`),
      });
    });
}

const HEAD = ['NAME', 'KIND', 'REGION', 'BUILT', 'SIZE', 'RUN OUTPUT'];

function row({ manifest }: StoredImage): string[] {
  return [
    manifest.name,
    manifest.kind,
    manifest.location,
    manifest.createdAt.slice(0, 19).replace('T', ' '),
    bytes(manifest.allocatedSize),
    manifest.runOutputName ?? '',
  ];
}

const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
