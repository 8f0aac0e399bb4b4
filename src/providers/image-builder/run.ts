/**
 * The `run` operation of an image template: the row that clients poll, the build, and the row's end. The run's id is its operation's.
 */
import { join } from 'node:path';
import type { Kysely } from 'kysely';
import { asKilnError, type ErrorBody, errorBody, errorFromBody, KilnError } from '../../arm/errors.ts';
import { parseId } from '../../arm/ids.ts';
import { publicError } from '../../arm/public-error.ts';
import { type BuildRequest, build } from '../../builds/build.ts';
import type { Failure } from '../../builds/keep.ts';
import { openLayerStore } from '../../builds/layers/store.ts';
import type { LogLine } from '../../builds/log.ts';
import {
  type BuildOutcome,
  distributionError,
  endedBy,
  isDistributionError,
  outcomeOf,
  type PhaseEnd,
} from '../../builds/outcome.ts';
import type { Phase, PhaseKind } from '../../builds/phase.ts';
import { logUnbuilt } from '../../builds/unbuilt.ts';
import { type Transacting, whenReachable } from '../../database/connection.ts';
import { json, text } from '../../database/json.ts';
import type { RunRow, Schema } from '../../database/schema.ts';
import type { ServiceLog } from '../../database/service-log.ts';
import type { Engine } from '../../engine/engine.ts';
import type { OperationHandler } from '../../engine/operation.ts';
import type { Home } from '../../home.ts';
import type { Doorway } from '../../images/catalogue/own-door.ts';
import type { Progress, SourceImage } from '../../images/source.ts';
import type { MachineFactory, MachineKind } from '../../machines/machine.ts';
import { requireGroup, requireResource } from '../life.ts';
import type { ProviderOptions } from '../provider.ts';
import { getResource } from '../store.ts';
import { buildRequest } from './build-request.ts';
import { putBuildResources, removeBuildResources, removeUnlessKept } from './build-resources.ts';
import { templateOf } from './image-templates.ts';
import { dropKept, type KeptMachines } from './kept-machines.ts';
import { lastRun } from './last-run.ts';
import { requireBuildRights, requireUnlockedTargets } from './links.ts';
import { requireNetwork } from './network.ts';
import { buildTimeout } from './normalise.ts';
import { type ErrorWish, keeperOf } from './on-error.ts';
import { requireRetryable, retryOf } from './retry.ts';
import { runRecord } from './run-record.ts';
import { secretsOf } from './secrets.ts';
import { noteExactVersion } from './source-image.ts';
import { logLocation } from './staged-blobs.ts';
import { requireOwnStaging } from './staging.ts';
import { ACTIVE, notAllowed, provisioningState } from './states.ts';
import type { CacheWish } from './step-cache.ts';
import { noteRunEnd } from './triggers-state.ts';

export const RUN_KIND = 'Microsoft.VirtualMachineImages/imageTemplates/run';

export { ACTIVE };

/**
 * A template's buildTimeoutInMinutes was chosen for real processors. An emulated one takes 10 to 20 times longer for what a guest computes, but no longer for
 * what it waits for; 4 is a guess between the two.
 */
const EMULATED_SLOWNESS = 4;
/** How long the end of a run is tried to be written while the database is away (ms); then a sweep settles it. */
const PATIENCE = 120_000;

/** What whoever watches from the same process is told, beside the rows. */
export interface RunListener {
  phase(index: number, phases: readonly Phase[]): void;
  line(line: LogLine): void;
  progress(progress: Progress): void;
  /** A step has failed, and whoever began the run wanted to be asked about its machine. */
  failed?(failure: Failure): Promise<'keep' | 'clean'>;
}

interface RunInput {
  readonly templateId: string;
  readonly catalogue?: string;
  /** Whether the identity has to be allowed what the build does; missing in operations of an older Kiln. */
  readonly authorize?: boolean;
  /** Asked for with this run, over what the template says. */
  readonly machine?: MachineKind;
  /** What whoever builds at this host said of stored layers. */
  readonly cache?: CacheWish;
  /** What whoever builds at this host said of the machine of a failed step. */
  readonly onError?: ErrorWish;
  /** The run whose image is distributed again. */
  readonly retry?: string;
}

