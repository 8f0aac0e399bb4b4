/**
 * The machine's disk, mounted in its cell: qemu-storage-daemon shows the qcow2 overlay as a raw file (FUSE), whose partitions are mounted through loop devices.
 * Free blocks go back to the overlay (discard all the way down), so what is captured is no larger than what the system holds.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';
import type { MachineDisk } from '../machine.ts';
import type { Cell } from './cell.ts';
import { deviceFiles, type Mounted, mountByOtherName } from './device-files.ts';
import { noteFrozen } from './frozen.ts';
import { CACHE, goOnIn, type TopDisk } from './overlays.ts';
import { FILE_SYSTEMS, type Partition, partitionsOf, rootOf } from './partitions.ts';

export interface MountedDisk {
  /** The root directory, in its cell. */
  readonly root: string;
  readonly cell: Cell;
  /** What shows a container on it its devices: arguments for systemd-nspawn. */
  readonly devices: readonly string[];
  /**
   * What is on the disk now stays as it is, clean as after an unmount, in the overlay that was written so far; what is written from now on goes to a new one on
   * top of it. Nothing must be running in the container.
   */
  freeze(overlay: string): Promise<void>;
  /** Sends free blocks back, unmounts, and closes the disk: it is complete then. */
  close(): Promise<void>;
}

export interface MountOptions {
  /** The run's own directory. */
  readonly directory: string;
  readonly name: string;
  readonly disk: MachineDisk;
  readonly report: (line: string) => void;
}

/**
 * Everything mounted, or nothing: who gets an error ends the cell.
 * @param outer where the daemon runs that shows the disk. Errors: SourceUnusable, NotSupported.
 */
export async function mountDisk(
  outer: Cell,
  openInner: () => Promise<Cell>,
  { directory, name, disk, report }: MountOptions,
): Promise<MountedDisk> {
  const raw = join(directory, `${name}.raw`);
  const root = join(directory, `${name}.root`);
  const pidFile = join(directory, `${name}.storage.pid`);
  const monitor = join(directory, `${name}.qmp`);
  await writeFile(raw, '');
  await mkdir(root, { recursive: true });
  await expose(outer, disk, { raw, pidFile, monitor });
  // From now on: it sees what is mounted at this moment.
  const cell = await openInner();
  const size = (await cellSize(cell, raw))!;
  const partitions = await partitionsOf(cell, raw, size);
  let system = rootOf(partitions);
  const grown = await grow(cell, raw, size, partitions, system);
  if (grown) system = grown;
  const mounted: Mounted[] = [];
  let top: TopDisk = { path: disk.path, node: 'disk' };
  if (grown && EXT.includes(grown.fileSystem!)) await growOffline(cell, raw, grown);
  mounted.push({ path: root, partition: system, held: await mount(cell, raw, system, root) });
  if (grown) await growMounted(cell, grown, root);
  const [besides] = await Promise.all([others(cell, root, partitions, system), requireSystem(root, cell)]);
  for (const { partition, path } of besides) {
    const place = path.slice(root.length);
    try {
      mounted.push({ path, partition, held: await mount(cell, raw, partition, path) });
      report(`Mounted partition ${partition.number} at ${place}.`);
    } catch (error) {
      // The EFI partition is for the boot loader, which few steps touch.
      if (!(error instanceof KilnError) || error.code !== 'NotSupported' || partition.fileSystem !== 'vfat')
        throw error;
      report(`${place} is not mounted: ${error.message} What a step writes there is lost.`);
    }
  }
  return {
    root,
    cell,
    devices: await deviceFiles(cell, raw, mounted, join(directory, `${name}.dev`)),
    async freeze(overlay) {
      const frozen: string[] = [];
      const thawed = await noteFrozen(cell, mounted, directory, name);
      try {
        for (const { path } of mounted) {
          // vfat and the like cannot: what is there is written out.
          const { exitCode } = await cell.run('fsfreeze', ['--freeze', path], { ok: [0, 1] });
          if (exitCode === 0) frozen.push(path);
          else await cell.run('sync', ['--file-system', path]);
        }
        top = await goOnIn(monitor, top, overlay);
      } finally {
        for (const path of frozen.toReversed()) await cell.run('fsfreeze', ['--unfreeze', path]);
        await thawed();
      }
    },
    async close() {
      for (const { path, held } of mounted.toReversed()) {
        // Blocks that were freed since the last commit of the journal are not trimmed.
        await cell.run('sync', ['--file-system', path]);
        // Not every file system can (vfat): then there is nothing to gain.
        await cell.run('fstrim', [path], { ok: [0, 1, 32] });
        await cell.run('umount', [path, held]);
      }
      const daemon = (await readFile(pidFile, 'utf8')).trim();
      // Its mounts keep the disk shown.
      await cell.destroy();
      await outer.run('kill', ['-TERM', daemon]);
      while ((await outer.run('cat', [`/proc/${daemon}/comm`], { ok: [0, 1] })).exitCode === 0) await sleep(5);
      await rm(raw, { force: true });
    },
  };
}

