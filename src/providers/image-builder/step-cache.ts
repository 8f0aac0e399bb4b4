/**
 * Which stored layers a run takes. Whoever builds at this host gets all that fit, however old, unless they say how old a step may be. Runs of the API run every
 * customizer again, as Azure does, except that a run after failed ones goes on after the last step that went well in them, if none of it ran longer ago than a day.
 */
import type { Kysely } from 'kysely';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import type { StepCache } from '../../builds/layers/choice.ts';
import type { LayerRecord } from '../../builds/layers/record.ts';
import { type LayerStore, openLayerStore } from '../../builds/layers/store.ts';
import type { Schema } from '../../database/schema.ts';
import type { StoredResource } from '../store.ts';
import { templateOf } from './image-templates.ts';
import { dropOrphans } from './orphan-layers.ts';
import type { Retry } from './retry.ts';
import type { RunEnvironment } from './run.ts';

/** `kiln.cache` = `never`: no step; `kiln.cache.STEP` = `never`, by name or number: that one and what follows it. */
export const CACHE_TAG = 'kiln.cache';

export interface CacheWish {
  /** Default: true. */
  readonly use?: boolean;
  readonly fresh?: string;
  readonly from?: string;
  /** Seconds since a step ran, beyond which it runs again. */
  readonly maxAge?: number;
}

/** Callers of the API run templates again to get what is new: what failed is tried again soon, or is no retry. Seconds. */
const RETRY_AGE = 24 * 3600;

export interface CacheChoices {
  readonly wish?: CacheWish | undefined;
  /** Who builds at this host, not a caller of the API. */
  readonly local: boolean;
  /** The run takes what this one made, and nothing else. */
  readonly retry?: Retry | undefined;
  /** Told why there is no store, in one sentence: a build can do without. */
  readonly report?: (line: string) => void;
}

/** Undefined where nothing is to be stored or taken. Errors: ValidationFailed for a tag that means nothing; StateUnwritable where `from` needs the store. */
export async function stepCache(
  resource: StoredResource,
  runId: string,
  { database, home }: Pick<RunEnvironment, 'database' | 'home'>,
  { wish = {}, local, retry, report }: CacheChoices,
): Promise<StepCache | undefined> {
  const neverSteps = neverCached(resource);
  if (wish.use === false) return undefined;
  const { fresh, from }: CacheWish = retry ? { from: 'distribute' } : wish;
  const { maxAge = local ? Number.POSITIVE_INFINITY : RETRY_AGE } = wish;
  const isYoung = ({ madeAt, ranAt = madeAt }: LayerRecord) => Date.now() - Date.parse(ranAt) <= maxAge * 1000;
  const store = await openStore(home.cache, database).catch(error => {
    if (from !== undefined) throw error;
    report?.(`Nothing is kept or taken between builds: ${asKilnError(error).message}`);
  });
  if (!store) return undefined;
  const common = { store, neverSteps, fresh, from };
  if (retry)
    return {
      ...{ ...common, shared: false, takes: retry.takes },
      otherwise: `The image of run ${retry.runId} is not kept any more, or never was (kiln.cache, --no-cache), or the template is another one since: run the template again.`,
    };
  const failed = local ? undefined : await failedBefore(database, resource.id, runId);
  return {
    ...common,
    shared: local,
    // A machine that has only booted is not a step of anybody's, and as old as its source.
    takes: (record, { kind }) => kind === 'boot' || (isYoung(record) && (failed?.has(record.runId) ?? true)),
  };
}

async function openStore(cache: string, database: Kysely<Schema>): Promise<LayerStore> {
  const store = await openLayerStore(cache);
  if (!store.writable)
    throw new KilnError('StateUnwritable', `${store.directory} can only be read.`, { target: store.directory });
  await store.sweep();
  await dropOrphans(store, database);
  return store;
}

/** Indexes of the steps that the tags name. */
function neverCached(resource: StoredResource): number[] {
  const { tags, properties } = templateOf(resource);
  const found: number[] = [];
  for (const [tag, value] of Object.entries(tags)) {
    const name = tag === CACHE_TAG ? undefined : tag.startsWith(`${CACHE_TAG}.`) && tag.slice(CACHE_TAG.length + 1);
    if (name === false) continue;
    if (value.toLowerCase() !== 'never')
      throw new KilnError('ValidationFailed', `The tag ${tag} is '${value}'; it can only be never.`, {
        target: `tags['${tag}']`,
      });
    const all = [...properties.customize.keys()];
    const named = all.filter(index => name === undefined || properties.customize[index]!.name === name);
    const steps = named.length > 0 ? named : all.filter(index => String(index + 1) === name);
    if (steps.length === 0 && name !== undefined)
      throw new KilnError('ValidationFailed', `The tag ${tag} names a step that the template does not have.`, {
        target: `tags['${tag}']`,
      });
    found.push(...steps);
  }
  return found;
}

/** The runs of a template that failed, one after the other, right before this one. */
async function failedBefore(database: Kysely<Schema>, templateId: string, runId: string): Promise<Set<string>> {
  const runs = await database
    .selectFrom('run')
    .select(['id', 'state'])
    .where('template_id', '=', templateId.toLowerCase())
    .where('id', '!=', runId)
    .orderBy('created_at', 'desc')
    .limit(20)
    .execute();
  const end = runs.findIndex(({ state }) => state !== 'Failed');
  return new Set(runs.slice(0, end < 0 ? runs.length : end).map(({ id }) => id));
}
