/** Layers of the finished image: the captured disk with the files that distributors publish, and the fact that it was proven. */
import { join } from 'node:path';
import { ARTIFACT_FILES, type Artifact, type ArtifactFormat, type Artifacts } from '../artifacts.ts';
import type { FinishedDisk, GuestIdentity, PhaseLayer, TakenLayer } from '../phase.ts';

interface ImageFacts {
  readonly image: Omit<FinishedDisk, 'path'>;
  /** What the proof compares with: a machine-id that is gone, and public keys. */
  readonly identity: GuestIdentity;
  readonly artifacts: readonly Omit<Artifact, 'path'>[];
}

/** @param booted whether what follows needs the image itself, not only what is published of it */
export function imageLayer(artifacts: Artifacts, formats: readonly ArtifactFormat[], booted: boolean): PhaseLayer {
  return {
    on: [],
    async keep(state) {
      const { path, ...image } = state.image!;
      const content = async () => {
        const made = await Promise.all([...new Set(formats)].map(format => artifacts.get(format)));
        const facts: ImageFacts = {
          image,
          identity: state.identity!,
          artifacts: made.map(({ path: _, ...artifact }) => artifact),
        };
        const files = Object.fromEntries(made.map(one => [ARTIFACT_FILES[one.format], one.path]));
        return { files: { [ARTIFACT_FILES.qcow2]: path, ...files }, facts: { ...facts } };
      };
      return { state, content: content() };
    },
    restore: async (taken, state, { directory }) => ({
      ...state,
      ...(await restoreImage(taken.at(-1)!, artifacts, booted, directory)),
    }),
  };
}

/** That the very image of that layer came up: the proof's layer has no files. */
export function proofLayer(artifacts: Artifacts): PhaseLayer {
  return {
    on: ['capture'],
    keep: async state => ({ state, content: { files: {}, facts: {} } }),
    restore: async ([image], state, { directory }) => ({
      ...state,
      ...(await restoreImage(image!, artifacts, false, directory)),
    }),
  };
}

/** No byte is read of what nobody needs. */
async function restoreImage(layer: TakenLayer, artifacts: Artifacts, booted: boolean, directory: string) {
  const { image, identity, artifacts: made } = layer.facts as unknown as ImageFacts;
  const names = new Set(made.map(({ format }) => ARTIFACT_FILES[format]));
  if (booted) names.add(ARTIFACT_FILES.qcow2);
  await layer.take([...names]);
  for (const artifact of made) artifacts.have({ ...artifact, path: join(directory, ARTIFACT_FILES[artifact.format]) });
  return { identity, image: { ...image, path: join(directory, ARTIFACT_FILES.qcow2) } };
}
