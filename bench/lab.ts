/** Where it is measured: a directory that is gone afterwards, with a state directory and a cache of layers that nobody else uses. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { acquirePlatformImage } from '../src/images/catalogue/acquire.ts';
import type { SourceImage } from '../src/images/source.ts';
import { run } from '../src/processes/process.ts';
import { cacheDirectory } from '../test/kiln.ts';
import { deprovisionSeconds, type JobTemplate, SOURCE, scriptSeconds, templateOf } from './job.ts';
import { type Measured, type MeasureOptions, measure, programDirectories } from './measure.ts';

export const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'src/cli/main.ts');
const FRAME = {
  type: 'Microsoft.VirtualMachineImages/imageTemplates',
  apiVersion: '2024-02-01',
  location: 'westeurope',
  identity: { type: 'None' },
};
/** What takes longer has hung (ms). */
const LIMIT = 15 * 60_000;

export interface Phase {
  readonly kind: string;
  readonly name: string;
  readonly seconds: number;
  readonly cached: boolean;
}

/** Of `kiln build --json`. */
export interface Report {
  readonly id: string;
  readonly seconds: number;
  readonly machine: { accelerator: string; model: string; processors: number; memoryMiB: number };
  readonly phases: readonly Phase[];
  readonly outputs: readonly { readonly path: string }[];
}

export interface Build extends Measured {
  readonly report: Report;
  /** Each script's own time in the guest (s), of those that ran. */
  readonly scripts: readonly number[];
  readonly deprovisioning: number;
}

export interface Lab extends AsyncDisposable {
  readonly directory: string;
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;
  readonly source: SourceImage;
  /** Of one measurement that begins now: it hangs, or somebody ends the whole. */
  signal(): AbortSignal;
  /** For one measurement that begins now. */
  options(env: NodeJS.ProcessEnv): MeasureOptions;
  /** Somebody ends the whole. */
  readonly interrupted: AbortSignal;
  /** `kiln build`; rejects when it fails or hangs. */
  build(template: JobTemplate, args: readonly string[]): Promise<Build>;
  /** Any other command of Kiln's; its standard output. `home`: another state directory. */
  kiln(args: readonly string[], options?: { readonly home?: string }): Promise<string>;
}

/** The source image is taken from the cache of this host (made there if it is not), everything else is new. */
export async function openLab(): Promise<Lab> {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-bench-'));
  // Other users' processes (a machine's own, PostgreSQL) must be able to pass through.
  await run('chmod', ['0711', directory]);
  const home = join(directory, 'home');
  const cache = join(directory, 'cache');
  const env = {
    ...process.env,
    KILN_CACHE: cache,
    NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/kiln'),
    NO_COLOR: '1',
  };
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new Error('interrupted'));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const signal = () => AbortSignal.any([interrupted.signal, AbortSignal.timeout(LIMIT)]);
  // The images that were made before are read by nobody.
  const reads = [cache, join(home, 'postgres'), join(ROOT, 'src'), join(ROOT, 'node_modules')];
  reads.push(...(await programDirectories()));
  const options = (env: NodeJS.ProcessEnv) => ({ env, signal: signal(), reads });
  const kiln: Lab['kiln'] = async (args, other = {}) => {
    const line = [MAIN, '--home', other.home ?? home, ...args];
    return (await run(process.execPath, line, { env, signal: AbortSignal.timeout(LIMIT) })).stdout;
  };
  const close = async () => {
    // A build that was killed leaves its database, and what it had mounted, to the next command.
    await kiln(['runs', 'list']).catch(() => {});
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const made = await acquirePlatformImage(SOURCE, {
      cacheDirectory: join(cacheDirectory(), 'sources'),
      report: console.error,
    });
    const folder = dirname(dirname(made.disk.path));
    await mkdir(join(cache, 'sources'), { recursive: true });
    await run('cp', ['-a', '--reflink=auto', folder, join(cache, 'sources')]);
    const source = await acquirePlatformImage(SOURCE, { cacheDirectory: join(cache, 'sources') });
    return {
      directory,
      home,
      env,
      source,
      signal,
      options,
      interrupted: interrupted.signal,
      kiln,
      build,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }

  async function build(template: JobTemplate, args: readonly string[]): Promise<Build> {
    const file = join(directory, 'template.json');
    await writeFile(file, JSON.stringify({ ...FRAME, ...templateOf(template) }));
    const line = [MAIN, '--home', home, '--json', 'build', file, '--name', `job-${template.steps}`, ...args];
    const measured = await measure([[process.execPath, line]], options(env));
    const { run: report } = JSON.parse(measured.stdout) as { run: Report };
    const log = await readFile(join(home, 'logs', report.id, 'customization.log'), 'utf8');
    return { ...measured, report, scripts: scriptSeconds(log), deprovisioning: deprovisionSeconds(log) };
  }
}

/** Seconds of all phases of a kind. */
export const phaseSeconds = (report: Report, kind: string): number =>
  report.phases.filter(phase => phase.kind === kind).reduce((sum, { seconds }) => sum + seconds, 0);
