/** Layers of the finished image: the files that distributors publish, of which one boots, and the fact that it was proven. */
import { join } from 'node:path';
import { ARTIFACT_FILES, type Artifact, type DataArtifact, dataArtifactFile } from '../artifacts.ts';
import type { BuildState, FinishedDisk, GuestIdentity, PhaseLayer, TakenLayer } from '../phase.ts';

/** What this build's source says: one disk can be the source of both generations, and the layer is that of the disk. */
type OfSource = Pick<FinishedDisk, 'hyperVGeneration' | 'osType' | 'firmware'>;

interface ImageFacts {
  readonly image: Omit<FinishedDisk, 'path' | keyof OfSource>;
  /** What the proof compares with: a machine-id that is gone, and public keys. */
  readonly identity: GuestIdentity;
  readonly artifacts: readonly Omit<Artifact, 'path' | 'checksum'>[];
  /** Missing where there are none. */
  readonly dataArtifacts?: readonly Omit<DataArtifact, 'path' | 'checksum'>[];
}

/** @param booted whether what follows needs the image itself, not only what is published of it */
export function imageLayer(booted: boolean): PhaseLayer {
  return {
    on: [],
    async keep(state) {
      const { path: _, hyperVGeneration: __, osType: ___, firmware: ____, ...image } = state.image!;
      const made = state.artifacts!;
      const data = state.dataArtifacts ?? [];
      const facts: ImageFacts = {
        image,
        identity: state.identity!,
        artifacts: made.map(({ path: _, checksum: __, ...artifact }) => artifact),
        ...(data.length > 0 && { dataArtifacts: data.map(({ path: _, checksum: __, ...artifact }) => artifact) }),
      };
      const byName = <Value>(value: (artifact: Artifact) => Value) =>
        Object.fromEntries([
          ...made.map(one => [ARTIFACT_FILES[one.format], value(one)] as const),
          ...data.map(one => [dataArtifactFile(one.lun), value(one)] as const),
        ]);
      const content = { files: byName(one => one.path), checksums: byName(one => one.checksum), facts: { ...facts } };
      return { state, content };
    },
    restore: async (taken, state, { directory }) => ({
      ...state,
      ...(await restoreImage(taken.at(-1)!, state, booted, directory)),
    }),
  };
}

/** That the very image of that layer came up: the proof's layer has no files. */
export function proofLayer(): PhaseLayer {
  return {
    on: ['capture'],
    keep: async state => ({ state, content: { files: {}, facts: {} } }),
    restore: async ([image], state, { directory }) => ({
      ...state,
      ...(await restoreImage(image!, state, false, directory)),
    }),
  };
}

/** No byte is read of what nobody needs. */
async function restoreImage(layer: TakenLayer, { source }: BuildState, booted: boolean, directory: string) {
  const { image, identity, artifacts: made, dataArtifacts: data = [] } = layer.facts as unknown as ImageFacts;
  const names = new Set<string>(made.map(({ format }) => ARTIFACT_FILES[format]));
  for (const { lun } of data) names.add(dataArtifactFile(lun));
  if (booted) names.add(ARTIFACT_FILES[image.format]);
  await (await layer.take([...names])).intact;
  const artifacts = made.map(one => ({ ...one, path: join(directory, ARTIFACT_FILES[one.format]) }));
  const dataArtifacts = data.map(one => ({ ...one, path: join(directory, dataArtifactFile(one.lun)) }));
  const { hyperVGeneration, osType, firmware } = source!;
  const ofSource: OfSource = { hyperVGeneration, osType, firmware };
  return {
    ...{ identity, artifacts, ...(data.length > 0 && { dataArtifacts }) },
    image: { ...image, ...ofSource, path: join(directory, ARTIFACT_FILES[image.format]) },
  };
}
