import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../processes/process.ts';
import { sweepFrozen } from './frozen.ts';

const skip = process.getuid?.() !== 0 && 'mounting disks takes root';

/** Mounts the disk as a container machine does, freezes it, and is killed instead of going on in the next overlay. */
const KILLED = `
  import { rm } from 'node:fs/promises';
  import net from 'node:net';
  import { Cell } from ${JSON.stringify(join(import.meta.dirname, 'cell.ts'))};
  import { mountDisk } from ${JSON.stringify(join(import.meta.dirname, 'mounted-disk.ts'))};
  const directory = process.argv[1];
  const outer = await Cell.open();
  const disk = { path: directory + '/disk.qcow2', format: 'qcow2' };
  const mounted = await mountDisk(outer, () => Cell.open(outer), { directory, name: 'build', disk, report() {} });
  await rm(directory + '/build.qmp');
  net.createServer(() => process.kill(process.pid, 'SIGKILL')).listen(directory + '/build.qmp');
  await mounted.freeze(directory + '/next.qcow2');
`;

test('what a kill has left frozen is thawed, and its loop device free again', { skip }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-frozen-'));
  try {
    const system = join(directory, 'system');
    for (const name of ['bin', 'etc']) await mkdir(join(system, name), { recursive: true });
    await writeFile(join(system, 'bin/sh'), '');
    await writeFile(join(system, 'etc/fstab'), '');
    const raw = join(directory, 'disk.img');
    await run('truncate', ['--size', '64M', raw]);
    await run('mke2fs', ['-q', '-t', 'ext4', '-d', system, raw]);
    await run('qemu-img', ['convert', '-O', 'qcow2', raw, join(directory, 'disk.qcow2')]);
    const node = ['--input-type=module', '-e', KILLED, directory];
    await run(process.execPath, node, { ok: [128] });
    const [{ device }] = JSON.parse(await readFile(join(directory, 'build.frozen.json'), 'utf8'));
    const attached = async () => {
      const { stdout } = await run('losetup', ['--noheadings', '--output', 'BACK-FILE', device], { ok: [0, 1] });
      return stdout.trim() === '/';
    };
    // What is not frozen goes by itself.
    await sleep(2000);
    assert.ok(await attached(), 'the kill came in time');
    await sweepFrozen(directory);
    assert.equal(await attached(), false);
    assert.deepEqual(
      (await readdir(directory)).filter(name => name.endsWith('.json')),
      [],
    );
    await sweepFrozen(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a note that a kill or a full disk cut off keeps nobody from clearing the directory', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-frozen-'));
  try {
    for (const text of ['', '[{"device":"/dev/lo'])
      await writeFile(join(directory, `build${text.length}.frozen.json`), text);
    await sweepFrozen(directory);
    assert.deepEqual(
      (await readdir(directory)).filter(name => name.endsWith('.json')),
      [],
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});
