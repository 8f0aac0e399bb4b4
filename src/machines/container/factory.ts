/** Makes container machines: a cell, the disk mounted in it, a network of its own, a build user; and takes all of it back when that fails. */
import { mkdir } from 'node:fs/promises';
import { KilnError } from '../../arm/errors.ts';
import { run } from '../../processes/process.ts';
import type { Machine, MachineFactory, MachineRequest, MachineShape, ShapeRequest } from '../machine.ts';
import { BUILD_USER } from '../qemu/identity.ts';
import { printable } from '../qemu/loss.ts';
import { openNetwork, resolvConfOf } from '../qemu/network.ts';
import { sweepAbandoned } from '../qemu/sweep.ts';
import { Cell } from './cell.ts';
import { sweepFrozen } from './frozen.ts';
import { ContainerMachine } from './machine.ts';
import { type MountedDisk, mountDisk } from './mounted-disk.ts';
import { provisionScript, RENEWAL } from './provision.ts';

/** What of a guest cannot work here, for the build log. */
export const LIMITS =
  'This build runs in a container on the mounted disk, without a VM: no kernel of the image is booted, services do not run while it builds, and it shares the host’s kernel: for templates that you vouch for.';

export function containerFactory(): MachineFactory {
  let version: Promise<string> | undefined;
  return {
    async shape(request) {
      version ??= nspawnVersion();
      version.catch(() => {
        version = undefined;
      });
      return shapeOf(request, await version);
    },
    async start(request) {
      version ??= nspawnVersion();
      return await start(request, shapeOf(request, await version), provisionScript(BUILD_USER, request.provisioning));
    },
    async resume(request) {
      version ??= nspawnVersion();
      await request.checkpoint.intact;
      return await start(request, shapeOf(request, await version), RENEWAL);
    },
  };
}

function shapeOf(request: ShapeRequest, version: string): MachineShape {
  const { processors, memoryMiB, firmware } = request;
  return {
    kind: 'container',
    processors,
    memoryMiB,
    firmware,
    accelerator: 'none',
    model: `systemd-nspawn/${version}`,
  };
}

async function nspawnVersion(): Promise<string> {
  const { stdout } = await run('systemd-nspawn', ['--version']);
  return /^systemd (\d+)/.exec(stdout)?.[1] ?? 'unknown';
}

/** Its commands see no device that they could partition or format, and mounting is what a container must not. */
export const noDataDisks = (why: string): KilnError =>
  new KilnError('NotSupported', `${why}, and a container machine cannot have data disks.`, {
    target: 'properties.additionalDataDisks',
    hint: 'Steps in a container can neither partition nor mount disks. Build in a virtual machine: --machine vm.',
  });

/** @param script what the guest gets before its first command, as root */
async function start(request: MachineRequest, shape: MachineShape, script: string): Promise<Machine> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    throw new KilnError('NotSupported', 'A container machine mounts disks, which only root on Linux may.', {
      hint: 'Run Kiln as root, or build in a virtual machine: --machine vm.',
    });
  if ((request.dataDisks ?? []).length > 0) throw noDataDisks('The source has data disks');
  await using held = new AsyncDisposableStack();
  const begun = performance.now();
  request.report(LIMITS);
  await sweepAbandoned();
  // Mounts that were there before it are all that a cell sees: the namespace's must be among them. The rest of the network is set up beside the disk.
  const named = Promise.withResolvers<void>();
  const networking = openNetwork(request.directory, request.report, { onNamespace: named.resolve });
  held.defer(async () => (await networking.catch(() => undefined))?.close());
  await Promise.race([named.promise, networking]);
  let mounting: Promise<MountedDisk> | undefined;
  // Nothing else is taken back while the disk is still being mounted.
  held.defer(async () => void (await mounting?.catch(() => {})));
  const outer = await Cell.open();
  held.defer(() => outer.destroy());
  mounting = mountDisk(outer, () => Cell.open(outer), request);
  mounting.catch(() => {});
  const { network, slot, close } = await networking;
  if (!network.namespace || !slot)
    throw new KilnError(
      'NotSupported',
      'A container machine needs a network namespace of its own, and none can be set up here.',
      {
        hint: 'Install iproute2 and nftables (`kiln doctor` says what is missing), or build in a virtual machine: --machine vm.',
      },
    );
  const disk = await mounting;
  // What nspawn keeps there of the host's is none of the image's business.
  await mkdir('/run/systemd/nspawn', { recursive: true });
  await disk.cell.run('mount', ['-t', 'tmpfs', 'tmpfs', '/run/systemd/nspawn']);
  const machine = new ContainerMachine({
    shape,
    user: BUILD_USER,
    outer,
    disk,
    overlays: [request.disk.path, ...(request.checkpoints ?? [])],
    namespace: network.namespace,
    resolvConf: resolvConfOf(slot),
    release: async () => {
      // It may have been ended in the middle of a checkpoint.
      await sweepFrozen(request.directory);
      await close();
    },
  });
  await provision(machine, script, request);
  held.move();
  request.report(`The container machine is ready after ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
  return machine;
}

async function provision(machine: ContainerMachine, script: string, { signal }: MachineRequest): Promise<void> {
  let said = '';
  const { exitCode } = await machine.asRoot(script, {
    output: chunk => {
      said = (said + chunk.toString('utf8')).slice(-2000);
    },
    ...(signal && { signal }),
  });
  if (exitCode === 0) return;
  throw new KilnError('SourceUnusable', `The build user cannot be made in the image: ${printable(said)}`);
}
