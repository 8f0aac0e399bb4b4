/** `kiln cache warm`: boots a source once, so that the next builds go on from there. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { errorFromBody, KilnError } from '../arm/errors.ts';
import { REGIONS } from '../arm/locations.ts';
import { ago } from '../builds/layers/age.ts';
import { openLayerStore } from '../builds/layers/store.ts';
import { warmStartOf } from '../builds/layers/warm-start.ts';
import { chosenMachine } from '../providers/image-builder/machine-choice.ts';
import {
  WARM_KIND,
  WARM_SECONDS,
  type WarmInput,
  type WarmOutput,
  warmInput,
} from '../providers/image-builder/warm.ts';
import { collect } from './build.ts';
import { outcome } from './build-here.ts';
import { checkTemplateFile } from './checked-template.ts';
import { type GlobalOptions, globalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { interruptible } from './interrupt.ts';
import { ensureRequirements } from './requirements.ts';
import { withService } from './session.ts';
import { duration, paint } from './terminal.ts';

interface WarmOptions {
  readonly set: Record<string, string>;
  readonly size?: string;
  readonly osDiskSize?: string;
  readonly catalogue?: string;
}

export function registerWarm(command: Command): void {
  const warm = command
    .command('warm')
    .description('Boot a source ahead of time: builds of it go on from there instead of booting.')
    .argument('<source>', 'publisher:offer:sku[:version], or the file of a template')
    .option('--set <name=value>', "fill the template's placeholder <name>; as often as needed", collect, {})
    .option('--size <size>', "the machine's Azure size (default: the template's, or that of builds that name none)")
    .addOption(new Option('--os-disk-size <GiB>', "the disk's size (default: the template's, or the source's)"))
    .option('--catalogue <file>', 'entries that say which disk stands behind a source, before all others')
    .action(async (source: string, options: WarmOptions) => makeWarm(source, options, globalOptions(warm)));
}

async function makeWarm(shown: string, options: WarmOptions, global: GlobalOptions): Promise<void> {
  const input = await inputOf(shown, options);
  await ensureRequirements('build', global);
  const display = openDisplay(process.stderr);
  await interruptible(
    signal =>
      withService(global, async service => {
        const { engine, database, home } = service;
        const id = await database.kysely.transaction().execute(trx =>
          engine.submit(trx, {
            ...{ kind: WARM_KIND, resourceId: null, input, where: 'here', timeoutSeconds: WARM_SECONDS },
          }),
        );
        service.listeners.set(id, {
          phase: (index, phases) => display.step(`${phases[index]!.kind}: ${phases[index]!.name}`),
          line: ({ text }) => display.line(paint('dim', text, process.stderr)),
          progress: progress => display.progress(progress),
        });
        const ended = await outcome(engine, id, signal, () => engine.cancel(id));
        display.done(ended.status === 'Succeeded' ? 'done' : 'failed');
        if (ended.status !== 'Succeeded') throw errorFromBody(ended.error!);
        await conclude(ended.output as WarmOutput, home.cache, global);
      }),
    () => display.line('Canceling; the machine is stopped and nothing is kept. Once more ends Kiln at once.'),
  );
}

async function inputOf(shown: string, { set, size, osDiskSize, catalogue }: WarmOptions): Promise<WarmInput> {
  const asked = {
    ...(size !== undefined && { vmSize: size }),
    ...(osDiskSize !== undefined && { osDiskSizeGB: wholeGiB(osDiskSize) }),
    ...(catalogue !== undefined && { catalogue: resolve(catalogue) }),
  };
  const isFile = await stat(shown).then(
    () => true,
    () => false,
  );
  const [publisher, offer, sku, version = 'latest', ...more] = shown.split(':');
  if (!isFile && publisher && offer && sku && more.length === 0) {
    const source = { type: 'PlatformImage' as const, publisher, offer, sku, version };
    // Images of the catalogue are of no region.
    return { template: { location: REGIONS[0]!.name, source }, vmSize: '', osDiskSizeGB: 0, ...asked };
  }
  if (!isFile)
    throw new KilnError('UsageError', `"${shown}" is neither the file of a template nor publisher:offer:sku.`, {
      hint: '`kiln catalogue list` shows the sources.',
    });
  const { template } = await checkTemplateFile(shown, set);
  if (chosenMachine(template, { policy: 'template' }) === 'container')
    throw new KilnError(
      'NotSupported',
      'The template is built in a container, which does not boot: it needs no warm start.',
      {
        target: shown,
      },
    );
  return { ...warmInput(template), ...asked };
}

function wholeGiB(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new KilnError('UsageError', `--os-disk-size takes whole GiB, not "${text}".`);
}

async function conclude({ key, made }: WarmOutput, cache: string, { json }: GlobalOptions): Promise<void> {
  const store = await openLayerStore(cache);
  const layer = (await store.list()).find(one => one.key === key);
  if (!layer) throw new KilnError('Conflict', 'The warm start was made, and removed at once by somebody else.');
  const { name, madeAt, seconds, allocated } = layer;
  const warmStart = warmStartOf(layer);
  if (json) {
    const shown = {
      key,
      made,
      name,
      ...warmStart,
      madeAt,
      seconds,
      bytes: allocated,
      path: join(store.directory, key),
    };
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    return;
  }
  const what = `The warm start of ${warmStart?.source.name ?? name} (${name})`;
  process.stdout.write(
    made
      ? `${what} is there; builds of this source and size save ${duration(seconds * 1000)}.\n`
      : `${what} is there already, made ${ago(madeAt)}.\n`,
  );
}
