import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BuildState, PhaseContext, TakenLayer } from '../phase.ts';
import { imageLayer, proofLayer } from './image-layer.ts';

test('an image that is taken is of the generation that its own template names: one disk is the source of both', async () => {
  const common = { osType: 'Linux', firmware: 'bios' } as const;
  const disk = { format: 'qcow2', virtualSize: 4096, allocatedSize: 512 } as const;
  const made = {
    source: { ...common, hyperVGeneration: 'V2' },
    image: { ...common, ...disk, hyperVGeneration: 'V2', path: '/first/image.qcow2' },
    identity: { machineId: 'id', hostKeys: [] },
    artifacts: [{ ...disk, path: '/first/image.qcow2', fsverity: 'digest' }],
  } as unknown as BuildState;
  const context = { directory: '/second' } as PhaseContext;
  const layer = imageLayer(true);
  const { facts, files } = await (await layer.keep(made, context))!.content;
  const taken: TakenLayer = { facts, names: Object.keys(files), take: async () => ({ intact: Promise.resolve() }) };
  const here = { source: { ...common, hyperVGeneration: 'V1' } } as unknown as BuildState;
  for (const restored of [
    await layer.restore([taken], here, context),
    await proofLayer().restore(
      [taken, { facts: {}, names: [], take: async () => ({ intact: Promise.resolve() }) }],
      here,
      context,
    ),
  ]) {
    assert.equal(restored.image!.hyperVGeneration, 'V1');
    assert.equal(restored.image!.path, '/second/image.qcow2');
    assert.equal(restored.artifacts![0]!.fsverity, 'digest');
  }
});
