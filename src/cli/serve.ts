/** `kiln serve`: the API for az, the SDKs, Terraform and curl, and the builds that are asked for there. */
import { hostname } from 'node:os';
import { type Command, Option } from 'commander';
import { KilnError } from '../arm/errors.ts';
import type { ServiceLog } from '../database/service-log.ts';
import { administratorFile, ensureAdministrator } from '../directory/administrator.ts';
import { openDirectory } from '../directory/directory.ts';
import type { Home } from '../home.ts';
import { openRoles } from '../providers/authorization/open-roles.ts';
import { MACHINE_POLICIES, type MachinePolicy } from '../providers/image-builder/machine-choice.ts';
import { KEPT_AT_ONCE } from '../providers/image-builder/on-error.ts';
import { DEFAULT_TRIGGER_INTERVAL, startTriggers } from '../providers/image-builder/triggers-schedule.ts';
import { startWarming } from '../providers/image-builder/warm-schedule.ts';
import { ensureSubscription } from '../providers/resources/subscriptions.ts';
import { openTls } from '../server/certificates.ts';
import { type AnsweredRequest, startServer } from '../server/server.ts';
import { openService } from '../service.ts';
import { examples, type GlobalOptions, globalOptions } from './command.ts';
import { onInterrupt } from './interrupt.ts';
import { ensureRequirements } from './requirements.ts';
import { removeServerFile, requireNoServer, writeServerFile } from './server-file.ts';
import { paint, printable } from './terminal.ts';

/** Operations at a time that are no builds: creations, which mostly wait for downloads, and deletions. */
const SHORT_OPERATIONS = 8;

interface ServeOptions {
  readonly host: string;
  readonly port: string;
  readonly origin?: string;
  readonly workers: string;
  readonly triggerInterval: string;
  readonly revise?: boolean;
  readonly allowLocalDownloads?: boolean;
  readonly strict?: boolean;
  readonly warm: boolean;
  readonly machine: MachinePolicy;
  readonly keep: string;
  readonly subscription: readonly string[];
}

export function register(command: Command): void {
  command
    .option('--host <address>', 'where to listen; 0.0.0.0 for all addresses of this host', '127.0.0.1')
    .option('-p, --port <number>', 'of the host; 0 for any that is free', '8443')
    .option('--origin <url>', 'what clients call the server, when that is not its address: https://kiln.example.org')
    .option('--workers <count>', 'builds at a time; 0 leaves them to other processes on the same database', '1')
    .option(
      '--trigger-interval <seconds>',
      'how often the sources of triggers are looked at',
      String(DEFAULT_TRIGGER_INTERVAL),
    )
    .option('--revise', 'let a PUT replace an image template that exists; Azure refuses it')
    .option('--allow-local-downloads', "let templates fetch scripts and files from this host's own addresses")
    .option('--no-warm', 'do not boot the sources of templates ahead of their builds while nothing is built')
    .option('--strict', 'refuse resources of types that Kiln does not know, instead of keeping them as they are')
    .addOption(
      new Option('--machine <kind>', 'where builds run; containers are for templates that you vouch for')
        .choices(MACHINE_POLICIES)
        .default('vm', 'vm: virtual machines; template: as its tag kiln.machine says'),
    )
    .option(
      '--keep <count>',
      'machines of failed builds kept at a time, where a template says errorHandling abort; each for an hour',
      String(KEPT_AT_ONCE),
    )
    .addOption(
      new Option('--subscription <id>', 'a subscription to have, besides the local one; as often as needed')
        .default([], 'none')
        .argParser((id: string, all: readonly string[]) => [...all, id]),
    )
    .action(async (options: ServeOptions) => serve(options, globalOptions(command)));
  examples(command, [
    ['kiln serve', 'on the loopback; in another terminal: eval "$(./kiln env)"'],
    ['kiln serve --host 0.0.0.0 --workers 2', 'for other hosts, two builds at a time'],
    ['kiln serve -v', 'with a line for each request'],
  ]);
}

