/**
 * Warm starts in the background: while a server has nothing to build, it boots the sources of the templates that it has, so that their next builds go on from
 * there. One at a time, of sources that are on this host already, as long as the layer store has room that nobody uses. A build that comes has the host to
 * itself at once, unless this very warm start is what it would begin with: then it waits for the rest of it.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { layerBudget } from '../../builds/layers/budget.ts';
import { type LayerStore, openLayerStore } from '../../builds/layers/store.ts';
import { warmStartOf } from '../../builds/layers/warm-start.ts';
import { isAway } from '../../database/connection.ts';
import type { ProviderEnvironment } from '../provider.ts';
import { getResource, type StoredResource } from '../store.ts';
import { templateOf } from './image-templates.ts';
import { chosenMachine } from './machine-choice.ts';
import { ACTIVE } from './run.ts';
import { unsupported } from './unsupported.ts';
import { TEMPLATE_TYPE } from './validate.ts';
import { knownWarmKey, WARM_KIND, WARM_SECONDS, type WarmInput, warmInput } from './warm.ts';

export type WarmingEnvironment = Pick<
  ProviderEnvironment,
  'database' | 'home' | 'engine' | 'machines' | 'log' | 'options'
>;

export interface WarmingOptions {
  readonly environment: WarmingEnvironment;
  /** Between two looks (ms); nothing has to be built at two of them, one after the other, before something is made. */
  readonly everyMs?: number;
  /** The same, while something is made. */
  readonly watchMs?: number;
}

const EVERY_MS = 10_000;
const WATCH_MS = 500;
/** So many sources and shapes, those of the templates that were built, made or changed last. */
const MOST = 4;
const LOOKED_AT = 50;
/** What a warm start takes where there is none to learn it from: disk and memory of a small Linux. */
const USUAL_BYTES = 1024 ** 3;
/** What could not be made is tried again after this long (ms). */
const PATIENCE = 3_600_000;

interface Candidate {
  readonly key: string;
  readonly input: WarmInput;
  readonly template: string;
}

/** @returns what ends it: what is being made then is given up. */
export function startWarming({ environment, everyMs = EVERY_MS, watchMs = WATCH_MS }: WarmingOptions): {
  close(): Promise<void>;
} {
  const closing = new AbortController();
  const { signal } = closing;
  const { log } = environment;
  const failed = new Map<string, number>();
  const pause = (ms: number) => sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
  let full = false;

  async function look(): Promise<void> {
    if (await isBusy(environment)) return;
    await pause(everyMs);
    if (signal.aborted || (await isBusy(environment))) return;
    const store = await openLayerStore(environment.home.cache);
    const next = store.writable && (await nextToMake(environment, store, failed));
    if (!next) return;
    if (!(await hasRoom(store))) {
      if (!full)
        log(
          'info',
          'The layer store has no room for another warm start; none is made until it has (KILN_CACHE_BUDGET).',
        );
      full = true;
      return;
    }
    full = false;
    await make(next);
  }

  async function make({ key, input, template }: Candidate): Promise<void> {
    const { database, engine } = environment;
    log('info', 'Nothing is built: a warm start is being made.', { template });
    const id = await database
      .transaction()
      .execute(trx =>
        engine.submit(trx, { kind: WARM_KIND, resourceId: null, input, where: 'here', timeoutSeconds: WARM_SECONDS }),
      );
    const ended = new AbortController();
    const watching = (async () => {
      for (;;) {
        await sleep(watchMs, undefined, { signal: AbortSignal.any([signal, ended.signal]) }).catch(() => undefined);
        if (ended.signal.aborted) return;
        const rival = signal.aborted ? 'the server is closing' : await rivalOf(key, environment);
        if (rival === undefined) continue;
        log('info', 'The warm start is given up.', { template, because: rival });
        await engine.cancel(id);
        return;
      }
    })();
    watching.catch(() => {});
    const operation = await engine.wait(id).finally(() => ended.abort());
    await watching;
    if (operation.status === 'Succeeded') log('info', 'A warm start is there.', { template, key });
    if (operation.status !== 'Failed') return;
    failed.set(key, Date.now());
    log('warning', 'A warm start could not be made.', { template, error: operation.error?.message });
  }

  const loop = (async () => {
    while (!signal.aborted) {
      await look().catch(error =>
        log(isAway(error) || signal.aborted ? 'debug' : 'error', 'Warm starts could not be looked at.', {
          error: String(error),
        }),
      );
      await pause(everyMs);
    }
  })();
  return {
    async close() {
      closing.abort(new KilnError('Canceled', 'The server is closing.'));
      await loop;
    },
  };
}

