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
    dataArtifacts: [{ ...disk, lun: 4, path: '/first/image-lun4.qcow2', fsverity: 'of data' }],
  } as unknown as BuildState;
  const context = { directory: '/second' } as PhaseContext;
  const layer = imageLayer(true);
  const { facts, files } = await (await layer.keep(made, context))!.content;
  assert.deepEqual(files, { 'image.qcow2': '/first/image.qcow2', 'image-lun4.qcow2': '/first/image-lun4.qcow2' });
  const linked = new Set<string>();
  const take = async (names: readonly string[] = []) => {
    for (const name of names) linked.add(name);
    return { intact: Promise.resolve() };
  };
  const taken: TakenLayer = { facts, names: Object.keys(files), take };
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
    const [data] = restored.dataArtifacts!;
    assert.deepEqual([data!.lun, data!.path, data!.fsverity], [4, '/second/image-lun4.qcow2', 'of data']);
    assert.ok(linked.has('image-lun4.qcow2'));
  }
});
