/** Machines of every kind, each made by its own factory. */
import { KilnError } from '../arm/errors.ts';
import { containerFactory } from './container/factory.ts';
import type { MachineFactory, MachineKind } from './machine.ts';
import type { AcceleratorOptions } from './qemu/accelerator.ts';
import { qemuFactory } from './qemu/factory.ts';
import { lacksTrustedLaunch } from './qemu/trusted-launch.ts';

export function machineFactory(options: AcceleratorOptions = {}): MachineFactory {
  const factories: Readonly<Record<MachineKind, MachineFactory>> = Object.freeze({
    qemu: qemuFactory(options),
    container: containerFactory(),
  });
  return {
    lacksTrustedLaunch,
    shape: request => factories[request.kind].shape(request),
    start: request => factories[request.kind].start(request),
    async resume(request) {
      const factory = factories[request.kind];
      if (factory.resume) return await factory.resume(request);
      throw new KilnError('NotSupported', `A machine of the kind ${request.kind} cannot go on from a checkpoint.`);
    },
  };
}
