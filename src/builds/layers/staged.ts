/** Names of directories in which layers are put together: they tell which process is at work, so that what a dead one left can be told from the rest. */
import { randomUUID } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { startTimeOf } from '../../machines/qemu/process-record.ts';

const STAGED = '.staged-';
/** After this long nobody works on it, wherever the process is (ms). */
const LONGEST = 24 * 3600 * 1000;

/** Process numbers mean something only within one namespace of them: a cache may be shared between containers. */
function namespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
  } catch {
    return '0';
  }
}

export const stagedName = (): string =>
  `${STAGED}${namespace()}-${process.pid}-${startTimeOf(process.pid) ?? 0}-${randomUUID().slice(0, 8)}`;

/** Whether the directory of that name was left by a process that is gone. */
export async function isAbandoned(directory: string, name: string): Promise<boolean> {
  if (!name.startsWith(STAGED)) return false;
  const [where, pid, started] = name.slice(STAGED.length).split('-');
  if (where === namespace() && where !== '0') return startTimeOf(Number(pid)) !== started;
  const found = await stat(join(directory, name)).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > LONGEST;
}