export interface RunEnvironment {
  readonly log: ServiceLog;
  readonly database: Kysely<Schema>;
  readonly home: Home;
  readonly machines: MachineFactory;
  /** What the operator chose; missing: virtual machines. */
  readonly options?: Pick<ProviderOptions, 'machines' | 'keptMachines'> &
    Partial<Pick<ProviderOptions, 'localDownloads'>>;
  /** Of the server in this process, where there is one. */
  readonly doorway?: Doorway;
  /** Who holds the machines of failed runs; missing: nobody keeps one. */
  readonly kept?: KeptMachines;
  /** Whoever watches this run here, if anybody. */
  readonly listener: (runId: string) => RunListener | undefined;
}

/**
 * Begins a run of a template: the row and the operation in one transaction (the caller's, where `database` is one), so that its status can be read the
 * moment this returns.
 * Errors: NotFound, Conflict (not provisioned, or nothing to retry), RunInProgress, ResourceGroupBeingDeleted.
 */
export async function startRun(
  engine: Engine,
  database: Kysely<Schema>,
  templateId: string,
  options: {
    readonly where: 'here' | 'anywhere';
    readonly catalogue?: string;
    readonly machine?: MachineKind;
    readonly cache?: CacheWish;
    readonly onError?: ErrorWish;
    /** Id of the newest run: its image goes to the targets that it failed to reach. Nothing is built. */
    readonly retry?: string;
    readonly machines: MachineFactory;
    /** Object id. */
    readonly caller?: string;
  },
): Promise<string> {
  const { where, catalogue, machine, cache, onError, retry, caller } = options;
  const { accelerator } = await options.machines.shape({
    kind: 'qemu',
    processors: 1,
    memoryMiB: 1024,
    firmware: 'bios',
  });
  const slowness = accelerator === 'tcg' ? EMULATED_SLOWNESS : 1;
  try {
    return await inTransaction(database, async trx => {
      // Nobody replaces the template between the look at it and its run.
      await trx.selectFrom('resource').select('id').where('id', '=', templateId.toLowerCase()).forUpdate().execute();
      const resource = await requireResource(trx, templateId);
      await requireGroup(trx, parseId(resource.id));
      if (await activeRun(trx, templateId)) throw await runInProgress(trx, templateId);
      if (provisioningState(resource) !== 'Succeeded')
        throw notAllowed('run/action', resource, (await lastRun(trx, resource))?.state);
      const earlier = retry === undefined ? {} : await requireRetryable(trx, resource, retry);
      await dropKept(trx, { template: templateId });
      const id = await engine.submit(trx, {
        kind: RUN_KIND,
        resourceId: templateId.toLowerCase(),
        input: {
          templateId,
          // Who builds at this host is not asked for roles.
          authorize: where === 'anywhere',
          ...(catalogue !== undefined && { catalogue }),
          ...(machine !== undefined && { machine }),
          ...(cache !== undefined && { cache }),
          ...(onError !== undefined && { onError }),
          ...(retry !== undefined && { ...earlier, retry }),
        } satisfies RunInput,
        where,
        timeoutSeconds: buildTimeout(templateOf(resource)) * 60 * slowness,
      });
      if (caller !== undefined) await trx.updateTable('operation').set({ caller }).where('id', '=', id).execute();
      await trx
        .insertInto('run')
        .values({
          id,
          operation_id: id,
          template_id: templateId.toLowerCase(),
          template_name: resource.name,
          state: 'Running',
          sub_state: 'Queued',
          correlation_id: id,
          worker: where === 'here' ? engine.worker : null,
          started_at: new Date(),
        })
        .execute();
      return id;
    });
  } catch (error) {
    if ((error as { code?: string }).code !== '23505' || database.isTransaction) throw error;
    throw await runInProgress(database, templateId);
  }
}

