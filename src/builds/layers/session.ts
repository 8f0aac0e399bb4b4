/**
 * What one build takes from the layer store and keeps in it. A layer that another build is making is waited for and taken; layers are stored while the build goes
 * on; nothing that goes wrong with the store fails a build.
 */
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asKilnError, KilnError } from '../../arm/errors.ts';
import type { BuildState, Phase, PhaseContext, PhaseResult, TakenLayer } from '../phase.ts';
import { layerBudget, prune } from './budget.ts';
import { chainOf, furthestStored, type Stored, type StoredChoice } from './stored.ts';

/** Of the phases' indexes, all of them after that of the source. */
export interface LayerChoice extends StoredChoice {
  /** Layers are there for other builds too: of two that need the same new one, the second waits. A warm start always is. */
  readonly shared: boolean;
  /** The build is refused unless it begins at `freshFrom`. */
  readonly required: boolean;
  readonly otherwise?: string;
}

/** What is stored of a phase that is not run. */
export interface CachedPhase extends Pick<PhaseResult, 'detail' | 'summary'> {
  readonly madeAt?: string;
  readonly savedSeconds?: number;
}

/** The build goes on behind a phase, as if it had run. */
export interface Jump {
  /** The last phase that need not run. */
  readonly index: number;
  readonly state: BuildState;
  readonly seen: (index: number) => CachedPhase;
}

export interface LayerSession {
  /** All that can be known of keys is known. */
  begin(keys: readonly string[]): void;
  /** Where the build can go on instead of running this phase: asked of every phase after the source's, answered at the first. */
  reach(index: number, state: BuildState): Promise<Jump | undefined>;
  /** After a phase has run. @returns what the build goes on with */
  keep(index: number, result: PhaseResult, seconds: number): Promise<BuildState>;
  /** Everything that is to be stored is, and nothing is claimed any more. */
  settled(): Promise<void>;
}

class Damaged extends Error {}

/** So many layers may wait to be stored: many short steps would else fill the disk with memory faster than it is written to the store, and pruned. */
const WAITING = 3;

