/** What stands beside a finished image: where it comes from, what it is, how to know it again. */
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';

const SHA256 = Type.String({ pattern: '^[0-9a-f]{64}$' });
/** As `fsverity digest` prints it. */
const FSVERITY = Type.String({ pattern: '^sha256:[0-9a-f]{64}$' });
const Digest = { fsverity: Type.Optional(FSVERITY), sha256: Type.Optional(SHA256) };
const Size = Type.Integer({ minimum: 0 });

export const ImageManifest = Type.Object({
  schema: Type.Literal(1),
  /** ARM resource id; of a VHD, the id of its run output. Compared without regard to case. */
  id: Type.String({ pattern: '^/' }),
  kind: Type.Union([Type.Literal('ManagedImage'), Type.Literal('SharedImage'), Type.Literal('VHD')]),
  name: Type.String({ minLength: 1 }),
  location: Type.String({ pattern: '^[a-z0-9]+$' }),
  format: Type.Union([Type.Literal('qcow2'), Type.Literal('vhd'), Type.Literal('raw')]),
  /** The disk's file name, beside the manifest. */
  file: Type.Union([Type.Literal('disk.qcow2'), Type.Literal('image.vhd'), Type.Literal('disk.raw')]),
  /** Bytes. */
  virtualSize: Size,
  allocatedSize: Size,
  /** Of the file: one of the two, see `ContentDigest`. */
  ...Digest,
  /** ISO 8601, UTC. */
  createdAt: Type.String(),
  /** Of an image that was built: by which run, of which template, under which name. */
  runId: Type.Optional(Type.String()),
  runOutputName: Type.Optional(Type.String()),
  templateId: Type.Optional(Type.String()),
  /** Of an image that was imported or copied: the operation that did it. */
  operationId: Type.Optional(Type.String()),
  /** What it was made from: an image, or the URL of a VHD. The digest is that of the source's file, the version one of an image. */
  source: Type.Object({
    name: Type.String(),
    ...Digest,
    exactVersion: Type.Optional(Type.String()),
  }),
  osType: Type.Union([Type.Literal('Linux'), Type.Literal('Windows')]),
  hyperVGeneration: Type.Union([Type.Literal('V1'), Type.Literal('V2')]),
  firmware: Type.Union([Type.Literal('bios'), Type.Literal('uefi')]),
  tags: Type.Record(Type.String(), Type.String()),
});

export type ImageManifest = Readonly<Static<typeof ImageManifest>>;
export type ImageKind = ImageManifest['kind'];

/** Reads a manifest back. Fields of newer versions are let through; `undefined` for anything that is no manifest. */
export function parseManifest(text: string): ImageManifest | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (!Value.Check(ImageManifest, value)) return undefined;
    const known = (value.runId ?? value.operationId) !== undefined && (value.fsverity ?? value.sha256) !== undefined;
    return known ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The run or operation that made it: every image has one. */
export function makerOf({ runId, operationId }: Pick<ImageManifest, 'runId' | 'operationId'>): string {
  const maker = runId ?? operationId;
  if (maker === undefined) throw new Error('an image that nobody made');
  return maker;
}