/** The error for whoever wants to change or run a template that is being built. */
export async function runInProgress(database: Kysely<Schema>, templateId: string): Promise<KilnError> {
  const active = await activeRun(database, templateId);
  return new KilnError(
    'RunInProgress',
    `The template is being built already${active ? ` by run ${active.id}, since ${active.started_at?.toISOString() ?? active.created_at.toISOString()}` : ''}.`,
    {
      target: templateId,
      ...(active && { hint: `Wait for it (kiln logs ${active.id} -f), or end it (kiln runs cancel ${active.id}).` }),
    },
  );
}

export async function activeRun(database: Kysely<Schema>, templateId: string): Promise<RunRow | undefined> {
  return await database
    .selectFrom('run')
    .selectAll()
    .where('template_id', '=', templateId.toLowerCase())
    .where('state', 'in', ACTIVE)
    .executeTakeFirst();
}

/** Asks for the end of a run. Whether it was still going on. */
export async function cancelRun(engine: Engine, database: Kysely<Schema>, runId: string): Promise<boolean> {
  await database
    .updateTable('run')
    .set({ state: 'Canceling', sub_state: null, message: 'Canceling image build' })
    .where('id', '=', runId)
    .where('state', '=', 'Running')
    .execute();
  return await engine.cancel(runId);
}

export function runHandler(environment: RunEnvironment): OperationHandler {
  const { database, home } = environment;
  return {
    kind: RUN_KIND,
    heavy: true,
    limit: 'whole',
    async run(context, input) {
      const { templateId, catalogue, authorize, machine, cache, onError, retry: of } = input as RunInput;
      const listener = () => environment.listener(context.id);
      const record = runRecord(database, context.id);
      let error: KilnError | undefined;
      let outcome: BuildOutcome;
      let resumes = false;
      let source: SourceImage | undefined;
      const logDirectory = join(home.logs, context.id);
      let secrets: readonly string[] = [];
      let begun = false;
      try {
        const resource = await requireResource(database, templateId);
        secrets = secretsOf(templateOf(resource).properties);
        if (authorize) {
          await requireOwnStaging(database, resource);
          await requireBuildRights(database, templateOf(resource));
          await requireNetwork(database, resource, templateOf(resource).properties.vmProfile);
        }
        await requireUnlockedTargets(database, templateOf(resource).properties.distribute);
        const retry = of === undefined ? undefined : await retryOf(database, of);
        const { signal } = context;
        const choices = { catalogue, local: !authorize, machine, cache, retry, signal };
        const request = noting(await buildRequest(resource, context.id, environment, choices), async image => {
          source = image;
          await noteExactVersion(database, resource, image);
        });
        resumes = authorize === true && request.cache?.neverSteps.length === 0;
        await database
          .updateTable('run')
          .set({ machine: json(request.shape) })
          .where('id', '=', context.id)
          .execute();
        let phases: readonly Phase[] = [];
        const store = await openLayerStore(home.cache).catch(() => undefined);
        /** What clients see of the machine is told while it is there; a build does not fail because of it. */
        const show = (work: () => Promise<void>) =>
          whenReachable(work, AbortSignal.timeout(PATIENCE)).catch(failure =>
            environment.log('error', 'The resources of a build machine are not as it is.', {
              ...{ run: context.id, error: String(failure) },
            }),
          );
        begun = true;
        outcome = await build(
          request,
          {
            directory: join(home.runs, context.id),
            logDirectory,
            machines: environment.machines,
            home: home.root,
            recorder: {
              ...record,
              async started(index, phase, key) {
                await record.started(index, phase, key);
                listener()?.phase(index, phases);
                if (phase.kind !== 'boot' || !source) return;
                const machine = { runId: context.id, shape: request.shape, source };
                await show(() => putBuildResources(database, resource, machine));
              },
              async succeeded(index, phase, result, key) {
                await record.succeeded(index, phase, result, key);
                if (phase.kind === 'capture') await show(() => removeBuildResources(database, context.id));
              },
            },
            onLine(line) {
              record.line(line);
              listener()?.line(line);
            },
            onProgress: progress => listener()?.progress(progress),
            signal: context.signal,
            ...(store?.writable && { store }),
            ...(environment.kept && {
              keeper: keeperOf({
                runId: context.id,
                kept: environment.kept,
                template: templateOf(resource),
                wish: onError,
                local: !authorize,
                atMost: environment.options?.keptMachines,
                ask: listener()?.failed,
              }),
            }),
          },
          async planned => {
            phases = planned;
            await record.planned(planned);
          },
        );
        if (outcome.state !== 'Succeeded') error = errorFromBody(outcome.error);
      } catch (thrown) {
        error = asKilnError(thrown);
        outcome = endedBy(errorBody(error));
      }
      if (resumes && error?.code === 'StepFailed' && outcome.state !== 'Succeeded') {
        error = tellingOfRetry(error);
        outcome = { ...outcome, error: errorBody(error) };
      }
      // Another worker has the run now, and settles it.
      if (error?.code === 'WorkerLost') throw error;
      if (error && !begun)
        await logUnbuilt({ runId: context.id, logDirectory, secrets }, publicError(errorBody(error)).message).catch(
          failure => environment.log('warning', 'A run has no log.', { run: context.id, error: String(failure) }),
        );
      // The file has every line; a build that is published does not fail because some rows of its log could not be written.
      await record
        .close()
        .catch(failure =>
          environment.log('warning', 'Log lines of a run were not kept.', { run: context.id, error: String(failure) }),
        );
      await whenReachable(() => endRun(database, context.id, outcome), AbortSignal.timeout(PATIENCE));
      // A run that published to some of its targets has failed as an operation: the contract counts it among the failures (3.1), and whoever waits for the
      // operation (`az image builder run`, a pipeline) must not take an image that is missing somewhere for a success.
      if (error) throw error;
      return { runId: context.id };
    },
    async abandoned(trx, operation, error) {
      const outcome = await settledOutcome(trx, operation.id);
      if (!outcome) {
        await settleRun(trx, operation.id, error);
        return undefined;
      }
      await endRun(trx, operation.id, outcome);
      if (outcome.state === 'Succeeded') return { status: 'Succeeded', output: { runId: operation.id } };
      return { status: outcome.state === 'Canceled' ? 'Canceled' : 'Failed', error: outcome.error };
    },
  };
}

