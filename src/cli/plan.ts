/** `kiln plan`: what building a template would do. Scripts and files are fetched, since their content counts; nothing else is. */
import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import { formatId, LOCAL_SUBSCRIPTION } from '../arm/ids.ts';
import { ago } from '../builds/layers/age.ts';
import { planOf } from '../builds/layers/plan.ts';
import { sourceContent } from '../builds/sources/platform-image.ts';
import { download } from '../images/catalogue/download.ts';
import { buildRequest } from '../providers/image-builder/build-request.ts';
import { prepareTemplate } from '../providers/image-builder/prepare.ts';
import { sourceOf } from '../providers/image-builder/source-image.ts';
import { TEMPLATE_TYPE } from '../providers/image-builder/validate.ts';
import type { StoredResource } from '../providers/store.ts';
import type { Service } from '../service.ts';
import { collect } from './build.ts';
import { type CheckedTemplateFile, checkTemplateFile, MACHINE_WORDS, machineFor } from './checked-template.ts';
import { examples, type GlobalOptions, globalOptions } from './command.ts';
import { expectedTimes } from './expected-times.ts';
import { withService } from './session.ts';
import { duration, paint, printable, table } from './terminal.ts';

interface PlanOptions {
  readonly set: Record<string, string>;
  readonly machine?: string;
}

export function register(command: Command): void {
  command
    .argument('<template>', 'file with the JSON of an image template')
    .option('--set <name=value>', 'fill the placeholder <name>; as often as needed', collect, {})
    .addOption(new Option('--machine <kind>', 'as of `kiln build`').choices(MACHINE_WORDS))
    .action(async (file: string, options: PlanOptions) => plan(file, options, globalOptions(command)));
  examples(command, [
    ['kiln plan t.json', 'what would run, what is stored, how long it takes'],
    ['kiln plan t.json --json', 'the same for machines, with whole keys'],
  ]);
}

async function plan(file: string, options: PlanOptions, global: GlobalOptions): Promise<void> {
  const checked = await checkTemplateFile(file, options.set);
  await withService(global, async service => {
    const machine = machineFor(checked, options.machine);
    const resource = await unstored(checked, service);
    const environment = { ...service.environment, database: service.database.kysely };
    const request = await buildRequest(resource, randomUUID(), environment, {
      ...{ catalogue: undefined, local: true, machine, planned: true },
    });
    const image = await (await sourceOf(checked.template, environment)).known();
    const planned = await planOf(request, image && sourceContent(image));
    const times = await expectedTimes(service.database.kysely, planned, machine);
    const phases = planned.map((phase, index) => ({ ...phase, expectedSeconds: times[index]! }));
    const known = phases.every(({ expectedSeconds }) => expectedSeconds !== null);
    const total = phases.reduce((sum, { expectedSeconds }) => sum + (expectedSeconds ?? 0), 0);
    if (global.json) {
      const shown = { machine: request.shape, phases, expectedSeconds: known ? total : null };
      process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
      return;
    }
    const rows = phases.map(({ kind, name, key, cached, madeAt, expectedSeconds }) => [
      kind,
      printable(name),
      key?.slice(0, 12) ?? '',
      cached ? paint('cyan', 'CACHED') : 'runs',
      madeAt === undefined ? '' : `made ${ago(madeAt)}`,
      expectedSeconds === null ? 'unknown' : expectedSeconds === 0 ? '' : duration(expectedSeconds * 1000),
    ]);
    process.stdout.write(table([['PHASE', '', 'KEY', '', '', 'EXPECTED'], ...rows], { right: [5] }));
    process.stdout.write(
      total === 0 && !known
        ? '\nHow long it takes is not known: nothing like it was built here yet.\n'
        : `\nExpected in all: ${known ? '' : 'more than '}${duration(total * 1000)}, by earlier runs.\n`,
    );
  });
}

/** The template as it would be stored. */
async function unstored(checked: CheckedTemplateFile, { home }: Service): Promise<StoredResource> {
  const { template } = await prepareTemplate(checked.template, {
    files: home.files,
    download: (url, { onProgress: _, ...options }) => download(url, { ...options, allowFile: true, allowLocal: true }),
  });
  const id = formatId({
    ...{ subscription: LOCAL_SUBSCRIPTION, resourceGroup: 'kiln', type: TEMPLATE_TYPE, names: [checked.name] },
  });
  const now = new Date();
  const { apiVersion, location, tags, properties } = template;
  return {
    ...{ id, type: TEMPLATE_TYPE, name: checked.name, apiVersion, location, tags, etag: '' },
    ...{ properties: { ...properties }, createdAt: now, changedAt: now },
  } as unknown as StoredResource;
}
