/** bench/RESULTS.md: the machine, what was to be reached and whether it was, and every figure behind it. */
import { cpus, release, totalmem } from 'node:os';
import { run } from '../src/processes/process.ts';
import type { Case, Samples } from './cases.ts';
import type { Report } from './lab.ts';
import { median, type ServiceFigures } from './measure.ts';
import { BUILDS, type Queue, type QueueFigures, WORKERS } from './queue.ts';
import { type Sample, SUBJECTS, type SubjectName } from './subjects.ts';

/** All that was found so far. */
export interface Findings {
  readonly cases: readonly Case[];
  readonly rounds: number;
  readonly machine: Report['machine'];
  readonly versions: readonly string[];
  readonly samples: { [Name in SubjectName]?: Sample[] };
  /** Why something has no figure, by its name. */
  readonly missing: Map<string, string>;
  queue?: Queue;
  /** Seconds. */
  proof?: number | undefined;
  service?: ServiceFigures;
  complete?: boolean;
}

const MIB = 1024 ** 2;
const fixed = (value: number) => value.toFixed(1);
const mib = (count: number) => (count / MIB).toFixed(0);

/** One line of each program that takes part; those that are not installed are not among them. */
export async function versions(): Promise<string[]> {
  const lines = [
    ['qemu-system-x86_64', '--version'],
    ['packer', 'version'],
    ['virt-customize', '--version'],
    ['mkosi', '--version'],
  ].map(async ([program, argument]) => {
    const found = await run(program!, [argument!]).catch(() => undefined);
    return found && found.stdout.split('\n')[0]!.trim();
  });
  return [...(await Promise.all(lines)).filter(line => line !== undefined), `Node ${process.version}`];
}

export function render(findings: Findings): string {
  const { machine, rounds } = findings;
  const parts = [
    `# Results

Written by \`bench/run.ts\` on ${new Date().toISOString().slice(0, 10)}; ${rounds} interleaved round${rounds === 1 ? '' : 's'}, medians.${findings.complete ? '' : ' **Not complete: it was interrupted, or is still going on.**'}

${cpus()[0]?.model.trim()}, ${cpus().length} processors, ${(totalmem() / 1024 ** 3).toFixed(0)} GiB, Linux ${release()}; accelerator ${machine.accelerator},
guest ${machine.model} with ${machine.processors} processors and ${machine.memoryMiB} MiB.
${findings.versions.join('; ')}.

The job: apt-get update, install nginx-light, three small lines; a fixed VHD out. Same base disk, processors and memory for all, boot proof off. Kiln also
generalizes and hashes; the others do neither. Packer runs the lines as one provisioner, also where Kiln has five steps. Each measurement begins with what it
may read (programs, base disk, layers, database) in the page cache, and with nothing to be written.`,
    goals(findings),
    times(findings.samples),
    phases(findings.samples),
    notMeasured(findings.missing),
    ...(findings.queue ? [queue(findings.queue)] : []),
    `## Beside them: Azure VM Image Builder

Measured on Azure, in recorded exchanges of 2020 to 2024 with the service (not repeated here, and on other machines): 35 s to create a template, 8.5 to 16.5 minutes to run one with a script
or a few, 79 to 139 s to delete it.`,
    ...(findings.proof === undefined ? [] : [`The boot proof, when it is on, takes ${fixed(findings.proof)} s more.`]),
    ...(findings.service ? [service(findings.service)] : []),
  ];
  return `${parts.filter(part => part !== '').join('\n\n')}\n`;
}

