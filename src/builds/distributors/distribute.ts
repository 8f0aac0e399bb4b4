/** The distribute phases: finished files go into the store of each region, or to an endpoint elsewhere, then become known, all or nothing for one target. */
import { asKilnError, KilnError } from '../../arm/errors.ts';
import { contentOf } from '../../disks/content.ts';
import { dataDiskId } from '../../images/data-disks.ts';
import type { ImageManifest } from '../../images/manifest.ts';
import type { SourceImage } from '../../images/source.ts';
import { addImage, IMAGE_FILES, remove, type StoredImage, supersede } from '../../images/store.ts';
import type { Artifact, ArtifactFormat, DataArtifact } from '../artifacts.ts';
import type { BuildState, Phase, PhaseContext, PhaseResult } from '../phase.ts';

/** Where one distributor's image goes; decided when it is published, since versions depend on what is there then. */
export interface Placement {
  /** Resource id of the image, version or blob. */
  readonly id: string;
  readonly name: string;
  readonly locations: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
}

export interface Published {
  readonly placement: Placement;
  readonly artifact: Artifact;
  /** Of the data disks that were published with it, by their units. */
  readonly dataDisks: readonly DataArtifact[];
  /** One a location, in the placement's order. */
  readonly images: readonly StoredImage[];
}

interface TargetFacts {
  readonly type: 'VHD' | 'ManagedImage' | 'SharedImage';
  readonly runOutputName: string;
  /** For people and plans: `ManagedImage → westus2`. */
  readonly label: string;
  /** What no two targets may publish at once: the second has to see what the first has made of it. */
  readonly lane: string;
  /**
   * Whether the image can go there as far as it is known before the build: no hour of work for a version that exists. Rejects with what is in the way.
   */
  check?(signal?: AbortSignal): Promise<void>;
}

/** The store of regions. */
export interface DistributionTarget extends TargetFacts {
  place(source: SourceImage): Promise<Placement>;
  /** Makes what was published known: resources and the run output, in one transaction. False when another run took the placement meanwhile. */
  record(published: Published): Promise<boolean>;
}

/** A place that is not Kiln's own store. */
export interface UploadTarget extends TargetFacts {
  /** Sends the file and makes known that it is there. What an earlier attempt has sent may stay. */
  upload(artifact: Artifact, context: Pick<PhaseContext, 'log' | 'signal' | 'progress'>): Promise<Sent>;
}

export interface Sent {
  /** Where it is, without secrets. */
  readonly uri: string;
  /** Bytes that were sent for it. */
  readonly bytes: number;
}

export type Target = DistributionTarget | UploadTarget;

export const FORMATS: Readonly<Record<Target['type'], ArtifactFormat>> = Object.freeze({
  VHD: 'vhd',
  ManagedImage: 'qcow2',
  SharedImage: 'qcow2',
});

/** How often a version is chosen anew when another run was faster. */
const TRIES = 5;

/** Facts about the run that every manifest carries. */
export type Provenance = Pick<ImageManifest, 'runId' | 'templateId'>;

/** @param home the state directory */
export function distributePhase(target: Target, home: string, provenance: Provenance): Phase {
  return {
    kind: 'distribute',
    name: target.label,
    subState: 'Distributing',
    // Targets have nothing to do with each other: what one of them cannot take, the others can.
    onFailure: 'next',
    lane: target.lane,
    inputs: { type: target.type, format: FORMATS[target.type] },
    about: aboutOf(target),
    run: 'upload' in target ? uploading(target) : publishing(target, home, provenance),
  };
}

/** Of a target that has the image already: an earlier run of the template has put it there. */
export function publishedPhase(target: Target, home: string, earlier: Readonly<Record<string, unknown>>): Phase {
  return {
    ...distributePhase(target, home, { runId: '', templateId: '' }),
    async run(state, { log }) {
      log.say(`CACHED distribute ${target.label}: run ${String(earlier.publishedBy)} has put the image there.`);
      return { state, cached: true, detail: earlier };
    },
  };
}

/** What a later run knows the target by. */
const aboutOf = ({ runOutputName, lane }: Target) => ({ runOutputName, to: lane });

const artifactFor = ({ type }: Target, state: BuildState): Artifact =>
  state.artifacts!.find(({ format }) => format === FORMATS[type])!;

/** The data disks that go with it: a VHD is one disk. */
function dataDisksFor(
  { type, label }: Target,
  state: BuildState,
  { log }: Pick<PhaseContext, 'log'>,
): readonly DataArtifact[] {
  const all = state.dataArtifacts ?? [];
  if (type !== 'VHD' || all.length === 0) return all;
  log.say(`${label}: a VHD is the disk of the system alone; data disks go into managed images and gallery versions.`);
  return [];
}

