/** Machines of every kind, each made by its own factory. */
import { containerFactory } from './container/factory.ts';
import type { MachineFactory, MachineKind } from './machine.ts';
import type { AcceleratorOptions } from './qemu/accelerator.ts';
import { qemuFactory } from './qemu/factory.ts';

export function machineFactory(options: AcceleratorOptions = {}): MachineFactory {
  const factories: Readonly<Record<MachineKind, MachineFactory>> = Object.freeze({
    qemu: qemuFactory(options),
    container: containerFactory(),
  });
  return {
    shape: request => factories[request.kind].shape(request),
    start: request => factories[request.kind].start(request),
  };
}
