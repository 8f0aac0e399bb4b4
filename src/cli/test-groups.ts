/** The groups of tests that `kiln test` runs, one after the other, each as a `node --test` of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KilnError } from '../arm/errors.ts';
import { duration, paint, table } from './terminal.ts';
import { failuresOf, type TestFailure } from './test-failures.ts';

export interface TestGroup {
  readonly name: 'checks' | 'unit' | 'boot' | 'chaos' | 'clients';
  /** Test files at a time. Guests have one processor or two, and wait as much as they compute: two files at a time keep two processors busy. */
  readonly concurrency: number;
  /** A single test that takes longer has hung. Milliseconds. */
  readonly timeout: number;
  /** The whole group has hung: a file whose tests are over may still hold the runner up. Milliseconds. */
  readonly limit: number;
}

const MINUTE = 60_000;

export const GROUPS: readonly TestGroup[] = [
  { name: 'checks', concurrency: 1, timeout: 0, limit: 5 * MINUTE },
  { name: 'unit', concurrency: 2, timeout: 4 * MINUTE, limit: 20 * MINUTE },
  { name: 'boot', concurrency: 2, timeout: 20 * MINUTE, limit: 60 * MINUTE },
  { name: 'chaos', concurrency: 2, timeout: 10 * MINUTE, limit: 35 * MINUTE },
  { name: 'clients', concurrency: 2, timeout: 25 * MINUTE, limit: 50 * MINUTE },
];

export interface SelectedGroup {
  readonly group: TestGroup;
  /** Paths from the root of the checkout; empty for `checks`. */
  readonly files: readonly string[];
}

