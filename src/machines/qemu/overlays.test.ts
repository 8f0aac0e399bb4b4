import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { inspect, MIB } from '../../disks/qemu-img.ts';
import { run } from '../../processes/process.ts';
import { openDiskChain } from './disk-chain.ts';
import { openOverlays } from './overlays.ts';

test('overlays are as large as the disk, name what is below by its name alone, and are a chain wherever they are linked', async () => {
  const scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln,overlays:-'));
  try {
    const names = ['layer-1.qcow2', 'layer-2.qcow2', 'layer-3.qcow2'];
    const [first, ...others] = names.map(name => path.join(scratch, name));
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', first!, String(48 * MIB)]);
    const opened = await openOverlays({ path: first!, format: 'qcow2' }, others);
    for (const { handle, reading } of opened) await Promise.all([handle.close(), reading.close()]);
    for (const [index, file] of others.entries()) {
      const { virtualSize, backingFile, backingFormat } = await inspect(file, 'qcow2');
      assert.deepEqual([virtualSize, backingFile, backingFormat], [48 * MIB, names[index], 'qcow2']);
    }
    const elsewhere = path.join(scratch, 'elsewhere');
    await mkdir(elsewhere);
    for (const name of names) await link(path.join(scratch, name), path.join(elsewhere, name));
    await rm(first!);
    const chain = await openDiskChain(path.join(elsewhere, 'layer-3.qcow2'), 'qcow2');
    for (const { handle } of chain) await handle.close();
    assert.equal(chain.length, 3);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});

test('what is there under the name of an overlay is replaced, not written into: it may be a link to a stored layer', async () => {
  const scratch = await mkdtemp(path.join(os.tmpdir(), 'kiln-overlays-'));
  try {
    const [disk, stored, linked] = ['layer-1.qcow2', 'stored', 'layer-2.qcow2'].map(name => path.join(scratch, name));
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk!, String(MIB)]);
    await writeFile(stored!, 'a layer');
    await link(stored!, linked!);
    for (const { handle, reading } of await openOverlays({ path: disk!, format: 'qcow2' }, [linked!]))
      await Promise.all([handle.close(), reading.close()]);
    assert.equal(await readFile(stored!, 'utf8'), 'a layer');
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});

test('without checkpoints nothing is made', async () => {
  assert.deepEqual(await openOverlays({ path: '/nowhere', format: 'qcow2' }, []), []);
});
