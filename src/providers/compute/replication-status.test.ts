import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replicationStatus } from './replication-status.ts';

const version = {
  properties: {
    publishingProfile: { targetRegions: [{ name: 'East US' }, { name: 'West US 2' }, { name: 'UK South' }] },
  },
};
const row = (region: string, state: 'Replicating' | 'Failed', progress = 0, details = '') => ({
  ...{ region, state, progress, details },
});
const all = new Set(['eastus', 'westus2', 'uksouth']);

test('each region says what is true of it, and the worst of them is the whole', () => {
  const told = (rows: Parameters<typeof replicationStatus>[1], present = all) => {
    const { aggregatedState, summary } = replicationStatus(version, rows, present) as {
      aggregatedState: string;
      summary: { region: string; state: string; progress: number; details: string }[];
    };
    return { aggregatedState, summary: summary.map(one => [one.region, one.state, one.progress]) };
  };
  const [east, west, uk] = [
    ['East US', 'Completed', 100],
    ['West US 2', 'Completed', 100],
    ['UK South', 'Completed', 100],
  ];
  assert.deepEqual(told([]), { aggregatedState: 'Completed', summary: [east, west, uk] });
  assert.deepEqual(told([row('westus2', 'Replicating', 40)]), {
    aggregatedState: 'InProgress',
    summary: [east, ['West US 2', 'Replicating', 40], uk],
  });
  assert.deepEqual(told([row('westus2', 'Replicating', 40), row('uksouth', 'Failed', 0, 'full')]), {
    aggregatedState: 'Failed',
    summary: [east, ['West US 2', 'Replicating', 40], ['UK South', 'Failed', 0]],
  });
  assert.deepEqual(told([], new Set(['eastus', 'uksouth'])), {
    aggregatedState: 'Unknown',
    summary: [east, ['West US 2', 'Unknown', 0], uk],
  });
});