interface GroupResult {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly milliseconds: number;
  /** Of tests; the type check and the linter print theirs. */
  readonly failures: readonly TestFailure[];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The files of a group, sorted. `unit` has all that lie in no other group's folder of test/. */
export function testFiles(group: TestGroup, filter = ''): string[] {
  if (group.name === 'checks') return [];
  const others = GROUPS.filter(other => other.name !== 'unit').map(other => `test/${other.name}/`);
  const all =
    group.name === 'unit'
      ? globSync(['src/**/*.test.ts', 'test/**/*.test.ts'], { cwd: ROOT }).filter(
          path => !others.some(other => path.startsWith(other)),
        )
      : globSync(`test/${group.name}/**/*.test.ts`, { cwd: ROOT });
  return all.filter(path => path.includes(filter)).sort();
}

/** Runs the groups, prints what they print and a summary. Resolves with whether everything passed. */
export async function runTests(groups: readonly SelectedGroup[]): Promise<boolean> {
  if (!existsSync(join(ROOT, 'tsconfig.json')))
    throw new KilnError('UsageError', 'Tests run in a checkout of the sources, not in an installed package.', {
      hint: 'Clone the repository and run ./kiln test there.',
    });
  const scratch = await scratchDirectory();
  const active = new Set<ChildProcess>();
  let interrupted = false;
  // The terminal sends SIGINT to the children as well; SIGTERM is ours alone to pass on.
  const stop = () => {
    interrupted = true;
    for (const child of active) child.kill('SIGTERM');
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const env = await environment(scratch);
    const results: GroupResult[] = [];
    for (const { group, files } of groups) {
      if (interrupted) break;
      if (group.name === 'checks') results.push(...(await checks(env, active)));
      else if (files.length > 0) results.push(await testGroup(group, files, scratch, env, active));
    }
    process.stdout.write(summary(results));
    if (interrupted) throw new KilnError('Canceled', 'The tests were interrupted.');
    return results.every(result => result.failed === 0);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Room for homes and disks, which /tmp may not have. Other users (QEMU's, PostgreSQL's) have to pass through it. */
async function scratchDirectory(): Promise<string> {
  const directory = await mkdtemp(join(process.env.TMPDIR || '/var/tmp', 'kiln-test-'));
  await chmod(directory, 0o711);
  return directory;
}

/** A home of this run's own; a cache that outlives it, since preparing a source image takes minutes. */
async function environment(scratch: string): Promise<NodeJS.ProcessEnv> {
  const user = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const cache = process.env.KILN_CACHE || (process.getuid?.() === 0 ? '/var/cache/kiln' : join(user, 'kiln'));
  await mkdir(cache, { recursive: true });
  const home = join(scratch, 'home');
  await mkdir(home, { mode: 0o711 });
  const path = `${join(ROOT, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}`;
  return { ...process.env, KILN_CACHE: cache, KILN_HOME: home, PATH: path };
}

async function checks(env: NodeJS.ProcessEnv, active: Set<ChildProcess>): Promise<GroupResult[]> {
  const results: GroupResult[] = [];
  for (const [name, ...args] of [
    ['tsc', '--noEmit'],
    ['biome', 'check'],
  ] as const) {
    heading(`${name} ${args.join(' ')}`);
    const started = Date.now();
    const passed = (await execute(name, args, env, active)) === 0;
    results.push({
      name,
      passed: Number(passed),
      failed: Number(!passed),
      skipped: 0,
      milliseconds: Date.now() - started,
      failures: [],
    });
  }
  return results;
}

async function testGroup(
  { name, concurrency, timeout, limit }: TestGroup,
  files: readonly string[],
  scratch: string,
  env: NodeJS.ProcessEnv,
  active: Set<ChildProcess>,
): Promise<GroupResult> {
  heading(`${name} tests`);
  const report = join(scratch, `${name}.tap`);
  const started = Date.now();
  const code = await execute(
    process.execPath,
    [
      ...['--test', `--test-concurrency=${concurrency}`, `--test-timeout=${timeout}`],
      ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
      ...['--test-reporter=tap', `--test-reporter-destination=${report}`],
      ...files,
    ],
    env,
    active,
    limit,
  );
  const said = await readFile(report, 'utf8').catch(() => '');
  const lines = totals(said);
  process.stdout.write(`${lines.join('\n')}\n`);
  const count = (word: string) => Number(lines.find(line => line.startsWith(`# ${word} `))?.split(' ')[2] ?? 0);
  const failed = count('fail') + count('cancelled');
  return {
    name,
    passed: count('pass'),
    // The runner's own exit code counts, whatever its totals say: it may have been killed.
    failed: code === 0 ? failed : Math.max(1, failed),
    skipped: count('skipped') + count('todo'),
    milliseconds: Date.now() - started,
    failures: failuresOf(said),
  };
}

/** The runner's closing lines in a TAP report: `# tests 12`, `# pass 12`, `# fail 0` … */
export function totals(report: string): string[] {
  const words = ['tests', 'suites', 'pass', 'fail', 'cancelled', 'skipped', 'todo', 'duration_ms'];
  const tail = report.trimEnd().split('\n').slice(-words.length);
  return tail.filter(line => words.includes(line.split(' ')[1] ?? '') && line.startsWith('# '));
}

function heading(text: string): void {
  process.stdout.write(`\n${paint('bold', `== ${text}`)}\n`);
}

async function execute(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  active: Set<ChildProcess>,
  limit = 5 * MINUTE,
): Promise<number> {
  const child = spawn(program, args, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] });
  active.add(child);
  const hung = setTimeout(() => {
    process.stdout.write(`\n${paint('red', `Stopped: not finished after ${duration(limit)}.`)}\n`);
    child.kill('SIGTERM');
  }, limit);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', code => resolve(code ?? 1));
    });
  } finally {
    clearTimeout(hung);
    active.delete(child);
  }
}

function summary(results: readonly GroupResult[]): string {
  const total = results.reduce(
    (sum, result) => ({
      name: 'total',
      passed: sum.passed + result.passed,
      failed: sum.failed + result.failed,
      skipped: sum.skipped + result.skipped,
      milliseconds: sum.milliseconds + result.milliseconds,
    }),
    { name: 'total', passed: 0, failed: 0, skipped: 0, milliseconds: 0 },
  );
  const rows = [...results, total].map(({ name, passed, failed, skipped, milliseconds }) => [
    name,
    ...[passed, failed, skipped].map(String),
    duration(milliseconds),
  ]);
  const verdict = total.failed === 0 ? paint('green', 'All passed.') : paint('red', `${total.failed} failed.`);
  const failures = results.flatMap(result => result.failures).map(failureText);
  return `${failures.join('')}\n${table([['group', 'passed', 'failed', 'skipped', 'time'], ...rows], { right: [1, 2, 3, 4] })}${verdict}\n`;
}

function failureText({ name, location, lines }: TestFailure): string {
  return `\n${paint('red', `✖ ${name}`)}  ${location}\n${lines.map(line => `    ${line}\n`).join('')}`;
}
