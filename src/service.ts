/**
 * One open state directory: what every way in (a command, the API, a trigger) works on. Opening it settles what dead processes left
 * on this host: rows by the engine's sweep, machines and directories here.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { askedBudget } from './builds/layers/budget.ts';
import type { Database } from './database/connection.ts';
import { openDatabase } from './database/connection.ts';
import type { EmbeddedServer } from './database/embedded.ts';
import type { ServiceLog } from './database/service-log.ts';
import { lockFile } from './disks/file-lock.ts';
import type { Engine } from './engine/engine.ts';
import { openEngine } from './engine/engine.ts';
import { isTerminal, type OperationHandler } from './engine/operation.ts';
import { type Home, openHome } from './home.ts';
import type { Doorway } from './images/catalogue/own-door.ts';
import { imageIdOf } from './images/data-disks.ts';
import { list, remove, sweepStaged } from './images/store.ts';
import { sweepFrozen } from './machines/container/frozen.ts';
import { machineFactory } from './machines/factory.ts';
import type { MachineFactory } from './machines/machine.ts';
import { sweepConsoles } from './machines/qemu/console.ts';
import { sweepMachines } from './machines/qemu/sweep.ts';
import { createImageHandler } from './providers/compute/image-create.ts';
import { deleteImageHandler } from './providers/compute/image-delete.ts';
import { replicateHandler } from './providers/compute/replicate.ts';
import { deleteVersionHandler } from './providers/compute/version-delete.ts';
import { createHandler } from './providers/image-builder/create.ts';
import { deleteHandler } from './providers/image-builder/delete.ts';
import { forgetKept, KeptMachines } from './providers/image-builder/kept-machines.ts';
import { sweepIncoming } from './providers/image-builder/prepare.ts';
import { type RunListener, runHandler } from './providers/image-builder/run.ts';
import { createTriggerHandler, deleteTriggerHandler } from './providers/image-builder/triggers-operations.ts';
import { updateHandler } from './providers/image-builder/update.ts';
import { warmHandler } from './providers/image-builder/warm.ts';
import type { ProviderEnvironment, ProviderOptions } from './providers/provider.ts';
import { deleteGroupHandler } from './providers/resources/delete-group.ts';

export interface Service {
  readonly home: Home;
  readonly database: Database;
  readonly engine: Engine;
  readonly machines: MachineFactory;
  /** What providers work with. */
  readonly environment: ProviderEnvironment;
  /** Whoever is set here before a run begins is told of it while it goes on in this process. */
  readonly listeners: Map<string, RunListener>;
  /** Machines of failed runs that this process holds. */
  readonly kept: KeptMachines;
  /** Cancels what runs here, waits for it to clean up, and leaves the state directory. */
  close(): Promise<void>;
}

export interface BegunHome {
  readonly home: Home;
  /** Missing where DATABASE_URL names another one. */
  readonly server?: Promise<EmbeddedServer>;
}

export interface ServiceOptions {
  readonly home?: string | undefined;
  /** The same, where it has been begun to open it. Taken over in every case. */
  readonly begun?: BegunHome;
  readonly log: ServiceLog;
  /** What an operator chose for the API. Default: as Azure does it. */
  readonly options?: ProviderOptions;
  /** Default: real ones, of every kind. */
  readonly machines?: MachineFactory;
}

const AS_AZURE: ProviderOptions = Object.freeze({ reviseTemplates: false, localDownloads: false });

