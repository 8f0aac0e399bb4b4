/** `kiln runs`: what was built and is being built, phase by phase. */
import type { Command } from 'commander';
import { KilnError } from '../arm/errors.ts';
import type { PhaseRow, RunOutputRow, RunRow } from '../database/schema.ts';
import { contentText } from '../disks/content.ts';
import { examples, globalOptions } from './command.ts';
import {
  cancel,
  drop,
  findRun,
  keptOf,
  listRuns,
  outputsOf,
  phasesOf,
  reportOf,
  type ShownRun,
  savedSeconds,
} from './run-rows.ts';
import { withService } from './session.ts';
import { bytes, duration, paint, printable, renderError, table } from './terminal.ts';

export function register(command: Command): void {
  const list = command
    .command('list')
    .description('Runs, newest first.')
    .option('-n, --limit <count>', 'how many', '20')
    .action(async (options: { limit: string }) => {
      const { json } = globalOptions(list);
      const limit = Number(options.limit);
      if (!Number.isInteger(limit) || limit < 1)
        throw new KilnError('UsageError', `--limit takes a whole number from 1, not ${options.limit}.`);
      const runs = await withService(globalOptions(list), ({ database }) => listRuns(database.kysely, limit));
      if (json)
        process.stdout.write(
          `${JSON.stringify(
            runs.map(run => reportOf(run)),
            null,
            2,
          )}\n`,
        );
      else process.stdout.write(runs.length === 0 ? 'Nothing was built here yet.\n' : table([HEAD, ...runs.map(row)]));
    });
  const show = command
    .command('show')
    .description('One run: its phases with their times, its outputs, and why it failed.')
    .argument('<run>', 'id of a run, or its beginning; `latest` for the newest')
    .action(async (id: string) => {
      const { json } = globalOptions(show);
      await withService(globalOptions(show), async ({ database: { kysely } }) => {
        const run = await findRun(kysely, id);
        const [phases, outputs] = [await phasesOf(kysely, run.id), await outputsOf(kysely, run.id)];
        if (json) process.stdout.write(`${JSON.stringify(reportOf(run, phases, outputs), null, 2)}\n`);
        else process.stdout.write(renderRun(run, phases) + renderOutputs(outputs));
      });
    });
  const stop = command
    .command('cancel')
    .description('End a run: its machine is stopped, nothing is published.')
    .argument('<run>', 'id of a run, or its beginning')
    .action(async (id: string) => {
      await withService(globalOptions(stop), async service => cancel(service, id));
      process.stderr.write('The run is being canceled.\n');
    });
  const again = command
    .command('retry')
    .description('Distribute the image of a run to the targets that it did not reach; nothing is built.')
    .argument('<run>', 'id of the newest run of a template, or its beginning; `latest` for the newest of all')
    .action(async (id: string) => {
      const { retryRun } = await import('./runs-retry.ts');
      await retryRun(id, globalOptions(again));
    });
  const end = command
    .command('drop')
    .description('End the machine of a failed run that was kept (kiln build --on-error keep, errorHandling abort).')
    .argument('<run>', 'id of a run, or its beginning; `latest` for the newest')
    .action(async (id: string) => {
      await withService(globalOptions(end), async service => drop(service, id));
      process.stderr.write('The machine is gone.\n');
    });
  examples(command, [
    ['kiln runs list', 'the newest twenty'],
    ['kiln runs show latest', 'phases and times of the newest'],
    ['kiln runs show 3f2a --json', 'the same for machines'],
    ['kiln runs cancel 3f2a', 'end it'],
    ['kiln runs retry 3f2a', 'distribute again to the targets that failed'],
    ['kiln runs drop 3f2a', 'end the machine that was kept when it failed'],
  ]);
}

const HEAD = ['RUN', 'TEMPLATE', 'STATE', 'STARTED', 'TIME'];

function row(run: RunRow): string[] {
  return [run.id.slice(0, 8), run.template_name, stateOf(run), when(run.started_at ?? run.created_at), took(run)];
}

function stateOf(run: RunRow): string {
  const kept = keptOf(run);
  if (kept) return `${run.state} (machine kept until ${kept.until.slice(11, 16)}Z)`;
  return run.sub_state ? `${run.state} (${run.sub_state})` : run.state;
}

const when = (date: Date) => date.toISOString().slice(0, 19).replace('T', ' ');
const took = (row: Pick<RunRow, 'started_at' | 'ended_at'>) =>
  row.started_at ? duration((row.ended_at?.getTime() ?? Date.now()) - row.started_at.getTime()) : '';

/** Everything about a run, as text. */
export function renderRun(run: ShownRun, phases: readonly PhaseRow[]): string {
  const kept = keptOf(run);
  const saved = savedSeconds(phases);
  const head = table([
    ['run', run.id],
    ['template', run.display_id ?? run.template_id],
    ['state', stateOf(run)],
    ['started', when(run.started_at ?? run.created_at)],
    ['time', took(run)],
    ...(saved > 0 ? [['saved', `${duration(saved * 1000)}, by stored layers`]] : []),
    ...(kept
      ? [
          ['machine', `kept until ${when(run.kept_until!)}Z; ${kept.drop} ends it`],
          ['', kept.command],
        ]
      : []),
  ]);
  const failure = run.error && run.state !== 'Succeeded' ? `\n${renderError(errorOf(run), process.stdout)}` : '';
  return `${head}\n${renderPhases(phases)}${failure}`;
}

/** The table at the end of a build: phase, state, time, bytes. */
export function renderPhases(phases: readonly PhaseRow[]): string {
  const rows = phases.map(phase => [
    phase.kind,
    printable(phase.name),
    phase.cached ? paint('cyan', 'CACHED') : phase.state,
    phase.started_at && phase.ended_at ? duration(phase.ended_at.getTime() - phase.started_at.getTime()) : '',
    phase.bytes === null ? '' : bytes(phase.bytes),
  ]);
  return table([['PHASE', '', 'STATE', 'TIME', 'BYTES'], ...rows], { right: [3, 4] });
}

/** What a run published, where it lies and what its bytes hash to. A later run of the template takes over a run output. */
export function renderOutputs(outputs: readonly RunOutputRow[]): string {
  return outputs
    .map(output =>
      [
        `\n  ${paint('bold', output.name)}  ${output.artifact_id ?? output.artifact_uri}`,
        `    ${output.path === null ? '' : `${output.path}  `}(${bytes(output.bytes ?? 0)} of ${bytes(output.virtual_size ?? 0)})`,
        `    ${contentText(output)}`,
        '',
      ].join('\n'),
    )
    .join('');
}

function errorOf(run: RunRow): KilnError {
  const { code, message, target, hint } = run.error!;
  return new KilnError(code, message, { ...(target && { target }), ...(hint && { hint }) });
}