/** For a caller of the API; `kiln build` has options of its own, and says what they mean. */
function tellingOfRetry({ code, message, target, details, hint, cause }: KilnError): KilnError {
  const retry = 'Run the template again: within a day it goes on after the last step that went well.';
  const all = { ...(target !== undefined && { target }), details, cause };
  return new KilnError(code, message, { ...all, hint: hint === undefined ? retry : `${hint} ${retry}` });
}

/** Tells of the source's image as soon as the build has it. */
function noting(request: BuildRequest, note: (image: SourceImage) => Promise<void>): BuildRequest {
  const acquire: BuildRequest['source']['acquire'] = async options => {
    const acquired = await request.source.acquire(options);
    await note(acquired.image);
    return acquired;
  };
  return { ...request, source: { ...request.source, acquire } };
}

/** Azure's sentence for a failed build first: scripts search for it. Then what it never says: which step, and why. What nobody began has its own alone. */
export function failureMessage(runId: string, logPath: string, error: ErrorBody): string {
  if (error.code === 'Unauthorized') return error.message;
  if (error.code === 'Timeout')
    return `Failed in building/customizing image: Failed while waiting for packerizer: Timeout waiting for microservice to complete: 'context deadline exceeded'. ${error.message}`;
  return [
    'Failed while waiting for packerizer: Microservice has failed: Failed while processing request: Error when executing packerizer: Packer build command has failed: exit status 1.',
    'During the image build, a failure has occurred, please review the build log to identify which build/customization step failed.',
    'For more troubleshooting steps go to https://aka.ms/azvmimagebuilderts.',
    `Image Build log location: ${logPath}.`,
    `OperationId: ${runId}. Use this operationId to search packer logs.`,
    error.message,
  ].join(' ');
}

