export type { Accelerator, AcceleratorOptions } from './accelerator.ts';
export { type ConsoleRequest, runConsole } from './console.ts';
export { describeAccelerator, qemuFactory } from './factory.ts';
export { sweepMachines } from './sweep.ts';
export { MACHINE_TOOLS, type Tool } from './tools.ts';
