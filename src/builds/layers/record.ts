/** What the store knows of a layer: layer.json. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

const KEY = '^[0-9a-f]{64}$';

const LayerFile = Type.Object({
  /** In the layer's directory, and in that of the run that takes it. */
  name: Type.String({ pattern: '^[a-z0-9][a-z0-9.-]*$' }),
  /** Bytes, holes included. */
  size: Type.Integer({ minimum: 0 }),
  checksum: Type.String(),
});

const LayerRecord = Type.Object({
  schema: Type.Literal(1),
  key: Type.String({ pattern: KEY }),
  /** Of this making: the same key made anew has other bytes, and nothing that stands on the old ones may stand on them. */
  id: Type.String(),
  /** The `id` of the layer that this one stands on; none: it stands alone, or on the source. */
  parent: Type.Optional(Type.String()),
  /** For people: `customize 2/3 Shell "install"`. */
  name: Type.String(),
  /** The run that made it. */
  runId: Type.String(),
  /** ISO 8601, UTC. */
  madeAt: Type.String(),
  /** When the first of the steps ran whose work is in it, ISO 8601, where that was in another build than the one that made it. */
  ranAt: Type.Optional(Type.String()),
  /** What the phase took: what taking the layer saves. */
  seconds: Type.Number({ minimum: 0 }),
  /** What the phase said of what it made, for the records and the logs of other runs. */
  detail: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  summary: Type.Optional(Type.String()),
  files: Type.Array(LayerFile),
  /** What a build needs to go on from here; no secrets. */
  facts: Type.Record(Type.String(), Type.Unknown()),
});

export type LayerRecord = Readonly<Static<typeof LayerRecord>>;

export const RECORD = 'layer.json';

/** Whether a layer has lost its record, which is renamed into place with it: only a power cut does that. Another Kiln may have records of another kind. */
export async function isCutOff(directory: string): Promise<boolean> {
  try {
    JSON.parse(await readFile(join(directory, RECORD), 'utf8'));
    return false;
  } catch (error) {
    return error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

export const isKey = (name: string): boolean => new RegExp(KEY).test(name);

/** Undefined where there is none, or what is there is none. */
export async function readRecord(directory: string, key: string): Promise<LayerRecord | undefined> {
  if (!isKey(key)) return undefined;
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, RECORD), 'utf8'));
    return Value.Check(LayerRecord, value) && value.key === key ? value : undefined;
  } catch {
    return undefined;
  }
}