export function openLayerSession(choice: LayerChoice, phases: readonly Phase[], context: PhaseContext): LayerSession {
  const { store } = choice;
  const claims = new Map<number, AsyncDisposable>();
  /** Ids of the layers that this build stands on, by the index of their phases. */
  const ids = new Map<number, string>();
  let keys: readonly string[] = [];
  let storing: Promise<void> = Promise.resolve();
  let waiting = 0;
  let stopped = false;
  let cold = false;
  let unlocked = false;
  /** Of the phases since the last layer that have none of their own: the next one saves them too. */
  let unkept = 0;
  /** When the first of the steps ran that this build has taken instead of running them. */
  let ranAt: string | undefined;
  /** Phases whose layers could not be taken. */
  const barred = new Set<number>();

  const isMachine = (index: number) => ['boot', 'customize'].includes(phases[index]!.kind);
  const release = async (index: number) => {
    const claim = claims.get(index);
    claims.delete(index);
    await claim?.[Symbol.asyncDispose]();
  };

  const furthest = () =>
    furthestStored(choice, phases, keys, index => !barred.has(index) && !(cold && isMachine(index)));

  /** Claims the next layer that has to be made; earlier ones are held until then. @returns whether somebody else had it meanwhile */
  async function claim(from: number): Promise<boolean> {
    const next = phases.findIndex(({ layer }, at) => at >= from && layer);
    const shared = next >= 0 && (choice.shared || phases[next]!.kind === 'boot');
    let waited = false;
    if (shared && !unlocked && next < choice.neverFrom && !claims.has(next)) {
      const onWait = () => {
        waited = true;
        context.log.say(`Another build is making ${titleOf(phases[next]!)}; waiting for it.`);
      };
      try {
        claims.set(next, await store.lock(keys[next]!, { signal: context.signal, onWait }));
      } catch (error) {
        context.signal.throwIfAborted();
        // Without the lock, what another build makes too is made twice.
        context.log.say(`The layer store gives no locks: ${asKilnError(error).message}`);
        unlocked = true;
      }
    }
    const earlier = [...claims.keys()].filter(at => at < from);
    storing = storing.then(async () => {
      for (const at of earlier) await release(at);
    });
    return waited;
  }

  async function sayWhyCold(index: number, state: BuildState): Promise<void> {
    const { missed } = phases[index]!.layer!;
    const sentence = missed?.(await store.list().catch(() => []), state);
    if (sentence !== undefined) context.log.say(sentence);
  }

  async function restore({ index, records }: Stored, state: BuildState) {
    const checks: Promise<void>[] = [];
    const taken = records.map(
      (record): TakenLayer => ({
        facts: record.facts,
        names: record.files.map(({ name }) => name),
        async take(names, read) {
          const options = { signal: context.signal, ...(names && { names }), ...(read && { read }) };
          const { damage } = await store.take(record, context.directory, options);
          const intact = damage.then(what => {
            if (what === undefined) return;
            context.log.say(`The stored layer of ${record.name} is damaged (${what}); it is made again.`);
            throw new Damaged();
          });
          intact.catch(() => {});
          checks.push(intact);
          return { intact };
        },
      }),
    );
    try {
      return await phases[index]!.layer!.restore(taken, state, context);
    } catch (error) {
      // Files of a damaged layer are gone as soon as that is known: what else went wrong may come of it. And nobody takes names away that the next layer has been given.
      const checked = await Promise.allSettled(checks);
      const damage = checked.find(one => one.status === 'rejected' && one.reason instanceof Damaged);
      // Names of stored files, which what runs now must not write to.
      for (const { files } of records)
        for (const { name } of files) await rm(join(context.directory, name), { force: true });
      throw damage ? new Damaged() : error;
    }
  }

  return {
    begin(known) {
      keys = known;
    },
    async reach(index, state) {
      if (!phases[index]!.layer) return undefined;
      if (index > 1) {
        await claim(index);
        return undefined;
      }
      for (;;) {
        const found = await furthest();
        const before = phases.findLastIndex(({ layer }, at) => at < choice.freshFrom && layer);
        if (choice.required && (found?.index ?? 0) < before)
          throw nothingBefore(phases[choice.freshFrom]!, phases[before]!, choice.otherwise);
        const waited = await claim((found?.index ?? index - 1) + 1);
        // What was there may have gone, and another have come, before the next one was claimed.
        const now = await furthest();
        if (waited || now?.records.at(-1)?.id !== found?.records.at(-1)?.id) {
          for (const at of [...claims.keys()]) await release(at);
          continue;
        }
        if (!found) {
          if (!cold && index < choice.freshFrom) await sayWhyCold(index, state);
          return undefined;
        }
        try {
          const restored = await restore(found, state);
          for (const [n, at] of chainOf(phases, found.index).entries()) ids.set(at, found.records[n]!.id);
          const last = found.records.at(-1)!;
          // Of a machine that has only booted, everything is as old as the source.
          if (phases[found.index]!.kind !== 'boot') ranAt = last.ranAt ?? last.madeAt;
          const seen = new Map<number, CachedPhase>();
          for (let at = index; at <= found.index; at++) {
            const record = phases[at]!.layer && (await store.look(keys[at]!));
            if (!record) continue;
            const { madeAt, seconds, detail, summary } = record;
            seen.set(at, { madeAt, savedSeconds: seconds, ...(detail && { detail }), ...(summary && { summary }) });
          }
          return { index: found.index, state: restored, seen: at => seen.get(at) ?? {} };
        } catch (error) {
          context.signal.throwIfAborted();
          for (const at of [...claims.keys()]) await release(at);
          if (error instanceof Damaged) continue;
          const { message } = asKilnError(error);
          barred.add(found.index);
          cold ||= isMachine(found.index);
          context.log.say(
            isMachine(found.index)
              ? `The machine cannot go on from a stored layer: ${message} It starts anew.`
              : `The stored layer of ${titleOf(phases[found.index]!)} cannot be taken: ${message}`,
          );
        }
      }
    },
    async keep(index, { state, detail, summary }, took) {
      const { layer } = phases[index]!;
      const seconds = unkept + took;
      unkept = layer ? 0 : seconds;
      if (!layer || stopped || index >= choice.neverFrom) return state;
      const chain = chainOf(phases, index).slice(0, -1);
      // What it stands on is not stored: nobody could use it.
      if (chain.length > 0 && !ids.has(chain.at(-1)!)) return state;
      try {
        if (waiting >= WAITING) await storing;
        if (stopped) return state;
        const kept = await layer.keep(state, context);
        if (!kept) return state;
        const id = randomUUID();
        ids.set(index, id);
        const parent = chain.length > 0 ? ids.get(chain.at(-1)!) : undefined;
        const said = { ...(detail && { detail }), ...(summary && { summary }) };
        Promise.resolve(kept.content).catch(() => {});
        waiting++;
        storing = storing.then(() => write(index, { id, parent, seconds, said, content: kept.content }));
        return kept.state;
      } catch (error) {
        context.signal.throwIfAborted();
        await giveUp(index, error);
        return state;
      }
    },
    async settled() {
      await storing;
      for (const index of [...claims.keys()]) await release(index);
    },
  };

  async function write(
    index: number,
    layer: {
      id: string;
      parent: string | undefined;
      seconds: number;
      said: Pick<PhaseResult, 'detail' | 'summary'>;
      content: LayerContentOf;
    },
  ): Promise<void> {
    try {
      if (stopped) return;
      const { files, checksums, facts } = await layer.content;
      const { id, parent, seconds, said } = layer;
      const name = titleOf(phases[index]!);
      const { runId, signal } = context;
      const known = { ...(checksums && { checksums }), ...(ranAt !== undefined && { ranAt }) };
      await store.keep(
        { key: keys[index]!, id, parent, name, runId, seconds, ...said, files, ...known, facts },
        signal,
      );
      await prune(store, { budget: await layerBudget(store.directory) });
    } catch (error) {
      if (!context.signal.aborted) await giveUp(index, error);
    } finally {
      waiting--;
      await Promise.resolve(layer.content)
        .then(({ release }) => release?.())
        .catch(() => {});
    }
  }

  async function giveUp(index: number, thrown: unknown): Promise<void> {
    stopped = true;
    const error = asKilnError(thrown);
    context.log.say(`${titleOf(phases[index]!)} cannot be kept as a layer, nor what follows: ${error.message}`);
    await release(index);
    if (error.code !== 'DiskFull') return;
    // Wherever the store lies: as long as it is full of old layers, no newer one can be kept.
    await prune(store, { budget: 0 }).catch(() => {});
  }
}

type LayerContentOf = NonNullable<Awaited<ReturnType<NonNullable<Phase['layer']>['keep']>>>['content'];

const titleOf = ({ kind, name }: Phase) => `${kind} ${name}`;

function nothingBefore(step: Phase, before: Phase, otherwise?: string): KilnError {
  return new KilnError('NotFound', `${titleOf(before)} is not stored, so the build cannot begin at ${titleOf(step)}.`, {
    target: titleOf(step),
    hint: otherwise ?? 'Build without --from; `kiln plan` shows what is stored.',
  });
}