/** Errors: those of openHome and openDatabase; UsageError for a KILN_CACHE_BUDGET that is no size. */
export async function openService(options: ServiceOptions): Promise<Service> {
  askedBudget();
  const home = options.begun?.home ?? (await openHome({ home: options.home }));
  const database = await openDatabase({ home, log: options.log, server: options.begun?.server });
  try {
    const machines = options.machines ?? machineFactory({ cacheFile: join(home.cache, 'accelerator.json') });
    const listeners = new Map<string, RunListener>();
    const kept = new KeptMachines({ database: database.kysely, log: options.log, worker: () => engine.worker });
    const environment = {
      log: options.log,
      database: database.kysely,
      home,
      machines,
      options: options.options ?? AS_AZURE,
      doorway: {} as Doorway,
      kept,
      // Handlers begin work of their own (a run after a creation); the engine is there when they do.
      get engine() {
        return engine;
      },
      listener: (runId: string) => listeners.get(runId),
    };
    const handlers: readonly OperationHandler[] = [
      createHandler(environment),
      updateHandler(environment),
      deleteHandler(environment),
      runHandler(environment),
      warmHandler(environment),
      createTriggerHandler(environment),
      deleteTriggerHandler(environment),
      deleteGroupHandler(environment),
      createImageHandler(environment),
      deleteImageHandler(environment),
      replicateHandler(environment),
      deleteVersionHandler(environment),
    ];
    const engine = await openEngine({ database, home, handlers, log: options.log });
    const service: Service = {
      home,
      database,
      engine,
      machines,
      environment,
      listeners,
      kept,
      async close() {
        // As long as this worker counts as alive nobody else clears away what it holds.
        await kept.close();
        await engine.close();
        await database.close();
      },
    };
    try {
      await settle(service, options.log);
    } catch (error) {
      await engine.close();
      throw error;
    }
    return service;
  } catch (error) {
    await database.close();
    throw error;
  }
}

/**
 * Ends what processes that died left on this host: their rows, machines, directories, half-published images. One process at a time: another one's new machine
 * must not be taken for what a dead one left under the same slot.
 */
async function settle(service: Service, log: ServiceLog): Promise<void> {
  const { home, engine } = service;
  await engine.sweep();
  await forgetKept(service.database.kysely, worker => engine.isAlive(worker));
  const left = (await readdir(home.runs)).filter(name => RUN_ID.test(name));
  if (left.length > 0) {
    await using _lock = await lockFile(join(home.root, 'settle.lock'));
    for (const runId of left) {
      if ((await isExecuted(service, runId)) || (await isHeld(service, runId))) continue;
      log('info', 'A run left its directory behind; its machines are ended.', { run: runId });
      await settleRun(service, runId).catch(error =>
        log('error', 'What a run left cannot be cleared away.', { run: runId, error: String(error) }),
      );
    }
  }
  await sweepStaged(home.root, runId => isExecuted(service, runId));
  await sweepIncoming(home.files, operation => isExecuted(service, operation));
  await sweepConsoles(home.runs);
}

async function settleRun({ home, database }: Service, runId: string): Promise<void> {
  await sweepMachines(join(home.runs, runId));
  await sweepFrozen(join(home.runs, runId));
  for (const image of await list(home.root))
    if (image.manifest.runId === runId && !(await isRecorded(database, imageIdOf(image.manifest), runId)))
      await remove(image);
  await rm(join(home.runs, runId), { recursive: true, force: true });
}

const RUN_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether a living process works on an operation; a run's id is its operation's. */
async function isExecuted({ database, engine }: Service, runId: string): Promise<boolean> {
  if (!RUN_ID.test(runId)) return false;
  const operation = await database.kysely
    .selectFrom('operation')
    .select(['status', 'worker'])
    .where('id', '=', runId)
    .executeTakeFirst();
  if (!operation?.worker || isTerminal(operation.status)) return false;
  return await engine.isAlive(operation.worker);
}

/** Whether a living process holds the machine of a run that has failed. */
async function isHeld({ database, engine }: Service, runId: string): Promise<boolean> {
  const run = await database.kysely.selectFrom('run').select('kept_by').where('id', '=', runId).executeTakeFirst();
  return run?.kept_by != null && (await engine.isAlive(run.kept_by));
}

/** An image that a run published but died before saying so is nobody's. */
async function isRecorded(database: Database, artifactId: string, runId: string): Promise<boolean> {
  const row = await database.kysely
    .selectFrom('run_output')
    .select('id')
    .where('run_id', '=', runId)
    .where('artifact_id', '=', artifactId)
    .executeTakeFirst();
  return row !== undefined;
}
