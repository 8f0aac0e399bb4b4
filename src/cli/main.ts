#!/usr/bin/env node
/**
 * The command line. A command is one file that exports `register(command)` and one line in COMMANDS; the file is loaded
 * only when its name was typed, so that `kiln --help` stays fast whatever commands need.
 */
import { Command, CommanderError, Option } from 'commander';
import { asKilnError, EXIT_CODES, KilnError } from '../arm/errors.ts';
import { examples } from './command.ts';
import { systemPath } from './requirements.ts';
import { renderError, renderErrorJson } from './terminal.ts';
import { version } from './version.ts';

interface CommandEntry {
  readonly name: string;
  /** One line for `kiln --help`. */
  readonly summary: string;
  /** The file's `register` gets the command, named and described, and adds arguments, options, examples and the action. */
  readonly load: () => Promise<{ register(command: Command): void }>;
}

const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'build',
    summary: 'Build an image template: a bootable image, proven and published.',
    load: () => import('./build.ts'),
  },
  {
    name: 'plan',
    summary: 'What building a template would do: phases, what of them is stored, the expected time.',
    load: () => import('./plan.ts'),
  },
  {
    name: 'serve',
    summary: 'Serve the API of Azure VM Image Builder: az, the SDKs and Terraform work with it.',
    load: () => import('./serve.ts'),
  },
  {
    name: 'env',
    summary: 'What az and other clients need to know of the server: eval "$(./kiln env)".',
    load: () => import('./env.ts'),
  },
  { name: 'principal', summary: 'Who may sign in to the server.', load: () => import('./principal.ts') },
  {
    name: 'cache',
    summary: 'What is kept between builds: layers of their steps, source images.',
    load: () => import('./cache.ts'),
  },
  { name: 'runs', summary: 'What was built and is being built, phase by phase.', load: () => import('./runs.ts') },
  { name: 'logs', summary: 'The build log of a run.', load: () => import('./logs.ts') },
  { name: 'images', summary: 'Images that were built here: list, copy out, boot.', load: () => import('./images.ts') },
  {
    name: 'catalogue',
    summary: 'Which disk stands behind the source of a template.',
    load: () => import('./catalogue.ts'),
  },
  {
    name: 'doctor',
    summary: 'Say what builds need on this machine, and what is missing.',
    load: () => import('./doctor.ts'),
  },
  { name: 'test', summary: "Run Kiln's own checks and tests.", load: () => import('./test.ts') },
  { name: 'version', summary: 'Say which versions run.', load: () => import('./version.ts') },
];

async function main(argv: readonly string[]): Promise<number> {
  // Debian leaves the directories of sfdisk, mke2fs, nft and ip out of an ordinary user's PATH.
  process.env.PATH = systemPath();
  const separator = argv.indexOf('--');
  const typed = separator === -1 ? argv : argv.slice(0, separator);
  const json = typed.includes('--json');
  try {
    const program = await describe(typed);
    await program.parseAsync(argv, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (isGone(error)) return 0;
    if (error instanceof CommanderError && (error.exitCode === 0 || error.code === 'commander.help'))
      return error.exitCode === 0 ? 0 : EXIT_CODES.usage;
    return report(error instanceof CommanderError ? usageError(error, typed) : error, json);
  }
}

async function describe(typed: readonly string[]): Promise<Command> {
  const program = new Command('kiln')
    .description('Build real, bootable images from Azure VM Image Builder templates, on your own machine.')
    .version(version(), '-V, --version')
    .addOption(new Option('--home <directory>', 'the state directory').env('KILN_HOME'))
    .option('--json', 'answer in JSON, for machines')
    .option('-v, --verbose', 'show the build log and details')
    .option('-y, --yes', 'do what is needed without asking')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  examples(program, [
    ['kiln doctor --yes', 'install what is missing, say what is there'],
    ['kiln help doctor', 'what a command does and takes'],
  ]);
  for (const entry of COMMANDS) {
    const command = program.command(entry.name).description(entry.summary);
    if (typed.includes(entry.name)) (await entry.load()).register(command);
  }
  return program;
}

function usageError(error: CommanderError, typed: readonly string[]): KilnError {
  const command = COMMANDS.find(entry => typed.includes(entry.name));
  return new KilnError('UsageError', error.message.replace(/^error: /, ''), {
    hint: `See \`kiln ${command ? `${command.name} ` : ''}--help\`.`,
  });
}

function report(error: unknown, json: boolean): number {
  if (json) process.stdout.write(renderErrorJson(error));
  else process.stderr.write(renderError(error));
  return EXIT_CODES[asKilnError(error).class];
}

// The reader has gone (`kiln logs RUN | head`): nothing is left to say, and nothing was wrong. The command still cleans up.
const isGone = (error: unknown) => (error as NodeJS.ErrnoException).code === 'EPIPE';
for (const stream of [process.stdout, process.stderr])
  stream.on('error', error => {
    if (!isGone(error)) throw error;
  });

process.on('uncaughtException', error => process.exit(report(error, process.argv.includes('--json'))));

process.exitCode = await main(process.argv.slice(2));
