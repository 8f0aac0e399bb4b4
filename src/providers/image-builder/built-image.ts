/** A source that was built here: a managed image, or a version of a gallery, of which `latest` is one. */
import { KilnError } from '../../arm/errors.ts';
import { LOCAL_SUBSCRIPTION, LOCAL_TENANT, parentId, parseId, sameId } from '../../arm/ids.ts';
import { contentOf } from '../../disks/content.ts';
import { dataDisksOf, type StoredDataDisk } from '../../images/data-disks.ts';
import type { SourceDataDisk, SourceImage } from '../../images/source.ts';
import { list, type StoredImage } from '../../images/store.ts';
import { latestVersion } from '../compute/latest-version.ts';
import { findSharedVersion } from '../compute/shared-galleries.ts';
import { parseSharedImageId } from '../compute/shared-image-id.ts';
import type { Viewer } from '../compute/sharing-profile.ts';
import { getResource, listResources, type StoredResource } from '../store.ts';
import type { ImageTemplate } from './normalise.ts';
import { kindOf } from './same-kind.ts';
import type { ManagedImageSource, SharedImageVersionSource } from './source.ts';
import type { SourceEnvironment, SourceOwner, TemplateSourceImage } from './source-image.ts';

/** Errors: SourceNotFound, SourceUnusable. */
export async function builtImage(
  source: ManagedImageSource | SharedImageVersionSource,
  template: SourceOwner,
  environment: SourceEnvironment,
): Promise<TemplateSourceImage> {
  const missing = source.type === 'ManagedImage' ? noManagedImage(source.imageId) : noVersion(source.imageVersionId);
  const id =
    source.type === 'ManagedImage' ? source.imageId : await versionId(source.imageVersionId, template, environment);
  const shared = source.type === 'SharedImageVersion';
  const definition = shared ? await getResource(environment.database, parentId(parseId(id))!) : undefined;
  requireGeneralized(definition, missing);
  const image = await requireImage(id, template.location, environment.home.root, missing);
  return { ...image, ...(definition && kindOf(definition.properties)) };
}

/** An image that was made of a machine as it is, users and all, boots as that machine: nobody's to build on. Errors: SourceUnusable. */
function requireGeneralized(definition: StoredResource | undefined, missing: string): void {
  if (definition?.properties.osState === 'Specialized')
    throw new KilnError('SourceUnusable', `${missing} It is specialized, and Image Builder takes generalized images.`, {
      target: 'properties.source',
      hint: "Generalize the machine that it was made of (sudo waagent -deprovision+user), and make an image of an image definition whose osState is 'Generalized'.",
    });
}

/** The service's sentences for a source that is not there (contract 3.2); Kiln's own follows. */
const noManagedImage = (id: string): string =>
  `Build (Managed Image) step failed: Error getting Managed Image '${id}':`;
const noVersion = (id: string): string =>
  `Build (Shared Image Version) step failed for Image Version '${id}': Error getting Image Version '${id}':`;

/** `…/versions/latest` is what is newest now, in the template's region. Of a gallery that somebody shares it is the version behind the shared one. */
export async function versionId(id: string, template: SourceOwner, { database }: SourceEnvironment): Promise<string> {
  const { location } = template;
  const latest = versionName(id).toLowerCase() === 'latest';
  const target = 'properties.source.imageVersionId';
  const shared = parseSharedImageId(id);
  if (shared) {
    const version = await findSharedVersion(database, shared, viewerOf(template), location);
    if (version) return version.id;
    throw new KilnError(
      'SourceNotFound',
      `${noVersion(id)} It is not shared with the template's subscription, or has no such version in ${location}.`,
      { target },
    );
  }
  parseId(id, target);
  if (!latest) {
    const { provisioningState: state } = (await getResource(database, id))?.properties ?? {};
    if (state === undefined || state === 'Succeeded' || state === 'Updating') return id;
    throw new KilnError('SourceNotFound', `${noVersion(id)} Its provisioning state is ${state}.`, { target });
  }
  const definition = id.replace(/\/versions\/[^/]+\/?$/i, '');
  const newest = latestVersion(await listResources(database, { parent: definition }), location);
  if (newest) return newest.id;
  throw new KilnError(
    'SourceNotFound',
    `${noVersion(id)} ${definition} has no version that is in ${location} and counts as latest.`,
    { target },
  );
}

/** The last part of a version's id: a number, or `latest`. */
export const versionName = (id: string): string => id.replace(/\/$/, '').split('/').at(-1)!;

/** As whom a template sees what others share. */
export const viewerOf = ({ id }: Pick<ImageTemplate, 'id'>): Viewer => ({
  subscription: id === undefined ? LOCAL_SUBSCRIPTION : parseId(id).subscription,
  tenantId: LOCAL_TENANT,
});

async function requireImage(id: string, location: string, home: string, missing: string): Promise<TemplateSourceImage> {
  const all = await list(home);
  const replicas = all.filter(({ manifest }) => sameId(manifest.id, id));
  const here = replicas.find(({ manifest }) => manifest.location === location);
  if (here) return sourceImageOf(here, dataDisksOf(all, here));
  throw new KilnError(
    'SourceNotFound',
    replicas.length === 0
      ? `${missing} No image was built here that is called ${id}.`
      : `${missing} ${id} is in ${replicas.map(({ manifest }) => manifest.location).join(', ')}, not in the template's region ${location}.`,
    {
      target: 'properties.source',
      hint:
        replicas.length === 0
          ? '`kiln images list` shows what was built.'
          : 'Distribute it to that region as well, or build there.',
    },
  );
}

const sourceDataDisk = ({ lun, stored: { manifest, path } }: StoredDataDisk<StoredImage>): SourceDataDisk => ({
  ...{ lun, disk: { path, format: 'qcow2' } },
  ...{ ...contentOf(manifest), virtualSize: manifest.virtualSize },
});

function sourceImageOf(
  { manifest: image, path }: StoredImage,
  dataDisks: readonly StoredDataDisk<StoredImage>[],
): TemplateSourceImage {
  const source: SourceImage = {
    name: image.id,
    exactVersion: parseId(image.id).name,
    disk: { path, format: 'qcow2' },
    ...contentOf(image),
    virtualSize: image.virtualSize,
    osType: image.osType,
    hyperVGeneration: image.hyperVGeneration,
    firmware: image.firmware,
    provisioning: 'cloud-init',
    ...(dataDisks.length > 0 && { dataDisks: dataDisks.map(sourceDataDisk) }),
  };
  return {
    reference: image.id,
    osType: image.osType,
    hyperVGeneration: image.hyperVGeneration,
    architecture: 'x64',
    firmware: image.firmware,
    replaced: false,
    known: async () => source,
    acquire: async () => ({ image: source, cached: true }),
  };
}
