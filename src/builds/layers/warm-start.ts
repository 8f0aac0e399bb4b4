/** Warm starts: layers of the boot phase. What one is of is kept with it, so that a build which cannot take it can say why. */
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { contentText } from '../../disks/content.ts';
import { MACHINE_KINDS, type MachineShape } from '../../machines/machine.ts';
import { shapeDifferences } from '../../machines/shape.ts';
import type { LayerRecord } from './record.ts';

const WarmStart = Type.Object({
  source: Type.Object({
    name: Type.String(),
    fsverity: Type.Optional(Type.String()),
    sha256: Type.Optional(Type.String()),
  }),
  shape: Type.Object({
    kind: Type.Union(MACHINE_KINDS.map(kind => Type.Literal(kind))),
    processors: Type.Integer(),
    memoryMiB: Type.Integer(),
    firmware: Type.Union([Type.Literal('bios'), Type.Literal('uefi')]),
    accelerator: Type.String(),
    model: Type.String(),
  }),
  osDiskSizeGB: Type.Number(),
  /** Sizes of further disks (GiB), where there are any. */
  dataDisks: Type.Optional(Type.Array(Type.Number())),
});

export type WarmStart = Readonly<Static<typeof WarmStart>>;

/** Undefined for layers of other phases, and of an older Kiln. */
export function warmStartOf({ facts }: Pick<LayerRecord, 'facts'>): WarmStart | undefined {
  return Value.Check(WarmStart, facts.warmStart) ? facts.warmStart : undefined;
}

/** One sentence: why the stored warm start that comes nearest does not fit. Undefined where none is of this source, for this kind of machine. */
export function whyCold(stored: readonly Pick<LayerRecord, 'facts'>[], here: WarmStart): string | undefined {
  const misfits = stored
    .map(warmStartOf)
    .filter(
      warm => warm && contentText(warm.source) === contentText(here.source) && warm.shape.kind === here.shape.kind,
    )
    .map(warm => differences(warm!, here))
    .filter(pairs => pairs.length > 0)
    .sort((a, b) => a.length - b.length);
  const [nearest] = misfits;
  if (!nearest) return undefined;
  const [kept, wanted] = (['one', 'other'] as const).map(side => listed(nearest.map(pair => pair[side])));
  return `The warm start of ${here.source.name} was made with ${kept}, this build has ${wanted}; booting cold.`;
}

function differences(kept: WarmStart, here: WarmStart): { one: string; other: string }[] {
  const size = ({ osDiskSizeGB }: WarmStart) =>
    osDiskSizeGB === 0 ? 'the disk of its source' : `a disk of ${osDiskSizeGB} GiB`;
  const disks = kept.osDiskSizeGB === here.osDiskSizeGB ? [] : [{ one: size(kept), other: size(here) }];
  const data = dataSizes(kept) === dataSizes(here) ? [] : [{ one: dataSizes(kept), other: dataSizes(here) }];
  return [...shapeDifferences(kept.shape as MachineShape, here.shape as MachineShape), ...disks, ...data];
}

const dataSizes = ({ dataDisks = [] }: WarmStart) =>
  dataDisks.length === 0 ? 'no further data disk' : `data disks of ${listed(dataDisks.map(String))} GiB`;

const listed = (words: readonly string[]): string =>
  words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
