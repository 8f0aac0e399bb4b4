/** What `kiln build` does in an open state directory: the template made, its run watched, and how it went told. */
import { resolve } from 'node:path';
import { asKilnError, ERRORS, EXIT_CODES, errorBody, errorFromBody, KilnError } from '../arm/errors.ts';
import type { OperationRow, PhaseRow } from '../database/schema.ts';
import type { Engine } from '../engine/engine.ts';
import type { MachineKind } from '../machines/machine.ts';
import { ensureNeighbours } from '../providers/ensure.ts';
import { putTemplate } from '../providers/image-builder/create.ts';
import type { KeptEnd } from '../providers/image-builder/kept-machines.ts';
import type { ErrorWish } from '../providers/image-builder/on-error.ts';
import { cancelRun, type RunListener, startRun } from '../providers/image-builder/run.ts';
import { sourceOf } from '../providers/image-builder/source-image.ts';
import type { CacheWish } from '../providers/image-builder/step-cache.ts';
import type { Service } from '../service.ts';
import { again } from './again.ts';
import type { BuildOptions } from './build.ts';
import type { CheckedTemplateFile } from './checked-template.ts';
import type { GlobalOptions } from './command.ts';
import type { Display } from './display.ts';
import { askAbout, waitAtMachine } from './on-error.ts';
import { findRun, keptOf, outputsOf, phasesOf, reportOf, savedSeconds } from './run-rows.ts';
import { renderOutputs, renderPhases } from './runs.ts';
import { duration, paint, renderError } from './terminal.ts';

export interface TemplateRun {
  readonly service: Service;
  readonly id: string;
  readonly checked: CheckedTemplateFile;
  readonly options: BuildOptions;
  readonly machine: MachineKind;
  readonly wish: CacheWish;
  readonly onError: ErrorWish;
  readonly global: GlobalOptions;
  readonly display: Display;
  readonly signal: AbortSignal;
}

/** Makes what the template names and nobody has made; makes or replaces the template and builds it, both as operations of this process; then says how it went. */
export async function buildHere(run: TemplateRun): Promise<void> {
  const { service, id, checked, options, display, signal } = run;
  const located = (error: unknown) => {
    throw checked.locate(asKilnError(error));
  };
  const source = await sourceOf(checked.template, {
    database: service.database.kysely,
    home: service.home,
    ...(options.catalogue !== undefined && { catalogue: resolve(options.catalogue) }),
  }).catch(located);
  signal.throwIfAborted();
  const made = await ensureNeighbours(service.database.kysely, {
    templateId: id,
    template: checked.template,
    guest: source,
    strict: options.strict ?? false,
  }).catch(located);
  for (const sentence of made) display.line(sentence);
  await runTemplate(run);
}

async function runTemplate(run: TemplateRun): Promise<void> {
  const { service, id, checked, options, machine, wish, onError, global, display, signal } = run;
  const { engine, database } = service;
  const catalogue = options.catalogue === undefined ? {} : { catalogue: resolve(options.catalogue) };
  try {
    display.step('template: scripts and files');
    const { operation: creation } = await putTemplate(engine, database.kysely, {
      id,
      body: checked.body,
      apiVersion: checked.template.apiVersion,
      local: true,
      where: 'here',
      home: service.home,
      ...catalogue,
    });
    const created = await outcome(engine, creation, signal, () => engine.cancel(creation));
    if (created.status !== 'Succeeded') throw checked.locate(errorFromBody(created.error!));
    display.done();
    signal.throwIfAborted();
    const runId = await startRun(engine, database.kysely, id, {
      where: 'here',
      machines: service.machines,
      machine,
      cache: wish,
      onError,
      ...catalogue,
    });
    service.listeners.set(runId, runListener(runId, { display, global, wish, minutes: onError.minutes }));
    const ended = await outcome(engine, runId, signal, () => cancelRun(engine, database.kysely, runId));
    display.done(ended.status === 'Succeeded' ? 'done' : 'failed');
    if (ended.status === 'Succeeded') await conclude(service, runId, global);
    else {
      const error = checked.locate(errorFromBody(ended.error!));
      const steps = await phasesOf(database.kysely, runId);
      await lament(
        service,
        runId,
        failed(error, { runId, stepFailed: hasFailedStep(steps), retriable: isRetriable(steps, wish), wish, onError }),
        global,
        signal,
      );
    }
  } catch (error) {
    display.done('failed');
    throw error;
  }
}

interface Watching {
  readonly display: Display;
  readonly global: GlobalOptions;
  readonly wish: CacheWish;
  /** How long the machine of a failed step is kept, where somebody wants it. */
  readonly minutes: ErrorWish['minutes'];
}

/** What a person sees of a run that goes on in this process. */
export function runListener(runId: string, { display, global, wish, minutes }: Watching): RunListener {
  let distributing = false;
  return {
    phase(index, phases) {
      const phase = phases[index]!;
      if (index === 0) display.line(`run ${runId}`);
      // Targets run at once, and are one step on the screen; each says where it has put its image.
      const targets = phase.lane === undefined ? 1 : phases.filter(({ lane }) => lane !== undefined).length;
      if (targets === 1) display.step(`${phase.kind}: ${phase.name}`);
      else if (!distributing) display.step(`${phase.kind}: ${targets} targets`);
      distributing ||= phase.lane !== undefined;
    },
    line({ stream, text }) {
      if (stream === 'kiln' || global.verbose)
        display.line(stream === 'kiln' ? paint('dim', text, process.stderr) : `  ${text}`);
    },
    progress: progress => display.progress(progress),
    failed: failure => askAbout(failure, { display, wish, minutes }),
  };
}

