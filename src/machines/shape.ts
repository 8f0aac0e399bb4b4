/** What a machine's shape says, in words for a person. */
import type { MachineShape } from './machine.ts';

/** Each part of a shape that memory only fits to, by its place in a sentence: `QEMU 7.2.22`, `2048 MiB of memory`. */
function parts({ processors, memoryMiB, firmware, accelerator, model }: MachineShape): string[] {
  const [emulator = '', machine = '', processor = ''] = model.split('/');
  return [
    `QEMU ${emulator}`,
    `the machine type ${machine}`,
    `the processor ${processor}`,
    `the accelerator ${accelerator}`,
    `${processors} processor${processors === 1 ? '' : 's'}`,
    `${memoryMiB} MiB of memory`,
    `${firmware} firmware`,
  ];
}

/** What differs between two shapes of virtual machines, each in words. */
export function shapeDifferences(one: MachineShape, other: MachineShape): { one: string; other: string }[] {
  const others = parts(other);
  return parts(one)
    .map((text, index) => ({ one: text, other: others[index]! }))
    .filter(pair => pair.one !== pair.other);
}
