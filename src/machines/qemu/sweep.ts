/** What a machine leaves when the process that owned it dies: found by the run's directory, and ended. */
import { access, readdir, readFile, rm, stat } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeSlot } from './network.ts';
import { alive, type ProcessRecord, readRecord, startTimeOf } from './process-record.ts';
import { claims, type Slot, slotsOf } from './slot.ts';

/** File name of the process record of a machine. */
export const recordName = (machine: string): string => `${machine}.qemu.json`;

/**
 * Ends every machine that a dead owner of a run's directory left: processes, namespaces, links, rules, slots. Idempotent; to be called before
 * the directory is removed, and only when its owner is dead.
 */
export async function sweepMachines(directory: string): Promise<void> {
  for (const name of (await readdir(directory).catch(() => [])).filter(name => name.endsWith('.qemu.json'))) {
    const file = path.join(directory, name);
    // A record that a full disk or a power cut has damaged is as good as none: the slot tells the rest.
    const record = readRecord(file);
    if (record && alive(record)) await end(record);
    await rm(file, { force: true });
  }
  if (process.getuid?.() !== 0) return;
  for (const slot of await slotsOf(directory)) {
    await endProcessesOf(slot);
    await closeSlot(slot);
  }
}

/**
 * Frees the slots that nobody will ask for any more: their owner is dead and their directory gone, as after a kill and `rm -rf` of the state
 * directory. Does nothing while another process does the same.
 */
export async function sweepAbandoned(): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return;
  const candidates = async () => {
    const ownerless = (await claims()).filter(({ owner }) => !owner || !alive(owner));
    const gone = await Promise.all(ownerless.map(({ directory }) => isGone(directory)));
    return ownerless.filter((_, index) => gone[index]);
  };
  if ((await candidates()).length === 0) return;
  const lock = await onlySweeper();
  if (!lock) return;
  try {
    // Looked at again: what was abandoned before may have been freed and claimed anew.
    for (const { slot } of await candidates()) {
      await endProcessesOf(slot);
      await closeSlot(slot);
    }
  } finally {
    lock.close();
  }
}

const isGone = (directory: string): Promise<boolean> =>
  access(directory).then(
    () => false,
    error => (error as NodeJS.ErrnoException).code === 'ENOENT',
  );

/** A lock that the kernel frees with its holder: an abstract socket, of which a network namespace, like a slot, has one by this name. */
function onlySweeper(): Promise<net.Server | undefined> {
  return new Promise(resolve => {
    const server = net.createServer(socket => socket.destroy());
    server.once('error', () => resolve(undefined));
    server.listen('\0kiln-slot-sweep', () => resolve(server));
  });
}

/** The processes of a slot, recorded or not: what is in its namespace, and what runs as its user under a name that Kiln gives. */
async function endProcessesOf(slot: Slot): Promise<void> {
  const namespace = await inode(`/run/netns/${slot.name}`);
  for (const name of (await readdir('/proc')).filter(name => /^\d+$/.test(name))) {
    const pid = Number(name);
    const startTime = startTimeOf(pid);
    if (pid === process.pid || startTime === undefined) continue;
    const inside = namespace !== undefined && (await inode(`/proc/${name}/ns/net`)) === namespace;
    if (inside || (await isQemuOf(slot, pid))) await end({ pid, startTime });
  }
}

async function isQemuOf(slot: Slot, pid: number): Promise<boolean> {
  const owner = await stat(`/proc/${pid}`).catch(() => undefined);
  if (owner?.uid !== slot.uid) return false;
  return (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).includes('\0-name\0kiln-');
}

async function inode(file: string): Promise<string | undefined> {
  return await stat(file).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  );
}

async function end({ pid, startTime }: ProcessRecord): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  while (startTimeOf(pid) === startTime) await sleep(20);
}
