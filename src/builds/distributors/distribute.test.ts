import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { KilnError } from '../../arm/errors.ts';
import { dataDisksOf } from '../../images/data-disks.ts';
import { find, list } from '../../images/store.ts';
import type { Artifact } from '../artifacts.ts';
import type { BuildLog } from '../log.ts';
import type { BuildState, PhaseContext } from '../phase.ts';
import {
  type DistributionTarget,
  distributePhase,
  type Placement,
  publishedPhase,
  type UploadTarget,
} from './distribute.ts';

const ID = '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/i';
const sha256 = createHash('sha256').update('source').digest('hex');
const fsverity = `sha256:${createHash('sha256').update('disk').digest('hex')}`;

async function withHome(use: (home: string, artifacts: readonly Artifact[]) => Promise<void>): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), 'kiln-distribute-'));
  const path = join(home, 'image.qcow2');
  await writeFile(path, 'disk');
  const artifact: Artifact = { path, format: 'qcow2', fsverity, virtualSize: 4, allocatedSize: 4 };
  try {
    await use(home, [artifact]);
  } finally {
    await rm(home, { recursive: true });
  }
}

function target(options: {
  readonly ids: readonly string[];
  readonly locations?: readonly string[];
  record: DistributionTarget['record'];
}): DistributionTarget {
  let next = 0;
  return {
    type: 'ManagedImage',
    runOutputName: 'out',
    label: 'label',
    lane: 'lane',
    place: async (): Promise<Placement> => ({
      id: options.ids[Math.min(next++, options.ids.length - 1)]!,
      name: 'i',
      locations: options.locations ?? ['westus2'],
      tags: {},
    }),
    record: options.record,
  };
}

const state: BuildState = {
  source: {
    name: 'source',
    exactVersion: '1.0.0',
    disk: { path: '/nowhere', format: 'qcow2' },
    sha256,
    virtualSize: 4,
    osType: 'Linux',
    hyperVGeneration: 'V1',
    firmware: 'bios',
    provisioning: 'cloud-init',
  },
  image: {
    path: '/nowhere',
    format: 'qcow2',
    virtualSize: 4,
    allocatedSize: 4,
    hyperVGeneration: 'V1',
    osType: 'Linux',
    firmware: 'bios',
  },
};
const context = { signal: new AbortController().signal, log: { say() {} } as unknown as BuildLog } as PhaseContext;

const run = (one: DistributionTarget, home: string, artifacts: readonly Artifact[], runId: string) =>
  distributePhase(one, home, { runId, templateId: '/t' }).run({ ...state, artifacts }, context);

test('an image takes the place of the one before it, in every location, when it is recorded', async () => {
  await withHome(async (home, artifacts) => {
    const both = { ids: [ID], locations: ['westus2', 'eastus'], record: async () => true };
    await run(target(both), home, artifacts, 'run1');
    await run(target(both), home, artifacts, 'run2');
    const images = await list(home);
    assert.deepEqual(images.map(({ manifest }) => [manifest.location, manifest.runId]).sort(), [
      ['eastus', 'run2'],
      ['westus2', 'run2'],
    ]);
    assert.equal((await find(home, 'i')).manifest.runId, 'run2');
  });
});

test('what cannot be recorded destroys nothing that was there', async () => {
  await withHome(async (home, artifacts) => {
    await run(target({ ids: [ID], record: async () => true }), home, artifacts, 'run1');
    const broken = target({
      ids: [ID],
      record: async () => {
        throw new Error('the database is away');
      },
    });
    await assert.rejects(run(broken, home, artifacts, 'run2'), { code: 'DistributionFailed' });
    assert.deepEqual(
      (await list(home)).map(({ manifest }) => manifest.runId),
      ['run1'],
    );
  });
});

test('data disks come and go with their image, each under an id of its own', async () => {
  await withHome(async (home, artifacts) => {
    const one = target({ ids: [ID], locations: ['westus2', 'eastus'], record: async () => true });
    const data = (runId: string, ...luns: number[]) =>
      distributePhase(one, home, { runId, templateId: '/t' }).run(
        { ...state, artifacts, dataArtifacts: luns.map(lun => ({ ...artifacts[0]!, lun })) },
        context,
      );
    await data('run1', 0, 5);
    const image = await find(home, 'i', { location: 'eastus' });
    assert.equal(image.manifest.id, ID, 'what is found by a name is the image');
    assert.deepEqual(
      dataDisksOf(await list(home), image).map(({ lun, stored }) => [
        lun,
        stored.manifest.location,
        stored.manifest.id,
      ]),
      [
        [0, 'eastus', `${ID}/dataDisks/0`],
        [5, 'eastus', `${ID}/dataDisks/5`],
      ],
    );
    await data('run2', 1);
    const ids = (await list(home, { location: 'westus2' })).map(({ manifest }) => [manifest.id, manifest.runId]);
    assert.deepEqual(ids.sort(), [
      [ID, 'run2'],
      [`${ID}/dataDisks/1`, 'run2'],
    ]);
    const broken = target({
      ids: [ID],
      record: async () => {
        throw new Error('the database is away');
      },
    });
    const failing = distributePhase(broken, home, { runId: 'run3', templateId: '/t' });
    await assert.rejects(failing.run({ ...state, artifacts, dataArtifacts: [{ ...artifacts[0]!, lun: 1 }] }, context));
    assert.deepEqual(new Set((await list(home)).map(({ manifest }) => manifest.runId)), new Set(['run2']));
  });
});