async function serve(options: ServeOptions, global: GlobalOptions): Promise<void> {
  const port = wholeNumber(options.port, '--port', 0, 65_535);
  const builds = wholeNumber(options.workers, '--workers', 0, 256);
  const keptMachines = wholeNumber(options.keep, '--keep', 0, 64);
  const intervalSeconds = wholeNumber(options.triggerInterval, '--trigger-interval', 1, 86_400);
  const named = options.origin === undefined ? undefined : originOf(options.origin);
  await ensureRequirements('serve', global);
  const stopping = Promise.withResolvers<void>();
  const stopListening = onInterrupt(() => {
    if (!global.json)
      process.stderr.write('\nStopping; builds go on at the next start. Once more ends Kiln at once.\n');
    stopping.resolve();
  });
  await using stack = new AsyncDisposableStack();
  stack.defer(stopListening);
  const log = serverLog(global.verbose);
  const service = await openService({
    home: global.home,
    log,
    options: {
      reviseTemplates: options.revise === true,
      localDownloads: options.allowLocalDownloads === true,
      strict: options.strict === true,
      machines: options.machine,
      keptMachines,
    },
  });
  stack.defer(() => service.close());
  const { home, database, environment } = service;
  await requireNoServer(home);
  for (const id of options.subscription) await ensureSubscription(database.kysely, id);
  const isFirst = await ensureAdministrator(home, database);
  const tls = await openTls(home, { hosts: [options.host, ...(named ? [named.hostname] : [])] });
  let origin = named?.origin ?? '';
  const directory = await openDirectory({ home, database, log, origin: () => origin });
  stack.defer(() => directory.close());
  const roles = await openRoles(database, log);
  stack.defer(() => roles.close());
  const server = await startServer({
    host: options.host,
    port,
    tls,
    environment,
    directory,
    roles,
    log,
    ...(named && { origin: named.origin }),
    ...(global.verbose && { onAnswer: sayRequest }),
  }).catch(error => {
    throw listenError(error, options);
  });
  stack.defer(() => server.close());
  origin = server.origin;
  await writeServerFile(home, { origin, ca: tls.caPath, startedAt: new Date().toISOString() });
  stack.defer(() => removeServerFile(home));
  await service.engine.serve({ concurrency: SHORT_OPERATIONS, builds });
  const triggers = startTriggers({ environment, intervalSeconds });
  stack.defer(() => triggers.close());
  // Where nothing is built, or nothing boots, it would be of no use.
  const warms = options.warm && builds > 0 && options.machine !== 'container';
  if (warms) {
    const warming = startWarming({ environment });
    stack.defer(() => warming.close());
  }
  say({ origin, home, isFirst, builds, warms }, global);
  await stopping.promise;
}

interface Served {
  readonly origin: string;
  readonly home: Home;
  readonly isFirst: boolean;
  readonly builds: number;
  readonly warms: boolean;
}

function say({ origin, home, isFirst, builds, warms }: Served, global: GlobalOptions): void {
  const administrator = administratorFile(home);
  if (global.json) {
    process.stdout.write(`${JSON.stringify({ origin, pid: process.pid, home: home.root, administrator })}\n`);
    return;
  }
  const bold = (text: string) => paint('bold', text, process.stderr);
  const where = global.home === undefined ? '' : ` --home ${quoted(home.root)}`;
  process.stderr.write(
    [
      `Kiln serves ${bold(origin)} from ${home.root}, ${builds === 0 ? 'no builds here' : builds === 1 ? 'one build at a time' : `${builds} builds at a time`}.`,
      ...(warms
        ? ['While nothing is built, it boots the sources of templates ahead of their builds (--no-warm).']
        : []),
      ...(isFirst ? [`Made the first administrator; its credentials are in ${administrator}.`] : []),
      `In another terminal:  ${bold(`eval "$(./kiln${where} env)"`)}  and then, for example:  az image builder list`,
      'Ctrl-C stops it.',
      '',
    ].join('\n'),
  );
}

const quoted = (path: string) => (/^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

/** The operator's log: what went wrong always, what happened with -v, everything when somebody debugs. */
function serverLog(verbose: boolean): ServiceLog {
  const shown = new Set(['error', 'warning', ...(verbose ? ['info'] : [])]);
  return (level, message, fields) => {
    if (!shown.has(level) && process.env.KILN_DEBUG !== '1') return;
    process.stderr.write(`${JSON.stringify({ at: new Date().toISOString(), level, message, ...fields })}\n`);
  };
}

/** Never the query: it may carry signatures. */
function sayRequest({ method, path, status, milliseconds, caller }: AnsweredRequest): void {
  const time = new Date().toISOString().slice(11, 23);
  process.stderr.write(
    `${time} ${method} ${printable(path)} ${status} ${Math.round(milliseconds)} ms${caller === undefined ? '' : ` ${printable(caller)}`}\n`,
  );
}

function wholeNumber(text: string, option: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new KilnError('UsageError', `${option} takes a whole number from ${least} to ${most}, not "${text}".`);
}

function originOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'https:' && url.pathname === '/' && url.search === '' && url.username === '') return url;
  throw new KilnError('UsageError', `--origin takes a URL such as https://kiln.example.org:8443, not "${text}".`);
}

function listenError(error: NodeJS.ErrnoException, { host, port }: ServeOptions): unknown {
  const at = `${host}:${port}`;
  const failed = (message: string, hint: string) => new KilnError('ListenFailed', message, { hint, cause: error });
  switch (error.code) {
    case 'EADDRINUSE':
      return failed(
        `Another program listens at ${at} already.`,
        'It may be the server of another state directory. Choose another --port; 0 takes any that is free.',
      );
    case 'EACCES':
      return failed(`This user may not listen at ${at}.`, 'Ports below 1024 are for root; choose another --port.');
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return failed(
        `This host has no address ${host}.`,
        `Take one of its own with --host, or 0.0.0.0 for all; its name is ${hostname()}.`,
      );
    default:
      return error;
  }
}