async function endRun(database: Kysely<Schema>, runId: string, outcome: BuildOutcome): Promise<void> {
  const error = outcome.state === 'Succeeded' ? undefined : outcome.error;
  await inTransaction(database, async trx => {
    // A build that the clock ended has not said what is published.
    const { state } = (error?.code === 'Timeout' && (await settledOutcome(trx, runId))) || outcome;
    const message = error === undefined ? '' : await messageOf(trx, runId, publicError(error));
    const run = await trx
      .updateTable('run')
      .set({
        state,
        sub_state: null,
        ended_at: new Date(),
        message: text(message),
        error: error === undefined ? null : json(error),
      })
      .where('id', '=', runId)
      .where('state', 'in', ACTIVE)
      .returning(['id', 'template_id'])
      .executeTakeFirst();
    if (run) await noteRunEnd(trx, run.template_id, state);
    await removeUnlessKept(trx, runId);
  });
}

/** In the transaction that `database` is, or in one of its own. */
async function inTransaction<T>(database: Kysely<Schema>, work: (trx: Transacting) => Promise<T>): Promise<T> {
  return database.isTransaction ? await work(database as Transacting) : await database.transaction().execute(work);
}

async function messageOf(trx: Transacting, runId: string, error: ErrorBody): Promise<string> {
  if (error.code === 'Canceled') return error.message;
  // It begins with Azure's sentence already: no build step failed.
  if (isDistributionError(error)) return error.message;
  // Only the targets that were not ready in time have failed.
  if (error.code === 'Timeout') {
    const targets = endsOf(await phaseRows(trx, runId)).filter(({ kind }) => kind === 'distribute');
    if (targets.some(target => target.error)) return distributionError(targets).message;
  }
  const run = await trx.selectFrom('run').select('template_id').where('id', '=', runId).executeTakeFirst();
  const template = run && (await getResource(trx, run.template_id));
  // What is wrong with a validator before anything is built is in the log that every run has.
  const built = (await phaseRows(trx, runId)).length > 0;
  const name = built && /^(properties\.)?validate\b/.test(error.target ?? '') ? 'validation.log' : 'customization.log';
  // Who builds without a staging group has the state directory.
  return failureMessage(runId, logLocation(template, runId, name) ?? `logs/${runId}/${name}`, error);
}

/** How a run ended whose worker died when everything was over, and only the word of it missing; undefined where something was left to do. */
async function settledOutcome(trx: Transacting, runId: string): Promise<BuildOutcome | undefined> {
  const phases = await phaseRows(trx, runId);
  const ends = endsOf(phases);
  return phases.length > 0 && ends.length === phases.length ? outcomeOf(ends) : undefined;
}

const phaseRows = (trx: Transacting, runId: string) =>
  trx
    .selectFrom('phase')
    .select(['kind', 'name', 'state', 'error'])
    .where('run_id', '=', runId)
    .orderBy('index')
    .execute();

/** Of the phases that have ended. */
const endsOf = (phases: Awaited<ReturnType<typeof phaseRows>>): PhaseEnd[] =>
  phases.flatMap(({ kind, name, state, error }) =>
    state === 'Pending' || state === 'Running' ? [] : [{ kind: kind as PhaseKind, name, state, error }],
  );

/** Ends the row of a run that nobody runs any more, and the phases that it left open. */
async function settleRun(trx: Transacting, runId: string, error: ErrorBody): Promise<void> {
  await endRun(trx, runId, endedBy(error));
  await trx
    .updateTable('phase')
    .set({ state: error.code === 'Canceled' ? 'Canceled' : 'Failed', ended_at: new Date(), error: json(error) })
    .where('run_id', '=', runId)
    .where('state', '=', 'Running')
    .execute();
  await trx
    .updateTable('phase')
    .set({ state: 'Skipped' })
    .where('run_id', '=', runId)
    .where('state', '=', 'Pending')
    .execute();
}
