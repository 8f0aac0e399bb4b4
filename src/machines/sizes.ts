/** Azure's virtual machine sizes, as far as they can matter to a build: processors and memory. */
import os from 'node:os';

export interface MachineSize {
  /** Azure's own spelling, such as `Standard_D2ds_v4`. */
  readonly name: string;
  readonly processors: number;
  readonly memoryMiB: number;
}

/** What a build machine gets: a size, or what of it the host can give. */
export interface CappedSize {
  readonly processors: number;
  readonly memoryMiB: number;
  /** For the build log, when the host gives less than the size promises, or has little memory free at the moment. */
  readonly sentence?: string;
}

export interface HostCapacity {
  readonly processors: number;
  readonly memoryMiB: number;
  readonly freeMemoryMiB: number;
}

/** A family: its name with `#` for the number, and `number: [processors, GiB]`. */
type Family = readonly [name: string, sizes: Readonly<Record<string, readonly [number, number]>>];

const scaled = (gibPerProcessor: number, ...processors: number[]): Family[1] =>
  Object.fromEntries(processors.map(count => [count, [count, count * gibPerProcessor] as const]));

const BASIC = {
  0: [1, 0.75],
  1: [1, 1.75],
  2: [2, 3.5],
  3: [4, 7],
  4: [8, 14],
  5: [2, 14],
  6: [4, 28],
  7: [8, 56],
} as const;
const CLASSIC = {
  1: [1, 3.5],
  2: [2, 7],
  3: [4, 14],
  4: [8, 28],
  11: [2, 14],
  12: [4, 28],
  13: [8, 56],
  14: [16, 112],
} as const;
const DS = { ...CLASSIC, 5: [16, 56], 15: [20, 140] } as const;
const GENERAL = scaled(4, 2, 4, 8, 16, 32, 48, 64, 96);
const LOW_MEMORY = scaled(2, 2, 4, 8, 16, 32, 48, 64, 96);
const HIGH_MEMORY = scaled(8, 2, 4, 8, 16, 20, 32, 48, 64);
const BURST = {
  '1ls': [1, 0.5],
  '1s': [1, 1],
  '1ms': [1, 2],
  '2s': [2, 4],
  '2ms': [2, 8],
  '4ms': [4, 16],
  '8ms': [8, 32],
  '12ms': [12, 48],
  '16ms': [16, 64],
  '20ms': [20, 80],
} as const;

/** Source: Microsoft Learn, "Sizes for virtual machines in Azure", general purpose, compute and memory optimized. */
const FAMILIES: readonly Family[] = [
  ['Standard_A#', BASIC],
  ['Standard_A#_v2', scaled(2, 1, 2, 4, 8)],
  ['Standard_A#m_v2', scaled(8, 2, 4, 8)],
  ['Standard_B#', BURST],
  ['Standard_B#ts_v2', scaled(0.5, 2)],
  ['Standard_B#ls_v2', scaled(2, 2, 4, 8, 16, 32)],
  ...['Standard_B#s_v2', 'Standard_B#as_v2'].map((name): Family => [name, scaled(4, 2, 4, 8, 16, 32)]),
  ...['Standard_D#', 'Standard_DS#'].map((name): Family => [name, CLASSIC]),
  ...['Standard_D#_v2', 'Standard_DS#_v2'].map((name): Family => [name, DS]),
  ...['', 's'].map((letters): Family => [`Standard_D#${letters}_v3`, GENERAL]),
  ...['', 's', 'd', 'ds', 'a', 'as'].map((letters): Family => [`Standard_D#${letters}_v4`, GENERAL]),
  ...['', 's', 'd', 'ds', 'as', 'ads'].map((letters): Family => [`Standard_D#${letters}_v5`, GENERAL]),
  ...['s', 'ds', 'as', 'ads'].map((letters): Family => [`Standard_D#${letters}_v6`, GENERAL]),
  ...['ls', 'lds'].flatMap((letters): Family[] => [5, 6].map(v => [`Standard_D#${letters}_v${v}`, LOW_MEMORY])),
  ...['', 's'].map((letters): Family => [`Standard_E#${letters}_v3`, { ...HIGH_MEMORY, 64: [64, 432] }]),
  ...['', 's', 'd', 'ds'].map((letters): Family => [`Standard_E#${letters}_v4`, { ...HIGH_MEMORY, 64: [64, 504] }]),
  ...['a', 'as'].map((letters): Family => [`Standard_E#${letters}_v4`, HIGH_MEMORY]),
  ...['', 's', 'd', 'ds', 'as', 'ads'].map((letters): Family => [`Standard_E#${letters}_v5`, HIGH_MEMORY]),
  ...['', 's'].map((letters): Family => [`Standard_F#${letters}`, scaled(2, 1, 2, 4, 8, 16)]),
  ['Standard_F#s_v2', scaled(2, 2, 4, 8, 16, 32, 48, 64, 72)],
];

