/** What is on a disk that is off: every file of its root file system with all that makes it what it is, to be compared with another. */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { lstat, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/processes/process.ts';

/** Path (latin1: one character a byte) → what the file is, in words that differ when anything of it does. */
export type ImageFiles = ReadonlyMap<string, string>;

const KINDS: ReadonlyMap<number, string> = new Map([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'link'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
  [constants.S_IFCHR, 'character device'],
  [constants.S_IFBLK, 'block device'],
]);

/**
 * Type, mode, owner, extended attributes (ACLs and capabilities are such), content or target, whether a file has holes, names that are one file, and the time of
 * its last change where that is before `since` (ms since 1970): what is newer was written by the build, and directories change with what is in them. The empty
 * path is the disk: its partitions, the bytes of those that are not mounted, and the file system itself. Takes root.
 * @param edited what counts of a file's text, by path
 */
export async function filesOf(vhd: string, since: number, edited: Edited = {}): Promise<ImageFiles> {
  const { stdout } = await run('sfdisk', ['--json', vhd]);
  const { partitions } = (JSON.parse(stdout) as { partitiontable: PartitionTable }).partitiontable;
  const root = partitions.reduce((a, b) => (b.size > a.size ? b : a));
  const disk: string[] = [];
  for (const partition of partitions) {
    const { start, size, type, uuid } = partition;
    const range = { start: start * SECTOR, end: (start + size) * SECTOR - 1 };
    disk.push([start, size, type, uuid, partition === root ? 'root' : await sha256(vhd, range)].join(' '));
  }
  const offset = root.start * SECTOR;
  const system = (await run('dumpe2fs', ['-h', `${vhd}?offset=${offset}`])).stdout.split('\n');
  disk.push(...system.filter(line => SYSTEM.some(name => line.startsWith(`${name}:`))));
  const at = await mkdtemp(join(tmpdir(), 'kiln-mounted-'));
  await run('mount', ['-o', `ro,noload,loop,offset=${offset},sizelimit=${root.size * SECTOR}`, vhd, at]);
  try {
    return (await walk(at, since, edited)).set('', disk.join('; '));
  } finally {
    await run('umount', [at]);
    await rm(at, { recursive: true });
  }
}

type Edited = Readonly<Record<string, (text: string) => string>>;

interface PartitionTable {
  readonly partitions: readonly { start: number; size: number; type: string; uuid: string }[];
}

const SECTOR = 512;
/**
 * Of the lines of dumpe2fs: clean means that nothing has to be made good at the next mount. How many blocks are root's own is left out: the kernel, which grows a
 * mounted file system, and resize2fs, which grows others, come to 4.7 and 5 in a hundred.
 */
const SYSTEM: readonly string[] = [
  ...['Filesystem volume name', 'Filesystem UUID', 'Filesystem features', 'Filesystem state', 'Inode count'],
  ...['Block count', 'Block size', 'Default mount options', 'Errors behavior'],
];

async function walk(root: string, since: number, edited: Edited): Promise<Map<string, string>> {
  const attributes = await attributesOf(root);
  /** The first name of each file that has several. */
  const names = new Map<bigint, string>();
  const found = new Map<string, string>();
  const look = async (path: string): Promise<void> => {
    const real = Buffer.from(`${root}${path}`, 'latin1');
    const stat = await lstat(real, { bigint: true });
    const kind = KINDS.get(Number(stat.mode) & constants.S_IFMT) ?? 'unknown';
    const facts = [kind, (Number(stat.mode) & 0o7777).toString(8), `${stat.uid}:${stat.gid}`];
    if (kind === 'link') facts.push((await readlink(real, 'latin1')) as string);
    if (kind.endsWith('device')) facts.push(String(stat.rdev));
    if (kind === 'file') {
      facts.push(`${stat.size} bytes`, ...(stat.blocks * 512n + 65_536n < stat.size ? ['with holes'] : []));
      const other = names.get(stat.ino);
      const edit = edited[path];
      if (edit) facts.push(edit(await readFile(real, 'utf8')));
      else if (other === undefined) facts.push(await sha256(real));
      else facts.push(`the same as ${other}`);
      if (stat.nlink > 1n) names.set(stat.ino, other ?? path);
    }
    if (kind !== 'directory' && Number(stat.mtimeMs) < since)
      facts.push(`of ${new Date(Number(stat.mtimeMs)).toISOString()}`);
    facts.push(...(attributes.get(path) ?? []));
    found.set(path, facts.join(' '));
    if (kind !== 'directory') return;
    const inside = (await readdir(real, { encoding: 'latin1' as BufferEncoding })).sort();
    for (const name of inside) await look(path === '/' ? `/${name}` : `${path}/${name}`);
  };
  await look('/');
  return found;
}

async function sha256(path: Buffer | string, range?: { start: number; end: number }): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, range)) hash.update(chunk);
  return hash.digest('hex');
}

/** Of all files that have any; `name="value"` in hexadecimal, sorted. */
async function attributesOf(root: string): Promise<Map<string, string[]>> {
  const { stdout } = await run('sh', ['-c', 'cd "$1" && exec getfattr -R -h -P -d -m - -e hex .', 'sh', root], {
    env: { ...process.env, LC_ALL: 'C' },
  });
  const found = new Map<string, string[]>();
  for (const block of Buffer.from(stdout, 'utf8').toString('latin1').split('\n\n')) {
    const [first = '', ...values] = block.split('\n');
    const name = first
      .replace(/^# file: /, '')
      .replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (name !== '') found.set(name === '.' ? '/' : `/${name.replace(/^\.\//, '')}`, values.filter(Boolean).sort());
  }
  return found;
}