/** Runs that are going on on this host, or wait for a worker and may come to it. */
const activeHere = ({ database }: Pick<WarmingEnvironment, 'database'>) =>
  database
    .selectFrom('run')
    .innerJoin('operation', 'operation.id', 'run.operation_id')
    .select(['run.id', 'run.template_id', 'run.machine', 'operation.input'])
    .where('run.state', 'in', ACTIVE)
    .where(where =>
      where.or([
        where('operation.worker', 'is', null),
        where(
          'operation.worker',
          'in',
          where.selectFrom('worker').select('worker.id').where('worker.host', '=', hostname()),
        ),
      ]),
    );

async function isBusy(environment: WarmingEnvironment): Promise<boolean> {
  return (await activeHere(environment).limit(1).executeTakeFirst()) !== undefined;
}

/** The run that wants this host for something else than the warm start. */
async function rivalOf(key: string, environment: WarmingEnvironment): Promise<string | undefined> {
  for (const run of await activeHere(environment).execute()) {
    const template = await getResource(environment.database, run.template_id);
    const { cache } = run.input as { cache?: { use?: boolean } };
    const { kind } = (run.machine ?? {}) as { kind?: string };
    const needs = template && (await candidateOf(template, environment).catch(() => undefined));
    if (needs?.key !== key || cache?.use === false || (kind ?? 'qemu') !== 'qemu') return `run ${run.id}`;
  }
  return undefined;
}

/** Undefined for templates that have no use of a warm start, or whose source is not here. */
async function candidateOf(resource: StoredResource, environment: WarmingEnvironment): Promise<Candidate | undefined> {
  const template = templateOf(resource);
  const { validate } = template.properties;
  if (validate?.sourceValidationOnly || unsupported(template, { local: true }).refusals.length > 0) return undefined;
  if (chosenMachine(template, { policy: environment.options.machines ?? 'vm' }) !== 'qemu') return undefined;
  const input = warmInput(template);
  const key = await knownWarmKey(input, environment);
  return key === undefined ? undefined : { key, input, template: resource.id };
}

async function nextToMake(
  environment: WarmingEnvironment,
  store: LayerStore,
  failed: ReadonlyMap<string, number>,
): Promise<Candidate | undefined> {
  const seen = new Set<string>();
  for (const id of await recentTemplates(environment)) {
    const resource = await getResource(environment.database, id);
    // What is wrong with a template is told to whoever builds it.
    const candidate = resource && (await candidateOf(resource, environment).catch(() => undefined));
    if (!candidate || seen.has(candidate.key)) continue;
    if (seen.size === MOST) return undefined;
    seen.add(candidate.key);
    const recently = Date.now() - (failed.get(candidate.key) ?? Number.NEGATIVE_INFINITY) < PATIENCE;
    if (!recently && !(await store.look(candidate.key))) return candidate;
  }
  return undefined;
}

async function recentTemplates({ database }: WarmingEnvironment): Promise<string[]> {
  const rows = await database
    .selectFrom('resource')
    .leftJoin('run', 'run.template_id', 'resource.id')
    .select(['resource.id'])
    .where(sql<string>`lower(resource.type)`, '=', TEMPLATE_TYPE.toLowerCase())
    .where(sql<boolean>`resource.properties ->> 'provisioningState' = 'Succeeded'`)
    .groupBy('resource.id')
    .orderBy(sql`max(greatest(resource.changed_at, run.created_at))`, 'desc')
    .limit(LOOKED_AT)
    .execute();
  return rows.map(({ id }) => id);
}

/** Whether one more fits beside what is stored: something that only may be of use takes no room from what was. */
async function hasRoom(store: LayerStore): Promise<boolean> {
  const layers = await store.list();
  const used = layers.reduce((sum, { allocated }) => sum + allocated, 0);
  const like = layers.filter(layer => warmStartOf(layer)).map(({ allocated }) => allocated);
  return used + Math.max(0, ...(like.length > 0 ? like : [USUAL_BYTES])) <= (await layerBudget(store.directory));
}
