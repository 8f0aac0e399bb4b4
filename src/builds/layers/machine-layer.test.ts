/** What is kept of a machine with several disks, and how another one goes on from it; real guests are in test/boot. */
import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { inspect } from '../../disks/qemu-img.ts';
import type { SourceImage } from '../../images/source.ts';
import type { Machine, MachineFactory, MachineShape, ResumeRequest } from '../../machines/machine.ts';
import { run } from '../../processes/process.ts';
import type { PhaseContext, TakenLayer } from '../phase.ts';
import { redactor } from '../redact.ts';
import { machineLayer, machineRequest } from './machine-layer.ts';

const SHAPE: MachineShape = {
  ...{ kind: 'qemu', processors: 1, memoryMiB: 1024, firmware: 'bios', accelerator: 'tcg', model: 'a/b/c' },
};

test('every disk is kept with each layer, and stands on its own of the one before', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'kiln-machine-layer-'));
  try {
    const [first, second] = [join(scratch, 'first'), join(scratch, 'second')];
    for (const directory of [first, second]) await mkdir(directory);
    const disk = async (path: string, size: string, below?: string) => {
      const backing = below === undefined ? [] : ['-u', '-b', below, '-F', 'qcow2'];
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, path, size]);
      return path;
    };
    const source = {
      disk: { path: await disk(join(scratch, 'source'), '8M'), format: 'qcow2' },
      ...{ firmware: 'bios', provisioning: 'cloud-init' },
    } as unknown as SourceImage;
    const context = {
      runId: 'r',
      logDirectory: scratch,
      log: { say() {}, redact: redactor(['hunter2hunter2']) },
    } as unknown as PhaseContext;
    const place = { depth: 1, layers: 3, luns: [0, 2] };
    const request = machineRequest(SHAPE, source, { ...context, directory: first }, place);
    const { consoleFilter } = request;
    const seen = ['root# echo hunter2', 'hunter%32\n'].map(chunk => String(consoleFilter!.push(Buffer.from(chunk))));
    assert.deepEqual(seen, ['root# echo ', '<sensitive>\n']);
    assert.deepEqual(
      request.dataDisks!.map(({ lun, disk, checkpoints }) => [
        lun,
        basename(disk.path),
        checkpoints!.map(one => basename(one)),
      ]),
      [
        [0, 'lun0-layer-1.qcow2', ['lun0-layer-2.qcow2', 'lun0-layer-3.qcow2', 'lun0-layer-4.qcow2']],
        [2, 'lun2-layer-1.qcow2', ['lun2-layer-2.qcow2', 'lun2-layer-3.qcow2', 'lun2-layer-4.qcow2']],
      ],
    );
    assert.equal(request.checkpoints!.length, 3);
    for (const { disk: one } of request.dataDisks!) await disk(one.path, '16M');
    await disk(request.disk.path, '8M', 'source.qcow2');
    const machine = {
      checkpoint: async () => ({ disk: request.disk, dataDisks: request.dataDisks, facts: {}, pausedMs: 1 }),
    } as unknown as Machine;
    const layer = machineLayer(SHAPE, 1, 3);
    const kept = (await layer.keep({ machine, disk: request.disk, source }, { ...context, directory: first }))!;
    assert.deepEqual(
      kept.state.dataDisks!.map(({ lun, disk }) => [lun, basename(disk.path)]),
      [
        [0, 'lun0-layer-2.qcow2'],
        [2, 'lun2-layer-2.qcow2'],
      ],
    );
    const { files, facts } = await kept.content;
    assert.deepEqual(Object.keys(files).sort(), ['layer-1.qcow2', 'lun0-layer-1.qcow2', 'lun2-layer-1.qcow2']);
    const taken: TakenLayer = {
      ...{ facts: JSON.parse(JSON.stringify(facts)), names: Object.keys(files) },
      async take(names = Object.keys(files)) {
        for (const name of names) await link(files[name]!, join(second, name));
        return { intact: Promise.resolve() };
      },
    };
    let resumed: ResumeRequest | undefined;
    const machines = {
      async resume(one: ResumeRequest) {
        resumed = one;
        return {} as Machine;
      },
    } as unknown as MachineFactory;
    const state = await layer.restore([taken], { source }, { ...context, directory: second, machines, own() {} });
    for (const [index, lun] of [0, 2].entries()) {
      const path = join(second, `lun${lun}-layer-2.qcow2`);
      assert.equal(resumed!.dataDisks![index]!.disk.path, path);
      assert.equal(state.dataDisks![index]!.disk.path, path);
      const { backingFile, virtualSize } = await inspect(path, 'qcow2');
      assert.deepEqual([backingFile, virtualSize], [`lun${lun}-layer-1.qcow2`, 16 * 1024 ** 2]);
    }
    assert.equal(state.disk!.path, join(second, 'layer-2.qcow2'));
    // Whoever checks the memory by what the machine reads of it is told when that will not be.
    const read: Promise<boolean>[] = [];
    const waiting: TakenLayer = {
      ...taken,
      async take(_, by = {}) {
        read.push(...Object.values(by));
        return { intact: new Promise<void>(() => {}) };
      },
    };
    const unable = { resume: () => Promise.reject(new Error('no such machine')) } as unknown as MachineFactory;
    const again = layer.restore([waiting], { source }, { ...context, directory: second, machines: unable, own() {} });
    await assert.rejects(again, /no such machine/);
    await assert.rejects(read[0]!, /was not read/);
  } finally {
    await rm(scratch, { recursive: true });
  }
});