const SIZES: ReadonlyMap<string, MachineSize> = new Map(
  FAMILIES.flatMap(([family, sizes]) =>
    Object.entries(sizes).map(([number, [processors, gib]]) => {
      const name = family.replace('#', number);
      return [name.toLowerCase(), Object.freeze({ name, processors, memoryMiB: gib * 1024 })];
    }),
  ),
);

/** The size that Azure Image Builder takes when `vmSize` is empty. Source: template reference, `vmProfile.vmSize`. */
export const DEFAULT_SIZES = Object.freeze({ V1: 'Standard_D1_v2', V2: 'Standard_D2ds_v4' });

/**
 * Processors and memory of an Azure size, whose name is compared without regard to case, as Azure does.
 * An empty name is the default of the image's Hyper-V generation. `undefined` when the table does not know it.
 */
export function sizeOf(vmSize: string, generation: 'V1' | 'V2' = 'V1'): MachineSize | undefined {
  return SIZES.get((vmSize || DEFAULT_SIZES[generation]).toLowerCase());
}

/** Every size in the table, in Azure's spelling. */
export function sizeNames(): readonly string[] {
  return [...SIZES.values()].map(size => size.name);
}

const LEAST_MEMORY_MIB = 1024;

/**
 * What the host can give of a size: no more processors than it has, no more than half of its memory, and never less than
 * 1 GiB. Half of the whole, whatever is free at the moment, so that the same template gets the same machine on the same
 * host from day to day: memory is part of every layer's key.
 */
export function capped(size: MachineSize, host: HostCapacity = hostCapacity()): CappedSize {
  const processors = Math.max(1, Math.min(size.processors, host.processors));
  const most = wholeQuarters(host.memoryMiB / 2);
  const memoryMiB = Math.max(LEAST_MEMORY_MIB, Math.min(size.memoryMiB, most));
  const less = [
    processors < size.processors && `${processors} of ${size.processors} processors`,
    memoryMiB < size.memoryMiB && `${gib(memoryMiB)} of ${gib(size.memoryMiB)} GiB of memory`,
  ].filter(part => part !== false);
  const sentences = [
    less.length > 0 && `${size.name} is cut to what this host can give: ${less.join(' and ')}.`,
    host.freeMemoryMiB < memoryMiB &&
      `The machine gets up to ${gib(memoryMiB)} GiB of memory, and only ${gib(host.freeMemoryMiB)} GiB are free on this host: ` +
        'if it runs out, free some, or choose a smaller vmSize.',
  ].filter(part => part !== false);
  return { processors, memoryMiB, ...(sentences.length > 0 && { sentence: sentences.join(' ') }) };
}

/** This host, now. */
export function hostCapacity(): HostCapacity {
  const mebibyte = 1024 ** 2;
  return {
    processors: os.availableParallelism(),
    memoryMiB: Math.floor(os.totalmem() / mebibyte),
    freeMemoryMiB: Math.floor(os.freemem() / mebibyte),
  };
}

const wholeQuarters = (mebibytes: number): number => Math.floor(mebibytes / 256) * 256;
const gib = (mebibytes: number): string => String(Math.round((mebibytes / 1024) * 100) / 100);