async function expose(
  cell: Cell,
  disk: MachineDisk,
  { raw, pidFile, monitor }: { readonly raw: string; readonly pidFile: string; readonly monitor: string },
): Promise<void> {
  const file = { driver: 'file', 'node-name': 'file', filename: disk.path, discard: 'unmap' };
  const node = { driver: disk.format, 'node-name': 'disk', file: 'file', discard: 'unmap', 'detect-zeroes': 'unmap' };
  const cache = { cache: CACHE };
  try {
    // The path of a socket may have 107 bytes: its name is enough from where it is.
    await cell.run('sh', [
      ...['-c', 'cd "$1" && shift && exec "$@"', 'sh', dirname(monitor), 'qemu-storage-daemon'],
      ...['--daemonize', '--pidfile', pidFile],
      ...['--chardev', `socket,id=qmp,path=${basename(monitor).replaceAll(',', ',,')},server=on,wait=off`],
      ...['--monitor', 'chardev=qmp'],
      ...['--blockdev', JSON.stringify({ ...file, ...cache }), '--blockdev', JSON.stringify({ ...node, ...cache })],
      ...['--export', `type=fuse,id=disk,node-name=disk,mountpoint=${raw.replaceAll(',', ',,')},writable=on`],
    ]);
  } catch (error) {
    if (!/fuse/i.test(String((error as Error).message))) throw error;
    throw new KilnError('NotSupported', `A container machine needs FUSE: ${(error as Error).message}`, {
      hint: 'Load the module (modprobe fuse) or pass /dev/fuse into the container that Kiln runs in; or build in a virtual machine: --machine vm.',
      cause: error,
    });
  }
}

async function cellSize(cell: Cell, path: string): Promise<number> {
  return Number((await cell.run('stat', ['--format=%s', path])).stdout.trim());
}

/** `nodev`: a device file that the image brings along opens nothing of the host's. Errors: NotSupported where the host's kernel does not know the file system. */
async function mount(cell: Cell, raw: string, partition: Partition, path: string): Promise<string> {
  const { number, offset, size, fileSystem } = partition;
  // The disk is thrown away if anything goes wrong, and flushed as a whole when it is frozen or closed: dpkg, which flushes each file, need not wait for the disk below.
  const flushing = EXT.includes(fileSystem!) ? ',nobarrier' : '';
  const options = `nodev,loop,offset=${offset},sizelimit=${size}${flushing}`;
  const held = `${raw}.${number}`;
  await mkdir(held, { recursive: true });
  try {
    await cell.run('mount', ['--types', fileSystem!, '--options', options, raw, held]);
    await mountByOtherName(cell, partition, held, path);
    return held;
  } catch (error) {
    if (!/unknown filesystem type/.test(String(error))) throw error;
    throw new KilnError('NotSupported', `The kernel of this host cannot mount the file system ${fileSystem}.`, {
      hint: `Load its module (modprobe ${fileSystem}), or build in a virtual machine: --machine vm.`,
      cause: error,
    });
  }
}

const FIRST_SECTORS = 1024 * 1024;
const SECTOR = 512;
/** The second table of a GPT and its header, at the end of the disk. */
const TABLE = 33 * SECTOR;
const GUID_LENGTH = 36;
/** What systemd-repart makes sizes multiples of: the partition comes out as it does when a machine boots. */
const ALIGNED = 4096;

