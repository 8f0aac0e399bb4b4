/** Distributors as places: which resource an image becomes, in which regions, and how that is written down. */

import { pathToFileURL } from 'node:url';
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { idKey, parseId } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { Artifact } from '../../builds/artifacts.ts';
import type { DistributionTarget, Placement, Published, Target } from '../../builds/distributors/distribute.ts';
import type { Transacting } from '../../database/connection.ts';
import type { RunOutputRow, Schema } from '../../database/schema.ts';
import type { Outward } from '../../images/upload/remote-blob.ts';
import { galleryImageVersions } from '../compute/gallery-image-versions.ts';
import { images } from '../compute/images.ts';
import { compareVersions, nextVersion } from '../compute/version-numbers.ts';
import { putValidated, requireResource } from '../life.ts';
import { getResource, listResources } from '../store.ts';
import {
  type Distributor,
  type ManagedImageDistributor,
  parseGalleryImageId,
  regionsOf,
  type SharedImageDistributor,
  versionChoice,
} from './distributors.ts';
import { requireVersionFits, versionProperties } from './gallery-version.ts';
import { requireImageFits } from './managed-image.ts';
import type { ImageTemplate } from './normalise.ts';
import { uploadTarget } from './upload-target.ts';

/** Of a run. */
export interface Origin {
  readonly templateId: string;
  readonly template: ImageTemplate;
  readonly runId: string;
  readonly database: Kysely<Schema>;
  /** Where uploads may lead. Asked when one begins: a server's door opens when it serves. */
  readonly outward: () => Promise<Outward>;
}

export function distributionTargets(origin: Origin): Target[] {
  return origin.template.properties.distribute.map((distributor, index) => targetOf(distributor, index, origin));
}

function targetOf(distributor: Distributor, index: number, origin: Origin): Target {
  switch (distributor.type) {
    case 'VHD':
      return distributor.uri ? uploadTarget(distributor, distributor.uri, origin, write) : vhd(distributor, origin);
    case 'ManagedImage':
      return managedImage(distributor, index, origin);
    case 'SharedImage':
      return sharedImage(distributor, index, origin);
  }
}

/** A new file each time: a VHD has no resource but its run output (Azure: a blob in the staging account's container `vhds`). */
function vhd(distributor: Distributor, origin: Origin): DistributionTarget {
  const { templateId, template, runId } = origin;
  return {
    type: 'VHD',
    runOutputName: distributor.runOutputName,
    label: `VHD "${distributor.runOutputName}" → ${template.location}`,
    lane: `VHD ${distributor.runOutputName}`,
    place: async () => ({
      id: `${templateId}/runs/${runId}/vhds/${distributor.runOutputName}`,
      name: distributor.runOutputName,
      locations: [template.location],
      tags: tagsOf(distributor, origin),
    }),
    record: published => publish(origin, distributor, published, async () => true),
  };
}

function managedImage(distributor: ManagedImageDistributor, index: number, origin: Origin): DistributionTarget {
  const { name } = parseId(distributor.imageId);
  return {
    type: 'ManagedImage',
    runOutputName: distributor.runOutputName,
    label: `ManagedImage "${name}" → ${distributor.location}`,
    lane: idKey(distributor.imageId),
    check: async () => requireImageFits(distributor, index, await getResource(origin.database, distributor.imageId)),
    place: async () => ({
      id: distributor.imageId,
      name,
      locations: [distributor.location],
      tags: tagsOf(distributor, origin),
    }),
    record: published =>
      publish(origin, distributor, published, async trx => {
        const { osType, hyperVGeneration } = published.images[0]!.manifest;
        const osDisk = { osType, osState: 'Generalized', diskSizeGB: gibOf(published.artifact) };
        const dataDisks = published.dataDisks.map(disk => ({ lun: disk.lun, diskSizeGB: gibOf(disk) }));
        const storageProfile = { osDisk, dataDisks };
        await put(trx, images, published, distributor.location, { hyperVGeneration, storageProfile });
        return true;
      }),
  };
}

