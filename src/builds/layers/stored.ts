/** How far the stored layers lead: the last phase whose state can be made of them. */
import type { Phase } from '../phase.ts';
import type { LayerRecord } from './record.ts';
import type { LayerStore } from './store.ts';

export interface StoredChoice {
  readonly store: LayerStore;
  /** Whether a stored layer may be taken. */
  readonly takes: (record: LayerRecord, phase: Phase) => boolean;
  /** The first phase that runs whatever is stored. */
  readonly freshFrom: number;
  /** The first phase whose outcome its inputs do not tell: neither it nor what follows is kept. */
  readonly neverFrom: number;
}

export interface Stored {
  readonly index: number;
  /** What it is made of, itself at the end. */
  readonly records: readonly LayerRecord[];
}

/** Indexes of the phases whose layers make the state after a phase, itself at the end. */
export const chainOf = (phases: readonly Phase[], index: number): number[] => [
  ...[...phases.keys()].filter(
    at => at < index && phases[at]!.layer && phases[index]!.layer!.on.includes(phases[at]!.kind),
  ),
  index,
];

/** @param usable further conditions on the index */
export async function furthestStored(
  choice: StoredChoice,
  phases: readonly Phase[],
  keys: readonly string[],
  usable: (index: number) => boolean = () => true,
): Promise<Stored | undefined> {
  const end = Math.min(phases.length, choice.freshFrom, choice.neverFrom);
  for (let index = end - 1; index > 0; index--) {
    const records = phases[index]!.layer && usable(index) && (await recordsOf(choice, phases, keys, index));
    if (records) return { index, records };
  }
  return undefined;
}

async function recordsOf(
  { store, takes }: StoredChoice,
  phases: readonly Phase[],
  keys: readonly string[],
  index: number,
): Promise<LayerRecord[] | undefined> {
  const records: LayerRecord[] = [];
  for (const at of chainOf(phases, index)) {
    const record = await store.look(keys[at]!);
    if (!record || !takes(record, phases[at]!)) return undefined;
    if (record.parent !== records.at(-1)?.id) {
      // It stands on bytes that are no more.
      await store.remove(record.key).catch(() => {});
      return undefined;
    }
    records.push(record);
  }
  return records;
}
