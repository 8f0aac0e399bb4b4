import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pinSource } from './overlays.ts';

test('a run that is done again stands on its own source, not on the one that an earlier attempt has left', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'kiln-pin-'));
  try {
    const run = join(scratch, 'run');
    await mkdir(run);
    const [old, latest] = [join(scratch, 'old'), join(scratch, 'latest')];
    await writeFile(old, 'old');
    await writeFile(latest, 'latest');
    await link(old, join(run, 'source.qcow2'));
    const pinned = await pinSource({ path: latest }, run);
    assert.equal(await readFile(pinned.path, 'utf8'), 'latest');
    assert.equal(await readFile(old, 'utf8'), 'old');
    // Once more, of what is pinned: as it is.
    assert.deepEqual(await pinSource(pinned, run), pinned);
    assert.equal((await stat(latest)).ino, (await stat(pinned.path)).ino);
  } finally {
    await rm(scratch, { recursive: true });
  }
});