function sharedImage(distributor: SharedImageDistributor, index: number, origin: Origin): DistributionTarget {
  const { definitionId, version } = parseGalleryImageId(distributor.galleryImageId)!;
  const definition = parseId(definitionId);
  return {
    type: 'SharedImage',
    runOutputName: distributor.runOutputName,
    label: `SharedImage "${definition.names.join('/')}"`,
    lane: idKey(definitionId),
    async check() {
      const found = await requireResource(origin.database, definitionId);
      requireVersionFits(distributor, index, found, origin.template.properties.source);
      if (version === undefined) return;
      const existing = await listResources(origin.database, { parent: definitionId, type: galleryImageVersions.type });
      if (existing.some(one => compareVersions(one.name, version) === 0)) throw taken(version, definitionId);
    },
    async place(source) {
      const { location } = await requireResource(origin.database, definitionId);
      const existing = await listResources(origin.database, { parent: definitionId, type: galleryImageVersions.type });
      const number = nextVersion(
        existing.map(one => one.name),
        {
          ...versionChoice(distributor, origin.template.apiVersion),
          sourceVersion: source.exactVersion,
          now: new Date(),
        },
      );
      return {
        id: `${definitionId}/versions/${number}`,
        name: `${definition.name}/${number}`,
        locations: regionsOf(distributor, location!),
        tags: tagsOf(distributor, origin),
      };
    },
    record: published =>
      publish(origin, distributor, published, async trx => {
        if (await getResource(trx, published.placement.id)) {
          if (version === undefined) return false;
          throw taken(version, definitionId);
        }
        const { location } = await requireResource(trx, definitionId);
        const { storageProfile, ...properties } = versionProperties(distributor, published.placement.locations, origin);
        const osDiskImage = { sizeInGB: gibOf(published.artifact), hostCaching: 'ReadWrite', source: {} };
        const dataDiskImages = published.dataDisks.map(disk => ({
          ...{ lun: disk.lun, sizeInGB: gibOf(disk), hostCaching: 'None' },
        }));
        await put(
          trx,
          galleryImageVersions,
          published,
          location!,
          { ...properties, storageProfile },
          {
            storageProfile: {
              ...{ ...storageProfile, osDiskImage },
              ...(dataDiskImages.length > 0 && { dataDiskImages }),
            },
          },
        );
        return true;
      }),
  };
}

const taken = (version: string, definitionId: string) =>
  new KilnError('Conflict', `The image version ${version} exists already.`, {
    target: `${definitionId}/versions/${version}`,
    hint: 'Name another version in galleryImageId, or leave it out: the next one is found then.',
  });

async function put(
  trx: Transacting,
  definition: ResourceType,
  published: Published,
  location: string,
  properties: JsonObject,
  known: JsonObject = {},
) {
  const { id, tags } = published.placement;
  await putValidated(trx, definition, {
    id,
    apiVersion: definition.apiVersions[0]!,
    body: { location, tags, properties },
    known: { provisioningState: 'Succeeded', ...known },
  });
}

const gibOf = ({ virtualSize }: Pick<Artifact, 'virtualSize'>) => Math.ceil(virtualSize / 1024 ** 3);

export function tagsOf(distributor: Distributor, { runId }: Pick<Origin, 'runId'>): Placement['tags'] {
  return { ...distributor.artifactTags, correlationId: runId };
}

/** The resource and the run output, or neither. @returns false when the placement was taken meanwhile. */
async function publish(
  origin: Origin,
  distributor: Distributor,
  { placement, artifact, images }: Published,
  resource: (trx: Transacting) => Promise<boolean>,
): Promise<boolean> {
  const { path, manifest } = images[0]!;
  const uri = distributor.type === 'VHD' ? pathToFileURL(path).href : null;
  const place = { artifact_id: placement.id, artifact_uri: uri, location: manifest.location, path };
  return await write(origin, distributor, artifact, place, resource);
}

/** What a run output says of where it is. */
export type OutputPlace = Pick<RunOutputRow, 'artifact_id' | 'artifact_uri' | 'location' | 'path'>;

async function write(
  { database, templateId, runId }: Origin,
  distributor: Distributor,
  artifact: Artifact,
  place: OutputPlace,
  resource: (trx: Transacting) => Promise<boolean> = async () => true,
): Promise<boolean> {
  return await database.transaction().execute(async trx => {
    if (!(await resource(trx))) return false;
    const id = `${templateId}/runOutputs/${distributor.runOutputName}`;
    const content = {
      run_id: runId,
      ...place,
      fsverity: artifact.fsverity,
      // That of an older Kiln, whose row this may be.
      sha256: null,
      bytes: artifact.allocatedSize,
      virtual_size: artifact.virtualSize,
      created_at: new Date(),
    };
    await trx
      .insertInto('run_output')
      .values({
        id: id.toLowerCase(),
        display_id: id,
        template_id: templateId.toLowerCase(),
        name: distributor.runOutputName,
        ...content,
      })
      .onConflict(conflict => conflict.column('id').doUpdateSet(content))
      .execute();
    return true;
  });
}
