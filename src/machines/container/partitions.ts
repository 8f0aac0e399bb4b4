/**
 * Where the file systems of a disk are: its partition table, and what is in each partition. The disk may come from outside; in a container machine the host's
 * own tools read it, which is one of the reasons why that machine is for templates one vouches for.
 */
import { KilnError } from '../../arm/errors.ts';
import type { Cell } from './cell.ts';

export interface Partition {
  /** 1, 2, … as the table has it; 0: the whole disk is one file system. */
  readonly number: number;
  /** Bytes. */
  readonly offset: number;
  readonly size: number;
  /** GPT type GUID in capitals, or the MBR's hexadecimal number. */
  readonly type: string;
  readonly fileSystem?: string | undefined;
  /** What /etc/fstab can call it: `UUID=…`, `LABEL=…`, `PARTUUID=…`, in lower case. */
  readonly names: readonly string[];
}

/** Root file systems by the Discoverable Partitions Specification: x86-64 and arm64. */
const ROOT_TYPES: readonly string[] = ['4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709', 'B921B045-1DF0-41C3-AF44-4C6F280D3FAE'];
/** Linux data: GPT's, and MBR's. */
const LINUX_TYPES: readonly string[] = ['0FC63DAF-8483-4772-8E79-3D69D8477DE4', '83'];
export const FILE_SYSTEMS: readonly string[] = ['ext4', 'ext3', 'xfs', 'btrfs'];

interface Table {
  readonly partitiontable?: {
    readonly sectorsize?: number;
    readonly partitions?: readonly { node: string; start: number; size: number; type: string; uuid?: string }[];
  };
}

/** @param disk a raw disk, as the cell sees it */
export async function partitionsOf(cell: Cell, disk: string, diskSize: number): Promise<Partition[]> {
  const printed = await cell.run('sfdisk', ['--json', disk], { ok: [0, 1] });
  const table = (printed.exitCode === 0 ? (JSON.parse(printed.stdout) as Table) : {}).partitiontable;
  if (!table) return [await look(cell, disk, { number: 0, offset: 0, size: diskSize, type: '', names: [] })];
  const sector = table.sectorsize ?? 512;
  return await Promise.all(
    (table.partitions ?? []).map(({ node, start, size, type, uuid }) =>
      look(cell, disk, {
        number: Number(/(\d+)$/.exec(node)?.[1] ?? 0),
        offset: start * sector,
        size: size * sector,
        type: type.toUpperCase(),
        names: uuid === undefined ? [] : [`partuuid=${uuid.toLowerCase()}`],
      }),
    ),
  );
}

async function look(cell: Cell, disk: string, partition: Partition): Promise<Partition> {
  const { offset, size } = partition;
  // 2: nothing that it knows.
  const { stdout } = await cell.run(
    'blkid',
    ['--probe', '--offset', String(offset), '--size', String(size), '--output', 'export', disk],
    { ok: [0, 2] },
  );
  const facts = new Map(
    stdout.split('\n').map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const name = (key: string) => (facts.has(key) ? [`${key.toLowerCase()}=${facts.get(key)!.toLowerCase()}`] : []);
  return {
    ...partition,
    fileSystem: facts.get('TYPE'),
    names: [...partition.names, ...name('UUID'), ...name('LABEL')],
  };
}

/** The partition that holds the system: by its type, else the largest that may. Errors: SourceUnusable. */
export function rootOf(partitions: readonly Partition[]): Partition {
  const known = partitions.filter(({ fileSystem }) => FILE_SYSTEMS.includes(fileSystem ?? ''));
  const candidates = [ROOT_TYPES, LINUX_TYPES, ['']].map(types => known.filter(({ type }) => types.includes(type)));
  const root = candidates.find(list => list.length > 0)?.reduce((a, b) => (b.size > a.size ? b : a));
  if (root) return root;
  const seen = partitions.map(({ number, fileSystem }) => `${number}: ${fileSystem ?? 'unknown'}`).join(', ');
  throw new KilnError(
    'SourceUnusable',
    `The disk has no root file system that a container machine can mount (${seen}).`,
    {
      hint: `It takes ${FILE_SYSTEMS.join(', ')} in a partition of its own, without LVM or encryption. Build it in a virtual machine: --machine vm.`,
    },
  );
}
