/** Freezing a machine without ending it: its memory goes into files, the overlays it wrote become what new ones stand on, all at once, and it goes on. */
import { type FileHandle, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';
import type { MachineMemory } from '../machine.ts';
import type { DevicesReceiver } from './devices-file.ts';
import { overlay, overlayNode, WRITABLE } from './disk-nodes.ts';
import { type KeptMemory, saveMemory } from './guest-memory.ts';
import type { Qmp } from './qmp.ts';

/** Memory in a file stays where it is: QEMU calls that ignoring what is shared. */
const KEEP_RAM = { capabilities: [{ capability: 'x-ignore-shared', state: true }] };

const POLL_MS = 10;
const CAUSE_MS = 1000;

interface Migration {
  readonly status?: string;
  readonly 'error-desc'?: string;
}

export interface Freeze {
  /** How many checkpoints there were before. */
  readonly index: number;
  /** All that the guest writes to. */
  readonly disks: readonly FreezingDisk[];
  readonly memory: MachineMemory;
  /** What earlier ones kept of it. */
  readonly before?: KeptMemory | undefined;
  /** What the guest has its memory in. */
  readonly ram: FileHandle;
  /** Listening, for what goes into `memory.devices`. */
  readonly receiver: DevicesReceiver;
  readonly signal: AbortSignal;
}

export interface FreezingDisk {
  /** The node that it was written to before any checkpoint. */
  readonly node: string;
  /** QEMU's set of descriptors of the overlay that comes on top. */
  readonly overlayFd: number;
  /** The set of what is written until then. */
  readonly writtenFd: number;
}

export interface Frozen {
  /** How long the guest stood still (ms). */
  readonly pausedMs: number;
  /** Of the memory, with its checksum as `checksumFile` gives it. */
  readonly kept: Awaited<ReturnType<typeof saveMemory>>;
}

/**
 * When the memory cannot be kept, it goes on in the same overlays as before, and nothing is left of the files.
 * Rejects with DiskFull, InternalError, the signal's reason, or MachineLost when it does not go on.
 */
export async function freeze(qmp: Qmp, request: Freeze): Promise<Frozen> {
  const { index, disks, memory, before, ram, receiver, signal } = request;
  await qmp.execute('migrate-set-capabilities', KEEP_RAM);
  await addOverlays(qmp, index, disks);
  let kept: Frozen['kept'] | undefined;
  let frozen = false;
  const begun = performance.now();
  await qmp.execute('stop');
  try {
    await qmp.execute('migrate', { uri: receiver.uri });
    await Promise.all([migrated(qmp, signal), receiver.received]);
    kept = await saveMemory(ram, { file: memory.ram, list: memory.pieces }, { before, signal });
    // All of them or none: disks and memory are of one moment.
    await qmp.execute('transaction', { actions: disks.map(({ node }) => snapshot(node, index)) });
    frozen = true;
  } catch (error) {
    throw signal.aborted ? signal.reason : notKept(await causeOf(error, receiver));
  } finally {
    if (!frozen) await abandon(qmp, { index, disks, memory });
    await qmp.execute('cont').catch(standing);
  }
  const pausedMs = performance.now() - begun;
  for (const { writtenFd } of disks) await letGo(qmp, writtenFd);
  return { pausedMs, kept: kept! };
}

const snapshot = (node: string, index: number) => ({
  type: 'blockdev-snapshot',
  data: { node: index === 0 ? node : overlayNode(node, index - 1), overlay: overlayNode(node, index) },
});

async function addOverlays(qmp: Qmp, index: number, disks: readonly FreezingDisk[]): Promise<void> {
  try {
    for (const { node, overlayFd } of disks) await qmp.execute('blockdev-add', overlay(node, index, overlayFd));
  } catch (error) {
    await removeOverlays(qmp, index, disks);
    throw error;
  }
}

/** What is not there is not removed. */
async function removeOverlays(qmp: Qmp, index: number, disks: readonly FreezingDisk[]): Promise<void> {
  for (const { node } of disks)
    await qmp.execute('blockdev-del', { 'node-name': overlayNode(node, index) }).catch(() => {});
}

/**
 * QEMU writes no more to what is frozen, but still has the descriptor; and other builds start from that file. A guest that breaks into its QEMU later on shall not
 * reach them. Only while the machine runs does QEMU close it.
 */
async function letGo(qmp: Qmp, set: number): Promise<void> {
  const sets = (await qmp.execute('query-fdsets').catch(standing)) as FdSet[];
  const writable = sets.find(one => one['fdset-id'] === set)?.fds.filter(({ opaque }) => opaque === WRITABLE) ?? [];
  for (const { fd } of writable) await qmp.execute('remove-fd', { 'fdset-id': set, fd }).catch(standing);
}

interface FdSet {
  readonly 'fdset-id': number;
  readonly fds: readonly { readonly fd: number; readonly opaque?: string }[];
}

/** What was frozen may be whole; the machine is not. */
function standing(error: Error): never {
  throw new KilnError('MachineLost', `The virtual machine does not go on after it was frozen. ${error.message}`);
}

async function abandon(qmp: Qmp, { index, disks, memory }: Pick<Freeze, 'index' | 'disks' | 'memory'>): Promise<void> {
  await qmp.execute('migrate_cancel').catch(() => {});
  await migrated(qmp, AbortSignal.timeout(5000)).catch(() => {});
  await removeOverlays(qmp, index, disks);
  for (const file of Object.values(memory)) await rm(file, { force: true });
}

async function migrated(qmp: Qmp, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const migration = (await qmp.execute('query-migrate')) as Migration;
    if (migration.status === 'completed') return;
    if (migration.status === 'failed' || migration.status === 'cancelled')
      throw new Error(`QEMU did not hand over the memory: ${migration['error-desc'] ?? migration.status}`);
    await sleep(POLL_MS);
  }
}

/** QEMU may learn that nobody takes the memory any more, before it is known here why. */
async function causeOf(error: unknown, { received }: DevicesReceiver): Promise<unknown> {
  const ended = new AbortController();
  const late = sleep(CAUSE_MS, error, { signal: ended.signal }).catch(() => error);
  return await Promise.race([received.then(() => error), late])
    .catch(cause => cause)
    .finally(() => ended.abort());
}

function notKept(error: unknown): KilnError {
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (['ENOSPC', 'EDQUOT', 'DiskFull'].includes(code))
    return new KilnError('DiskFull', `No space left on the host's file system for the memory of the virtual machine.`, {
      cause: error,
    });
  return new KilnError('InternalError', `The machine cannot be frozen: ${message}`, { cause: error });
}

/** Hands an incoming machine what its devices knew, waits until it is there, stopped as it was frozen, and lets it run. Rejects when QEMU does not run it. */
export async function thaw(qmp: Qmp, devicesFd: number, signal: AbortSignal): Promise<void> {
  await qmp.execute('migrate-set-capabilities', KEEP_RAM);
  await qmp.execute('migrate-incoming', { uri: `fd:${devicesFd}` });
  for (;;) {
    signal.throwIfAborted();
    const { status } = (await qmp.execute('query-status')) as { status: string };
    if (status === 'paused' || status === 'postmigrate') break;
    if (status === 'running') return;
    await sleep(POLL_MS);
  }
  await qmp.execute('cont');
}