/** The last partition takes the room that the disk was given, as cloud-init does when a machine boots. @returns it as it is then. */
async function grow(
  cell: Cell,
  raw: string,
  diskSize: number,
  partitions: readonly Partition[],
  system: Partition,
): Promise<Partition | undefined> {
  const end = system.offset + system.size;
  const isLast = partitions.every(({ offset }) => offset <= system.offset);
  if (system.number === 0 || !isLast || diskSize - end < 2 * FIRST_SECTORS) return undefined;
  // The second table of a GPT stands at the end of the disk, which is elsewhere now; sfdisk moves it when it writes.
  const last = diskSize - (system.type.length === GUID_LENGTH ? TABLE : 0);
  const sectors = Math.floor((last - system.offset) / ALIGNED) * (ALIGNED / SECTOR);
  await cell.run('sfdisk', ['--no-reread', '--no-tell-kernel', '--force', '-N', String(system.number), raw], {
    input: `, ${sectors}\n`,
  });
  return (await partitionsOf(cell, raw, diskSize)).find(({ number }) => number === system.number);
}

const EXT: readonly string[] = ['ext3', 'ext4'];

/** Before it is mounted: a mounted one needs CAP_SYS_RESOURCE, which Kiln's own container may not have. resize2fs wants it checked. */
async function growOffline(cell: Cell, raw: string, { offset, size }: Partition): Promise<void> {
  const place = ['--offset', String(offset), '--sizelimit', String(size)];
  const device = (await cell.run('losetup', ['--find', '--show', ...place, raw])).stdout.trim();
  try {
    // 1: something was mended.
    await cell.run('e2fsck', ['-f', '-p', device], { ok: [0, 1] });
    await cell.run('resize2fs', [device]);
  } finally {
    await cell.run('losetup', ['--detach', device]);
  }
}

/** These grow only when they are mounted. */
async function growMounted(cell: Cell, { fileSystem }: Partition, root: string): Promise<void> {
  if (fileSystem === 'xfs') await cell.run('xfs_growfs', [root]);
  else if (fileSystem === 'btrfs') await cell.run('btrfs', ['filesystem', 'resize', 'max', root]);
}

async function requireSystem(root: string, cell: Cell): Promise<void> {
  const { exitCode } = await cell.run('test', ['-e', join(root, 'bin/sh'), '-o', '-L', join(root, 'bin/sh')], {
    ok: [0, 1],
  });
  if (exitCode === 0) return;
  throw new KilnError('SourceUnusable', 'The root file system of the disk holds no Linux system (it has no /bin/sh).');
}

/** Where other partitions of the same disk may belong; anything else in fstab is the finished machine's own affair. */
const PLACES: readonly string[] = [
  '/boot',
  '/boot/efi',
  '/efi',
  '/home',
  '/opt',
  '/srv',
  '/usr',
  '/var',
  '/var/log',
  '/tmp',
];

/** What the image's fstab mounts from its own disk: a kernel that a step installs belongs on the partition of /boot. Outermost first. */
async function others(
  cell: Cell,
  root: string,
  partitions: readonly Partition[],
  system: Partition,
): Promise<{ readonly partition: Partition; readonly path: string }[]> {
  const { stdout } = await cell.run('cat', ['--', join(root, 'etc/fstab')], { ok: [0, 1] });
  const found: { partition: Partition; path: string; place: string }[] = [];
  for (const line of stdout.split('\n')) {
    const [spec = '', place = ''] = line.trim().split(/\s+/);
    const partition = partitions.find(({ names }) => names.includes(spec.toLowerCase().replaceAll('"', '')));
    if (!partition || partition === system || !PLACES.includes(place)) continue;
    if (![...FILE_SYSTEMS, 'vfat'].includes(partition.fileSystem ?? '')) continue;
    const path = join(root, place);
    // A link in the image must not lead out of it.
    if ((await cell.run('realpath', ['--', path], { ok: [0, 1] })).stdout.trim() !== path) continue;
    found.push({ partition, place, path });
  }
  return found.toSorted((a, b) => a.place.length - b.place.length);
}
