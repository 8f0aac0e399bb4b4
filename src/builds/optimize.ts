/**
 * The optimize phase: a throw-away copy of the finished image boots, and runs the workload where the template has one, while QEMU notes which blocks are read; then the image's
 * file is written anew with these at its beginning, in that order. A first boot from a copy that is far away, or cold, fetches less and waits less often; a guest sees the
 * same bytes. The boot is a proof of the image as well.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { accessOrder, COLD_BLOCK, type ColdRead, coldRead } from '../disks/access-order.ts';
import { chainOf, type DiskChain } from '../disks/chain.ts';
import { layOut } from '../disks/lay-out.ts';
import { MIB } from '../disks/qemu-img.ts';
import { qcow2Artifact } from './artifacts.ts';
import type { BuildState, Phase, PhaseContext, PhaseLayer, PhaseResult } from './phase.ts';
import { bootCopy, checkCopy } from './prove.ts';

/** The machine and its overlay: trace.qcow2, trace-console.log. */
const NAME = 'trace';

export interface OptimizeOptions {
  readonly processors: number;
  readonly memoryMiB: number;
  readonly trusted?: true;
  /** Whether this boot is the only one, and so the one that has to prove the image. */
  readonly proof: boolean;
  /** What runs behind the boot; what it reads comes behind what the boot reads. */
  readonly workload?: Phase;
  readonly layer?: PhaseLayer;
}

export function optimizePhase({ proof, workload, layer, ...size }: OptimizeOptions): Phase {
  return {
    kind: 'optimize',
    name: `lay out what ${workload ? 'a boot and the workload read' : 'a boot reads'}`,
    subState: 'Optimizing',
    inputs: { proof, ...(workload && { workload: workload.inputs }) },
    ...(layer && { layer }),
    async run(state, context) {
      await using held = new AsyncDisposableStack();
      const hint = ' Without optimize in the template, the image is not booted for it.';
      const request = { ...size, name: NAME, until: 'settled', copyOnRead: true } as const;
      const machine = await bootCopy(state, context, { ...request, hint, held });
      if (proof) await checkCopy(machine, state, context);
      await workload?.run({ ...state, machine }, context);
      // What it does while it shuts down is nothing that a boot needs.
      await machine.powerOff({ signal: context.signal, unplug: true });
      const result = await rewritten(state, context);
      // Where layers are kept, it is one, or is being made one: a second name of the same blocks, which is read until it is whole.
      if (!layer) await rm(state.image!.path);
      return result;
    },
  };
}

/** What there is to say of it: bytes. */
interface Gain {
  readonly read: number;
  readonly fileSize: number;
  readonly blockSize: number;
  readonly before: ColdRead;
  readonly after: ColdRead;
}

async function rewritten(state: BuildState, { signal, directory, progress }: PhaseContext): Promise<PhaseResult> {
  const image = state.image!;
  const before = await mapOf(image.path, signal);
  const order = accessOrder(await mapOf(join(directory, `${NAME}.qcow2`), signal), before);
  const path = join(directory, 'image-laid-out.qcow2');
  await layOut(image.path, order, {
    to: path,
    signal,
    onProgress: share => progress({ label: 'laying out', done: Math.round(share * 100), total: 100, unit: 'steps' }),
  });
  const artifact = await qcow2Artifact(path, signal);
  const gain: Gain = {
    read: order.reduce((sum, { length }) => sum + length, 0),
    fileSize: (await stat(path)).size,
    blockSize: COLD_BLOCK,
    before: coldRead(order, before),
    after: coldRead(order, await mapOf(path, signal)),
  };
  const { allocatedSize } = artifact;
  return {
    state: {
      ...state,
      image: { ...image, path, allocatedSize },
      artifacts: state.artifacts!.map(one => (one.format === artifact.format ? artifact : one)),
    },
    bytes: allocatedSize,
    detail: { ...gain },
    summary: sentence(gain),
  };
}

async function mapOf(path: string, signal: AbortSignal): Promise<DiskChain> {
  const chain = await chainOf({ path, format: 'qcow2' }, signal);
  if (!chain) throw new Error(`${path} has compressed blocks`);
  return chain;
}

function sentence({ read, fileSize, before, after }: Gain): string {
  const mib = (bytes: number) => Math.ceil(bytes / MIB);
  return [
    `${mib(read)} MiB of the image were read; they lie at the beginning of its file now, in the order in which they were needed.`,
    `Fetched in blocks of ${mib(COLD_BLOCK)} MiB as they are needed: ${before.requests} requests before, ${after.requests} now.`,
    `Fetched from the beginning on: the last one came after ${mib(before.end)} of ${mib(fileSize)} MiB, now after ${mib(after.end)}.`,
  ].join(' ');
}
