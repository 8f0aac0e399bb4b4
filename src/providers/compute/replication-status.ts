/** `replicationStatus` of an image version: what is true of its files in each region now. */
import { findRegion } from '../../arm/locations.ts';
import type { Resource } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { targetRegions } from './latest-version.ts';
import type { ReplicaRow } from './replica-rows.ts';

type State = 'Unknown' | 'Replicating' | 'Completed' | 'Failed';

/** @param rows those of the version. @param present regions in which its files are. */
export function replicationStatus(
  version: Pick<Resource, 'properties'>,
  rows: readonly ReplicaRow[],
  present: ReadonlySet<string>,
): JsonObject {
  const summary = targetRegions(version).map(({ region }) => {
    const row = rows.find(one => one.region === region);
    const state: State = row?.state ?? (present.has(region) ? 'Completed' : 'Unknown');
    return {
      region: findRegion(region)?.displayName ?? region,
      state,
      details: row?.details ?? (state === 'Unknown' ? 'The files of this replica are not in the store.' : ''),
      progress: state === 'Completed' ? 100 : (row?.progress ?? 0),
    };
  });
  const states = new Set(summary.map(({ state }) => state));
  const aggregatedState = states.has('Failed')
    ? 'Failed'
    : states.has('Replicating')
      ? 'InProgress'
      : states.has('Unknown')
        ? 'Unknown'
        : 'Completed';
  return { aggregatedState, summary };
}