test('a VHD is one disk, and the log says which ones it is not', async () => {
  await withHome(async (home, [artifact]) => {
    const said: string[] = [];
    const published: number[] = [];
    const vhd: DistributionTarget = {
      ...target({
        ids: ['/t/runs/r/vhds/out'],
        record: async ({ dataDisks }) => published.push(dataDisks.length) > 0,
      }),
      type: 'VHD',
    };
    const log = { say: (line: string) => void said.push(line) } as BuildLog;
    await distributePhase(vhd, home, { runId: 'run1', templateId: '/t' }).run(
      { ...state, artifacts: [{ ...artifact!, format: 'vhd' }], dataArtifacts: [{ ...artifact!, lun: 0 }] },
      { ...context, log },
    );
    assert.deepEqual([published, (await list(home)).length], [[0], 1]);
    assert.match(said[0]!, /data disks/);
  });
});

test('what one location cannot take is in none', async () => {
  await withHome(async (home, artifacts) => {
    const wide = { ids: [ID], locations: ['westus2', 'no such place', 'eastus'], record: async () => true };
    await assert.rejects(run(target(wide), home, artifacts, 'run1'), { code: 'DistributionFailed' });
    assert.deepEqual(await list(home), []);
  });
});

test('a version that another run took meanwhile is left to it, and the next one is tried', async () => {
  await withHome(async (home, artifacts) => {
    await run(target({ ids: [`${ID}1`], record: async () => true }), home, artifacts, 'other');
    const recorded: string[] = [];
    const mine = target({
      ids: [`${ID}1`, `${ID}2`],
      record: async ({ placement }) => {
        recorded.push(placement.id);
        return placement.id !== `${ID}1`;
      },
    });
    await run(mine, home, artifacts, 'mine');
    assert.deepEqual(recorded, [`${ID}1`, `${ID}2`]);
    assert.deepEqual((await list(home)).map(({ manifest }) => [manifest.id, manifest.runId]).sort(), [
      [`${ID}1`, 'other'],
      [`${ID}2`, 'mine'],
    ]);
  });
});

const sent = (upload: UploadTarget['upload']): UploadTarget => ({
  ...{ type: 'VHD', runOutputName: 'out', label: 'VHD "out"', lane: 'blob https://host/box/out.vhd', upload },
});

test('an upload gets the file of its format, and what it says is kept with the run', async () => {
  await withHome(async (home, [qcow2]) => {
    const vhd: Artifact = { ...qcow2!, format: 'vhd' };
    const seen: Artifact[] = [];
    const target = sent(async artifact => {
      seen.push(artifact);
      return { uri: 'https://host/box/out.vhd', bytes: 3 };
    });
    const phase = distributePhase(target, home, { runId: 'run', templateId: '/t' });
    assert.deepEqual(phase.about, { runOutputName: 'out', to: 'blob https://host/box/out.vhd' });
    const { bytes, detail } = await phase.run({ ...state, artifacts: [qcow2!, vhd] }, context);
    assert.deepEqual(seen, [vhd]);
    assert.deepEqual([bytes, detail], [3, { ...phase.about, uri: 'https://host/box/out.vhd', fsverity }]);
    assert.deepEqual(await list(home), [], 'nothing of it is in the store of a region');
  });
});

test('a defect of an upload is told as one of its target; what it says itself stays', async () => {
  await withHome(async (home, [qcow2]) => {
    const failing = (error: Error) => {
      const target = sent(async () => Promise.reject(error));
      const artifacts = [{ ...qcow2!, format: 'vhd' as const }];
      return distributePhase(target, home, { runId: 'run', templateId: '/t' }).run({ ...state, artifacts }, context);
    };
    await assert.rejects(failing(new Error('odd')), {
      code: 'DistributionFailed',
      message: 'VHD "out" could not be published: odd',
    });
    await assert.rejects(failing(new KilnError('UploadFailed', 'refused')), {
      code: 'UploadFailed',
      message: 'refused',
    });
  });
});

test('a target that has the image is left alone', async () => {
  await withHome(async (home, artifacts) => {
    const target = sent(() => assert.fail('nothing is sent'));
    const earlier = { runOutputName: 'out', publishedBy: 'run1' };
    const { cached, detail } = await publishedPhase(target, home, earlier).run({ ...state, artifacts }, context);
    assert.deepEqual([cached, detail], [true, earlier]);
  });
});
