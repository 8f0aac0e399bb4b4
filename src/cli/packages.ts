/** Installing Debian packages with apt-get: one moving line for people, the whole log where it fails. */
import { spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { KilnError } from '../arm/errors.ts';
import { type Display, openDisplay } from './display.ts';

export interface InstallOptions {
  /** What makes a command root's: nothing for root, `sudo`, `sudo -n`. */
  readonly asRoot: readonly string[];
  readonly signal?: AbortSignal;
}

interface AptRun extends InstallOptions {
  readonly display: Display;
  readonly label: string;
  readonly log: NodeJS.WritableStream;
}

/**
 * Installs packages and what they depend on, without recommended ones. Fetches the package lists first where there are
 * none, and once more where the install fails with the lists at hand. Rejects with ToolMissing, which names the log.
 */
export async function installPackages(packages: readonly string[], options: InstallOptions): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'kiln-apt-'));
  const path = join(directory, 'apt.log');
  const log = createWriteStream(path);
  const display = openDisplay();
  const update = () => apt(['update'], { ...options, display, label: 'Fetching package lists', log });
  const install = () =>
    apt(['install', '--yes', '--no-install-recommends', ...packages], {
      ...options,
      display,
      label: `Installing ${packages.join(', ')}`,
      log,
    });
  let failed = true;
  try {
    if (!haveLists()) await update();
    else if ((await install()) === 0) {
      failed = false;
      return;
    } else await update();
    failed = (await install()) !== 0;
  } finally {
    display.done(failed ? 'failed' : 'done');
    await new Promise<void>(resolve => log.end(resolve));
    if (!failed) rmSync(directory, { recursive: true, force: true });
  }
  if (failed)
    throw new KilnError('ToolMissing', `apt-get could not install ${packages.join(', ')}.`, {
      target: path,
      hint: 'Read that log; check the network and /etc/apt/sources.list, then run this again.',
    });
}

function haveLists(): boolean {
  try {
    return readdirSync('/var/lib/apt/lists').some(name => name.includes('_Packages'));
  } catch {
    return false;
  }
}

/** Runs apt-get in the terminal's own process group, so that sudo may ask for a password and Ctrl-C means both. */
async function apt(args: readonly string[], run: AptRun): Promise<number> {
  run.signal?.throwIfAborted();
  run.display.step(run.label);
  const line = [
    ...run.asRoot,
    ...['env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C.UTF-8'],
    ...['apt-get', '-q', '-o', 'APT::Status-Fd=1', '-o', 'DPkg::Lock::Timeout=600', ...args],
  ];
  run.log.write(`$ ${line.join(' ')}\n`);
  const child = spawn(line[0]!, line.slice(1), { stdio: ['inherit', 'pipe', 'pipe'] });
  const stop = () => child.kill('SIGTERM');
  run.signal?.addEventListener('abort', stop, { once: true });
  createInterface({ input: child.stdout }).on('line', text => {
    const percent = statusPercent(text);
    if (percent === undefined) run.log.write(`${text}\n`);
    else run.display.progress({ label: run.label, done: percent, total: 100, unit: 'steps' });
  });
  createInterface({ input: child.stderr }).on('line', text => run.log.write(`${text}\n`));
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', status => resolve(status ?? 1));
    });
    run.signal?.throwIfAborted();
    return code;
  } finally {
    run.signal?.removeEventListener('abort', stop);
  }
}

/** apt's status lines, `dlstatus:…` and `pmstatus:PACKAGE:PERCENT:…`, on one scale: fetching is the first half. */
export function statusPercent(line: string): number | undefined {
  const match = /^(dlstatus|pmstatus):[^:]*(?::[^:]+)?:(\d+(?:\.\d+)?):/.exec(line);
  if (match === null) return undefined;
  const half = Number(match[2]) / 2;
  return Math.round(match[1] === 'dlstatus' ? half : 50 + half);
}