/** The end of an operation; an abort asks for it, and still waits for it: what runs cleans up first. */
export async function outcome(
  engine: Engine,
  operation: string,
  signal: AbortSignal,
  cancel: () => Promise<unknown>,
): Promise<OperationRow> {
  // The database may be away; then the second Ctrl-C is the way out.
  const ask = () => void cancel().catch(() => {});
  signal.addEventListener('abort', ask, { once: true });
  if (signal.aborted) ask();
  try {
    return await engine.wait(operation);
  } finally {
    signal.removeEventListener('abort', ask);
  }
}

/** A failed run: for machines its whole record and the error, for people the error, and what there is in spite of it. */
async function lament(
  service: Service,
  runId: string,
  error: KilnError,
  { json }: GlobalOptions,
  signal: AbortSignal,
): Promise<void> {
  const ended = service.kept.ended(runId);
  if (!json) {
    // What was published before, or beside, the failure is there.
    const { kysely } = service.database;
    const outputs = await outputsOf(kysely, runId);
    if (outputs.length > 0)
      process.stdout.write(
        `\n${renderPhases(await phasesOf(kysely, runId))}\n${paint('yellow', 'Published all the same:', process.stdout)}\n${renderOutputs(outputs)}`,
      );
    if (!ended) throw error;
    // What is to be done about it stands above what the person waits at.
    process.stderr.write(`\n${renderError(error, process.stderr)}`);
    await sitBeside(service, runId, ended, signal);
    process.exitCode = EXIT_CODES[error.class];
    return;
  }
  process.stdout.write(
    `${JSON.stringify({ error: errorBody(error), run: await wholeReport(service, runId) }, null, 2)}\n`,
  );
  process.exitCode = EXIT_CODES[error.class];
  if (ended) await sitBeside(service, runId, ended, signal);
}

/** This process holds the machine, so it stays until the machine may go. */
async function sitBeside(service: Service, runId: string, ended: Promise<KeptEnd>, signal: AbortSignal): Promise<void> {
  const run = await findRun(service.database.kysely, runId);
  const kept = keptOf(run);
  if (kept) {
    const enter = process.stdin.isTTY ? 'Enter or Ctrl-C here' : 'Ctrl-C here';
    process.stderr.write(
      `\nThe machine is kept until ${kept.until.slice(0, 19)}Z. In another terminal:\n  ${kept.command}\n${enter}, or \`${kept.drop}\`, ends it.\n`,
    );
  }
  process.stderr.write(`${await waitAtMachine(ended, signal)}\n`);
  await service.kept.drop(runId);
}

async function wholeReport(service: Service, runId: string) {
  const { kysely } = service.database;
  return reportOf(await findRun(kysely, runId), await phasesOf(kysely, runId), await outputsOf(kysely, runId));
}

/** Whether it is the template that has to be mended, and built again. */
const hasFailedStep = (phases: readonly PhaseRow[]): boolean =>
  phases.some(({ kind, state }) => state === 'Failed' && /^(customize|generalize|validate)$/.test(kind));

/** Whether the image is stored, and only distribution lacks. */
function isRetriable(phases: readonly PhaseRow[], { use }: CacheWish): boolean {
  const made = phases.filter(({ kind }) => kind !== 'distribute');
  return use !== false && made.length < phases.length && made.every(({ state }) => state === 'Succeeded');
}

interface FailedRun {
  readonly runId: string;
  readonly retriable: boolean;
  readonly stepFailed: boolean;
  readonly wish: CacheWish;
  readonly onError: ErrorWish;
}

/** What can be done about a run that failed, and where to read more. */
function failed(error: KilnError, { runId, stepFailed, retriable, wish, onError }: FailedRun): KilnError {
  const { code, message, target, details, cause } = error;
  const hint = [
    error.hint ?? ERRORS[code].remedy,
    ...(retriable
      ? [`kiln runs retry ${runId.slice(0, 8)} distributes to what lacks the image, and builds nothing.`]
      : []),
    ...(stepFailed ? [again(wish)] : []),
    ...(stepFailed && onError.action === 'clean' ? ['With --on-error keep the machine stays, to be looked into.'] : []),
    `The whole log: kiln logs ${runId.slice(0, 8)}`,
  ].join('\n        ');
  return new KilnError(code, message, { ...(target !== undefined && { target }), details, cause, hint });
}

/** What a person wants to know at the end: where the time went, where the image is, how to boot it. */
export async function conclude(service: Service, runId: string, { json }: GlobalOptions): Promise<void> {
  const { kysely } = service.database;
  if (json) {
    process.stdout.write(`${JSON.stringify({ run: await wholeReport(service, runId) }, null, 2)}\n`);
    return;
  }
  const run = await findRun(kysely, runId);
  const [phases, outputs] = [await phasesOf(kysely, runId), await outputsOf(kysely, runId)];
  const total = duration(run.ended_at!.getTime() - run.started_at!.getTime());
  const saved = savedSeconds(phases);
  // Where only the source is validated, nothing is made.
  const done = phases.some(({ kind }) => kind === 'distribute') ? 'Built' : 'Validated the source of';
  process.stdout.write(
    `\n${renderPhases(phases)}\n${paint('green', done)} ${run.template_name} in ${total}${saved > 0 ? `, ${duration(saved * 1000)} saved by stored layers` : ''}.\n`,
  );
  process.stdout.write(renderOutputs(outputs));
  if (outputs[0]) process.stdout.write(`\nBoot it:  kiln images run ${outputs[0].name}\n`);
}