function goals({ cases, samples }: Findings): string {
  const rows = cases.flatMap(each =>
    each.rows(samples).map(row => {
      const outcome = row.reached ? 'reached' : '**missed**';
      return `| ${each.title} | ${row.what} | ${row.figure} | ${row.target} | ${outcome} |`;
    }),
  );
  return [
    '## What was to be reached',
    '',
    '| case | what | figure | target | |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function times(samples: Samples): string {
  const rows = SUBJECTS.flatMap(({ name, title }) => {
    const all = samples[name] ?? [];
    if (all.length === 0) return [];
    const seconds = all.map(sample => sample.seconds);
    const written = median(all.map(({ bytesWritten }) => bytesWritten));
    const scripts = all.flatMap(sample => (sample.scripts?.length ? [sample.scripts.reduce((a, b) => a + b, 0)] : []));
    return `| ${title} | ${fixed(median(seconds))} | ${seconds.map(fixed).join(', ')} | ${scripts.length > 0 ? fixed(median(scripts)) : ''} | ${mib(written)} |`;
  });
  const head = "| | seconds, median | each round | the scripts' own time in the guest | MiB written |";
  return ['## Times', '', head, '|---|---|---|---|---|', ...rows].join('\n');
}

/** Of Kiln's builds, in the order of the phases; steps are one column. */
function phases(samples: Samples): string {
  const kinds = ['boot', 'customize', 'generalize', 'capture', 'distribute'];
  const rows = SUBJECTS.flatMap(({ name, title }) => {
    const reports = (samples[name] ?? []).flatMap(({ report }) => report ?? []);
    if (reports.length === 0) return [];
    const cells = kinds.map(kind => {
      const of = (report: Report) => report.phases.filter(phase => phase.kind === kind);
      const taken = of(reports[0]!).every(({ cached }) => cached);
      return taken
        ? 'stored'
        : fixed(median(reports.map(each => of(each).reduce((sum, { seconds }) => sum + seconds, 0))));
    });
    const rest = median(
      (samples[name] ?? []).map(
        ({ seconds, report }) => seconds - report!.phases.reduce((sum, phase) => sum + phase.seconds, 0),
      ),
    );
    return `| ${title} | ${cells.join(' | ')} | ${fixed(rest)} |`;
  });
  if (rows.length === 0) return '';
  const head = `| seconds, medians | ${kinds.join(' | ')} | between and around them |`;
  return ["## Kiln's phases", '', head, `|${'---|'.repeat(kinds.length + 2)}`, ...rows].join('\n');
}

function notMeasured(missing: ReadonlyMap<string, string>): string {
  if (missing.size === 0) return '';
  return ['## Not measured', '', ...[...missing].map(([name, reason]) => `- ${name}: ${reason}`)].join('\n');
}

function queue({ atOnce, inARow }: Queue): string {
  const waits = (figures: QueueFigures) => figures.runs.map(({ asked, started }) => started - asked);
  const each = (figures: QueueFigures) =>
    figures.runs.map(({ started, ended }) => `${fixed(started)}–${fixed(ended)}`).join(', ');
  const row = (what: string, of: (figures: QueueFigures) => string) => `| ${what} | ${of(atOnce)} | ${of(inARow)} |`;
  // First come, first served: nobody is overtaken. Two that are taken in the same second come in any order.
  const inOrder = atOnce.runs.every(({ started }, at) => at === 0 || started >= atOnce.runs[at - 1]!.started - 1);
  return `## ${BUILDS} builds queued, container machine

Through the API of one server, the same job with another last line each; asked for all at once of ${WORKERS} workers, and each when the one before has ended of one worker.

| | ${BUILDS} at once, ${WORKERS} workers | in a row |
|---|---|---|
${row('seconds until the last has ended', ({ seconds }) => fixed(seconds))}
${row('longest wait for a worker, seconds', figures => fixed(Math.max(...waits(figures))))}
${row('longest build, seconds', ({ runs }) => fixed(Math.max(...runs.map(({ started, ended }) => ended - started))))}
${row('peak memory of all processes (proportional set sizes), MiB', ({ memory }) => mib(memory))}
${row('peak of the state directory, MiB', ({ disk }) => mib(disk))}
${row('from–to of each, seconds', each)}

${inOrder ? 'All succeeded, and started in the order in which they were asked for: none starved.' : 'All succeeded; **some were overtaken**.'}`;
}

function service({ startSeconds, starts, node, postgres }: ServiceFigures): string {
  return `## The service

| | |
|---|---|
| \`kiln runs list\` on an existing state directory, database stopped | ${startSeconds.toFixed(2)} s, median of ${starts} |
| resident memory of an idle process with the state directory open | ${mib(node)} MiB |
| its PostgreSQL (proportional set size) | ${mib(postgres)} MiB |`;
}