function uploading(target: UploadTarget): Phase['run'] {
  return async (state, context) => {
    const artifact = artifactFor(target, state);
    dataDisksFor(target, state, context);
    const { uri, bytes } = await target.upload(artifact, context).catch(thrown => {
      throw unpublished(target, thrown);
    });
    context.log.say(`${target.label}: ${uri}`);
    return { state, bytes, detail: { ...aboutOf(target), uri, fsverity: artifact.fsverity } };
  };
}

/** What went wrong with the target; of what is no one's fault that could be named, that it was this target. */
function unpublished({ label }: Target, thrown: unknown): unknown {
  const error = asKilnError(thrown);
  if (error.code !== 'InternalError') return thrown;
  return new KilnError('DistributionFailed', `${label} could not be published: ${error.message}`, { cause: thrown });
}

function publishing(target: DistributionTarget, home: string, provenance: Provenance): Phase['run'] {
  return run;

  async function run(state: BuildState, context: PhaseContext): Promise<PhaseResult> {
    const artifact = artifactFor(target, state);
    const dataDisks = dataDisksFor(target, state, context);
    for (let tries = 1; ; tries++) {
      const placement = await target.place(state.source!);
      if (await publish(placement, artifact, dataDisks, state, context)) {
        context.log.say(`${target.label}: ${placement.id}`);
        return {
          state,
          bytes: [artifact, ...dataDisks].reduce((sum, one) => sum + one.allocatedSize, 0) * placement.locations.length,
          detail: {
            ...aboutOf(target),
            ...{ id: placement.id, fsverity: artifact.fsverity, locations: placement.locations },
            ...(dataDisks.length > 0 && { dataDisks: dataDisks.map(({ lun, fsverity }) => ({ lun, fsverity })) }),
          },
        };
      }
      if (tries === TRIES)
        throw new KilnError('DistributionFailed', `${target.label}: other runs took ${TRIES} versions in a row.`);
    }
  }

  async function publish(
    placement: Placement,
    artifact: Artifact,
    dataDisks: readonly DataArtifact[],
    state: BuildState,
    context: PhaseContext,
  ): Promise<boolean> {
    const data: StoredImage[] = [];
    const images: StoredImage[] = [];
    // An image is there when its own disk is: that one comes last, and goes first.
    const withdraw = async () => {
      for (const image of [...images, ...data]) await remove(image).catch(() => {});
    };
    try {
      const { signal } = context;
      signal.throwIfAborted();
      const add = async (disks: readonly (Artifact & { readonly lun?: number })[], into: StoredImage[]) => {
        const adding = disks.flatMap(disk =>
          placement.locations.map(location =>
            addImage(home, disk.path, manifestOf(placement, location, disk, state), { signal }),
          ),
        );
        // All of them have ended before any is taken back.
        for (const end of await Promise.allSettled(adding)) if (end.status === 'fulfilled') into.push(end.value);
        await Promise.all(adding);
        signal.throwIfAborted();
      };
      await add(dataDisks, data);
      await add([artifact], images);
      const recorded = await target.record({ placement, artifact, dataDisks, images });
      if (!recorded) await withdraw();
      // From here on the image is the resource; what it replaces may go, now or at the next publication.
      else for (const image of images) await supersede(home, image).catch(() => {});
      return recorded;
    } catch (thrown) {
      await withdraw();
      throw unpublished(target, thrown);
    }
  }

  function manifestOf(
    placement: Placement,
    location: string,
    artifact: Artifact & { readonly lun?: number },
    state: BuildState,
  ): ImageManifest {
    const { lun } = artifact;
    const source = state.source!;
    const image = state.image!;
    return {
      schema: 1,
      id: lun === undefined ? placement.id : dataDiskId(placement.id, lun),
      kind: target.type,
      name: lun === undefined ? placement.name : `${placement.name} (data disk ${lun})`,
      location,
      format: artifact.format,
      file: IMAGE_FILES[artifact.format],
      virtualSize: artifact.virtualSize,
      allocatedSize: artifact.allocatedSize,
      fsverity: artifact.fsverity,
      createdAt: new Date().toISOString(),
      ...provenance,
      runOutputName: target.runOutputName,
      source: { name: source.name, ...contentOf(source), exactVersion: source.exactVersion },
      osType: image.osType,
      hyperVGeneration: image.hyperVGeneration,
      firmware: image.firmware,
      tags: placement.tags,
    };
  }
}
