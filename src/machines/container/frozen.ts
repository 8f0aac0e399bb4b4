/**
 * File systems of a container machine that stand still. A frozen one outlives its last mount, and all processes that had it: it stays in the kernel, with its loop
 * device, until somebody mounts it again and thaws it. Which they are is noted in the run's directory, so that whoever clears that finds them.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../processes/process.ts';
import type { Cell } from './cell.ts';
import type { Mounted } from './device-files.ts';

interface Frozen {
  /** `/dev/loop7` */
  readonly device: string;
  /** Of the partition, in bytes. */
  readonly offset: number;
  readonly size: number;
  readonly fileSystem: string;
}

const SUFFIX = '.frozen.json';
const PATIENCE_MS = 5000;

/** Notes the file systems, of which some may be frozen from now on. @returns what strikes them out, once they are all thawed */
export async function noteFrozen(
  cell: Cell,
  mounted: readonly Mounted[],
  directory: string,
  name: string,
): Promise<() => Promise<void>> {
  const file = join(directory, name + SUFFIX);
  const frozen: Frozen[] = [];
  for (const { held, partition } of mounted) {
    const found = await cell.run('findmnt', ['--noheadings', '--output', 'SOURCE', '--mountpoint', held]);
    const device = found.stdout.trim();
    const { offset, size, fileSystem } = partition;
    frozen.push({ device, offset, size, fileSystem: fileSystem! });
  }
  await writeFile(file, JSON.stringify(frozen));
  return () => rm(file, { force: true });
}

/** Thaws and lets go what a machine in the directory has left so. Idempotent. Only when nothing of the machine runs any more. */
export async function sweepFrozen(directory: string): Promise<void> {
  for (const name of (await readdir(directory).catch(() => [])).filter(name => name.endsWith(SUFFIX))) {
    const file = join(directory, name);
    const place = `${file}.mount`;
    await mkdir(place, { recursive: true });
    for (const one of noted(await readFile(file, 'utf8'))) {
      if (!(await isLeft(one))) continue;
      await run('unshare', [
        ...['--mount', '--propagation', 'private', 'sh', '-c', THAW, 'sh'],
        ...[one.fileSystem, one.device, place],
      ]).catch(() => {});
      // The device goes a moment after the mount.
      const deadline = performance.now() + PATIENCE_MS;
      while ((await isLeft(one)) && performance.now() < deadline) await sleep(20);
    }
    await rm(file);
  }
}

/** A note that was cut off is of a process that died before it froze anything. */
function noted(text: string): readonly Frozen[] {
  try {
    return JSON.parse(text) as Frozen[];
  } catch {
    return [];
  }
}

/** In a mount namespace that ends with it. What lies behind is gone by now; the kernel says that it cannot write there, and lets go. */
const THAW = 'mount --types "$1" --options nodev "$2" "$3" && { fsfreeze --unfreeze "$3"; umount "$3"; }';

/** Whether the device is still that of a partition whose daemon is gone: its file, which was the root of a mount, has lost its name then. */
async function isLeft({ device, offset, size }: Frozen): Promise<boolean> {
  const columns = 'OFFSET,SIZELIMIT,BACK-FILE';
  const { stdout } = await run('losetup', ['--noheadings', '--raw', '--output', columns, device], { ok: [0, 1] });
  return stdout.trim() === `${offset} ${size} /`;
}
