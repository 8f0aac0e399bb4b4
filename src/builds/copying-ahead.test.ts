import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as later } from 'node:timers/promises';
import { inDirectory } from '../../test/disk-pieces.ts';
import { createOverlay, MIB } from '../disks/qemu-img.ts';
import { copyingAhead } from './copying-ahead.ts';
import type { BuildState, Phase, PhaseContext } from './phase.ts';

async function inBuild(use: (state: BuildState, context: PhaseContext, owned: AsyncDisposable[]) => Promise<void>) {
  await inDirectory(async directory => {
    const [raw, path] = [join(directory, 'base.raw'), join(directory, 'top.qcow2')];
    await writeFile(raw, Buffer.alloc(8 * MIB, 7));
    await createOverlay({ backing: { path: raw, format: 'raw' }, path, beside: true });
    const owned: AsyncDisposable[] = [];
    const context = { directory, own: (held: AsyncDisposable) => void owned.push(held) } as unknown as PhaseContext;
    await use({ disk: { path, format: 'qcow2' } }, context, owned);
    for (const held of owned) await held[Symbol.asyncDispose]();
    assert.deepEqual((await readdir(directory)).sort(), ['base.raw', 'top.qcow2']);
  });
}

const phase = (run: Phase['run']): Phase => ({
  kind: 'customize',
  name: 'step',
  subState: 'Customizing',
  inputs: {},
  run,
});

test('the first phase that runs begins the copy, those after it go on with that one, and the build owns it', async () => {
  await inBuild(async (state, context, owned) => {
    const passing = copyingAhead(phase(async state => ({ state })));
    const first = await passing.run(state, context);
    assert.ok(first.state.ahead);
    const second = await passing.run(first.state, context);
    assert.equal(second.state.ahead, first.state.ahead);
    assert.deepEqual(owned, [first.state.ahead]);
  });
});

test('a phase that fails ends the copy: a machine that is kept holds none', async () => {
  await inBuild(async (state, { directory, ...context }) => {
    const left = async () => (await readdir(directory)).includes('ahead.vhd');
    const failing = copyingAhead(
      phase(async () => {
        for (let waited = 0; !(await left()) && waited < 20_000; waited += 20) await later(20);
        assert.ok(await left());
        throw new Error('exit code 1');
      }),
    );
    await assert.rejects(failing.run(state, { directory, ...context }), /exit code 1/);
    assert.equal(await left(), false);
  });
});
