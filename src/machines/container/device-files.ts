/**
 * The block devices of the machine's own file systems, as its container sees them: what installs a kernel (update-grub) asks which device a file system is on, and
 * by which UUID the finished machine finds it. They can be read there, not written; no other device of the host is shown.
 */
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cell } from './cell.ts';
import type { Partition } from './partitions.ts';

export interface Mounted {
  readonly path: string;
  /** Where it is mounted besides. */
  readonly held: string;
  readonly partition: Partition;
}

/** Directories below /dev/disk, by what a partition's name begins with. */
const NAMES: Readonly<Record<string, string>> = { uuid: 'by-uuid', partuuid: 'by-partuuid' };

/** Of the cell's own: a name below it can be the same in the container. */
const PLACE = '/dev/shm';

const MOUNT = [
  // A file system of the cell's own, made once.
  '[ -e "$1/kiln" ] || { mount -t tmpfs kiln "$1" && : > "$1/kiln"; }',
  'mknod -m 0600 "$2" b $(mountpoint --fs-devno "$3" | tr : " ")',
  'mount --types "$4" --options nodev "$2" "$5"',
].join('\n');

/**
 * Mounts a file system that is mounted at `held` a second time, from a device file that is not called `/dev/loop0` to `9`: GRUB's 10_linux leaves all kernels out
 * of its menu where the root directory comes from one of these. The first mount, with which the loop device goes by itself, stays.
 */
export async function mountByOtherName(
  cell: Cell,
  { number, fileSystem }: Partition,
  held: string,
  path: string,
): Promise<void> {
  await cell.run('sh', ['-ec', MOUNT, 'sh', PLACE, deviceFile(number), held, fileSystem!, path]);
}

const deviceFile = (number: number) => `${PLACE}/partition${number}`;

/**
 * A read-only device of the same bytes, which goes by itself when the cell does: whoever writes to the device of a mounted file system destroys it, and a mount that
 * can only be read keeps nobody from that.
 */
const SHOW = [
  'shown=$(losetup --read-only --find --show --offset "$1" --sizelimit "$2" "$3")',
  // Held open before it is let go: else the number may be another disk's by then.
  'exec 3< "$shown"',
  'sleep infinity <&3 > /dev/null 2>&1 &',
  'losetup --detach "$shown" && echo "$shown"',
].join('\n');

/**
 * @param raw the disk, as the cell sees it
 * @param directory is made; it becomes the container's /dev/disk
 * @returns arguments for systemd-nspawn
 */
export async function deviceFiles(
  cell: Cell,
  raw: string,
  mounted: readonly Mounted[],
  directory: string,
): Promise<string[]> {
  const binds: string[] = [];
  for (const kind of Object.values(NAMES)) await mkdir(join(directory, kind), { recursive: true });
  for (const { partition } of mounted) {
    const { number, offset, size } = partition;
    const device = deviceFile(number);
    const shown = (await cell.run('sh', ['-ec', SHOW, 'sh', String(offset), String(size), raw])).stdout.trim();
    binds.push(`--bind-ro=${shown}:${device}`);
    for (const name of partition.names) {
      const [kind, value = ''] = name.split('=');
      const place = NAMES[kind!];
      // From the image: nothing but what such a name can have.
      if (place && /^[0-9a-f-]{4,36}$/.test(value))
        await symlink(`../../${device.slice('/dev/'.length)}`, join(directory, place, value)).catch(exists);
    }
  }
  return [...binds, `--bind-ro=${directory.replaceAll(':', '\\:')}:/dev/disk`];
}

/** Two partitions may have the same name; the first one has it. */
function exists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
