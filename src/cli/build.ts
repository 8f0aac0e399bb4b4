import { type Command, Option } from 'commander';
import { KilnError } from '../arm/errors.ts';
import { formatId, LOCAL_SUBSCRIPTION } from '../arm/ids.ts';
import { parseAge } from '../builds/layers/age.ts';
import { checkStep } from '../builds/layers/choice.ts';
import { ON_ERROR } from '../providers/image-builder/on-error.ts';
import type { CacheWish } from '../providers/image-builder/step-cache.ts';
import { TEMPLATE_TYPE } from '../providers/image-builder/validate.ts';
import { checkTemplateFile, MACHINE_WORDS, machineFor } from './checked-template.ts';
import { examples, type GlobalOptions, globalOptions } from './command.ts';
import { openDisplay } from './display.ts';
import { interruptible } from './interrupt.ts';
import { type ErrorOptions, errorWish } from './on-error.ts';
import { ensureRequirements } from './requirements.ts';
import { withService } from './session.ts';
import { paint } from './terminal.ts';

export interface BuildOptions extends ErrorOptions {
  readonly set: Record<string, string>;
  readonly name?: string;
  readonly resourceGroup: string;
  readonly subscription: string;
  readonly strict?: boolean;
  readonly catalogue?: string;
  readonly machine?: string;
  readonly cache: boolean;
  readonly fresh?: string;
  readonly from?: string;
  readonly maxAge?: string;
}

export function register(command: Command): void {
  command
    .argument('<template>', 'file with the JSON of an image template')
    .option('--set <name=value>', 'fill the placeholder <name>; as often as needed', collect, {})
    .option('--name <name>', "the template's name (default: its `name`, or its directory's or file's)")
    .option('-g, --resource-group <name>', 'where the template belongs', 'kiln')
    .option('--subscription <id>', 'whose it is', LOCAL_SUBSCRIPTION)
    .option('--strict', 'refuse, instead of making, what the template names and nobody has made')
    .option('--catalogue <file>', 'entries that say which disk stands behind a source, before all others')
    .addOption(
      new Option('--machine <kind>', 'where it is built; template: as its tag kiln.machine says (default: vm)').choices(
        MACHINE_WORDS,
      ),
    )
    .option('--no-cache', 'run everything, and store nothing')
    .option(
      '--fresh <step>',
      'run this step (number, name, or such as `generalize`) and what follows, whatever is stored',
    )
    .option('--from <step>', 'the same, but only if everything before it is stored')
    .option('--max-age <age>', 'run steps again that ran longer ago, such as 1d, 12h (default: none is too old)')
    .addOption(
      new Option(
        '--on-error <what>',
        'when a step fails, its machine is ended, or kept to be looked into (default: ask at a terminal, else clean)',
      ).choices(ON_ERROR),
    )
    .option('--keep-for <time>', 'how long it is kept: 30m, 2h (default: 1h)')
    .action(async (file: string, options: BuildOptions) => build(file, options, globalOptions(command)));
  examples(command, [
    ['kiln build examples/hello-linux/template.json', 'build, prove that it boots, publish'],
    ['kiln build t.json --set region=westus2 --set rgName=images', 'fill <region> and <rgName>'],
    ['kiln build t.json --machine container', 'without a VM, in seconds: for templates that you vouch for'],
    ['kiln build t.json --fresh install', 'the step "install" and what follows, though nothing changed'],
    ['kiln build t.json --on-error keep', 'wait beside the machine of a failed step; prints how to get in'],
    ['kiln build t.json --json > report.json', 'the outcome for machines, progress on standard error'],
  ]);
}

/** Takes one more `--set name=value`. */
export function collect(pair: string, all: Record<string, string>): Record<string, string> {
  const at = pair.indexOf('=');
  if (at < 1) throw new KilnError('UsageError', `--set takes name=value, not "${pair}".`);
  return { ...all, [pair.slice(0, at)]: pair.slice(at + 1) };
}

function cacheWish({ cache: use, fresh, from, maxAge }: BuildOptions): CacheWish {
  if (fresh !== undefined && from !== undefined)
    throw new KilnError('UsageError', '--fresh and --from exclude each other.');
  const [without] = Object.entries({ fresh, from, 'max-age': maxAge }).find(([, value]) => value !== undefined) ?? [];
  if (!use && without !== undefined) throw new KilnError('UsageError', `--no-cache leaves nothing for --${without}.`);
  return {
    use,
    ...(fresh !== undefined && { fresh }),
    ...(from !== undefined && { from }),
    ...(maxAge !== undefined && { maxAge: parseAge(maxAge, '--max-age') }),
  };
}

async function build(file: string, options: BuildOptions, global: GlobalOptions): Promise<void> {
  const wish = cacheWish(options);
  const onError = errorWish(options, global);
  const checked = await checkTemplateFile(file, options.set);
  const step = wish.from ?? wish.fresh;
  if (step !== undefined) checkStep(checked.template.properties.customize, step);
  await ensureRequirements('build', global);
  const machine = machineFor(checked, options.machine);
  if (machine === 'container') await ensureRequirements('container', global);
  const display = openDisplay(process.stderr);
  for (const warning of checked.warnings) display.line(`${paint('yellow', 'warning:', process.stderr)} ${warning}`);
  const id = formatId({
    subscription: options.subscription,
    resourceGroup: options.resourceGroup,
    type: TEMPLATE_TYPE,
    names: [options.name ?? checked.name],
  });
  const say = () =>
    display.line('Canceling; the machine is stopped and nothing more is published. Once more ends Kiln at once.');
  await interruptible(
    signal =>
      withService(
        global,
        async (service, { buildHere }) =>
          buildHere({ service, id, checked, options, machine, wish, onError, global, display, signal }),
        () => import('./build-here.ts'),
      ),
    say,
  );
}
