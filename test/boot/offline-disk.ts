/** The root file system of a disk that is off, read with debugfs: what is really on it, before any boot could change it. */
import { run } from '../../src/processes/process.ts';

export interface OfflineDisk {
  /** Names in a directory, without `.` and `..`; `undefined` when there is no such directory. */
  names(directory: string): Promise<string[] | undefined>;
  /** Content of a file, or `→ TARGET` of a symbolic link; `undefined` when there is neither. */
  text(path: string): Promise<string | undefined>;
  /** Rejects when the file system was not left clean, or has faults. */
  requireClean(): Promise<void>;
}

interface Partition {
  readonly start: number;
  readonly type: string;
}

/** Root of an x86-64 system (Discoverable Partitions Specification). */
const ROOT_TYPE = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709';
const SECTOR = 512;

/** @param path a raw disk, or a fixed VHD: its footer comes after everything else. */
export async function openOffline(path: string): Promise<OfflineDisk> {
  const { stdout } = await run('sfdisk', ['--json', path]);
  const { partitions } = (JSON.parse(stdout) as { partitiontable: { partitions: Partition[] } }).partitiontable;
  const root = partitions.find(partition => partition.type.toUpperCase() === ROOT_TYPE);
  if (!root) throw new Error(`${path} has no root partition: ${stdout}`);
  const device = `${path}?offset=${root.start * SECTOR}`;
  // Without -w debugfs only reads. It says on standard error what it does not find, and ends with 0 all the same.
  const ask = async (request: string) => {
    const { stdout, stderr } = await run('debugfs', ['-R', request, device]);
    const complaint = stderr.split('\n').filter(line => line !== '' && !line.startsWith('debugfs '));
    if (complaint.length === 0) return stdout;
    if (complaint.every(line => /File not found by ext2_lookup/.test(line))) return undefined;
    throw new Error(`debugfs ${request}: ${complaint.join(' ')}`);
  };
  return {
    async names(directory) {
      const listed = await ask(`ls -p "${directory}"`);
      return listed
        ?.split('\n')
        .map(line => line.split('/')[5] ?? '')
        .filter(name => name !== '' && name !== '.' && name !== '..');
    },
    async requireClean() {
      const features = /^Filesystem features:(.*)$/m.exec((await ask('stats')) ?? '')?.[1] ?? '';
      if (!features.includes('has_journal') || features.includes('needs_recovery'))
        throw new Error(`the journal of ${path} is not empty: ${features}`);
      await run('e2fsck', ['-f', '-n', device]);
    },
    async text(path) {
      const target = /^Fast link dest: "(.*)"$/m.exec((await ask(`stat "${path}"`)) ?? '')?.[1];
      return target === undefined ? await ask(`cat "${path}"`) : `→ ${target}`;
    },
  };
}
