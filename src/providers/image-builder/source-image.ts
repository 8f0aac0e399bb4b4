/** A template's source as a disk: of the catalogue, or an image that was built here. */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { parseId } from '../../arm/ids.ts';
import type { BuildRequest } from '../../builds/build.ts';
import type { Schema } from '../../database/schema.ts';
import type { Home } from '../../home.ts';
import { acquirePlatformImage, resolvePlatformImage } from '../../images/catalogue/acquire.ts';
import { findEntry, type UserEntries } from '../../images/catalogue/lookup.ts';
import { joinUserEntries, readUserEntries } from '../../images/catalogue/user-entries.ts';
import { list, type StoredImage } from '../../images/store.ts';
import { latestVersion } from '../compute/gallery-image-versions.ts';
import { listResources } from '../store.ts';
import type { ImageTemplate } from './normalise.ts';
import type { PlatformImageSource } from './source.ts';

export interface SourceEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  /** A catalogue file that wins over the state directory's. */
  readonly catalogue?: string;
}

export type TemplateSourceImage = BuildRequest['source'] & {
  readonly osType: 'Linux' | 'Windows';
  readonly hyperVGeneration: 'V1' | 'V2';
  readonly firmware: 'bios' | 'uefi';
};

/** What the template starts from; nothing is fetched or made yet. Errors: SourceNotFound, SourceUnusable. */
export async function sourceOf(template: ImageTemplate, environment: SourceEnvironment): Promise<TemplateSourceImage> {
  const { source } = template.properties;
  if (source.type === 'PlatformImage') return await platformImage(source, environment);
  const id =
    source.type === 'ManagedImage' ? source.imageId : await versionId(source.imageVersionId, template, environment);
  return builtImage(await requireImage(id, template.location, environment.home.root));
}

async function platformImage(
  source: PlatformImageSource,
  environment: SourceEnvironment,
): Promise<TemplateSourceImage> {
  const { publisher, offer, sku, version } = source;
  const reference = { publisher, offer, sku, version };
  const userEntries = await userCatalogue(environment);
  const { entry } = findEntry(reference, userEntries);
  const options = { cacheDirectory: environment.home.sources, userEntries };
  return {
    reference: [publisher, offer, sku, version].join(':'),
    osType: entry.osType,
    hyperVGeneration: entry.hyperVGeneration,
    firmware: entry.firmware,
    async acquire(acquiring) {
      const before = await resolvePlatformImage(reference, options);
      const image = await acquirePlatformImage(reference, { ...options, ...acquiring });
      return { image, cached: before.exactVersion === image.exactVersion };
    },
  };
}

/** The state directory's own catalogue, under the one that the command line names. */
export async function userCatalogue({
  home,
  catalogue,
}: Pick<SourceEnvironment, 'home' | 'catalogue'>): Promise<UserEntries> {
  const own = await readUserEntries(home.catalogueFile);
  return catalogue === undefined ? own : joinUserEntries(await readUserEntries(catalogue, { required: true }), own);
}

/** `…/versions/latest` is what is newest now, in the template's region. */
async function versionId(id: string, { location }: ImageTemplate, { database }: SourceEnvironment): Promise<string> {
  const { name } = parseId(id, 'properties.source.imageVersionId');
  if (name.toLowerCase() !== 'latest') return id;
  const definition = id.replace(/\/versions\/[^/]+\/?$/i, '');
  const newest = latestVersion(await listResources(database, { parent: definition }), location);
  if (newest) return newest.id;
  throw new KilnError('SourceNotFound', `${definition} has no version that is in ${location} and counts as latest.`, {
    target: 'properties.source.imageVersionId',
  });
}

async function requireImage(id: string, location: string, home: string): Promise<StoredImage> {
  const replicas = (await list(home)).filter(({ manifest }) => manifest.id.toLowerCase() === id.toLowerCase());
  const here = replicas.find(({ manifest }) => manifest.location === location);
  if (here) return here;
  throw new KilnError(
    'SourceNotFound',
    replicas.length === 0
      ? `No image was built here that is called ${id}.`
      : `${id} is in ${replicas.map(({ manifest }) => manifest.location).join(', ')}, not in the template's region ${location}.`,
    {
      target: 'properties.source',
      hint:
        replicas.length === 0
          ? '`kiln images list` shows what was built.'
          : 'Distribute it to that region as well, or build there.',
    },
  );
}

function builtImage({ manifest: image, path }: StoredImage): TemplateSourceImage {
  const source = {
    name: image.id,
    exactVersion: parseId(image.id).name,
    disk: { path, format: 'qcow2' as const },
    sha256: image.sha256,
    virtualSize: image.virtualSize,
    osType: image.osType,
    hyperVGeneration: image.hyperVGeneration,
    firmware: image.firmware,
    provisioning: 'cloud-init' as const,
  };
  return {
    reference: image.id,
    osType: image.osType,
    hyperVGeneration: image.hyperVGeneration,
    firmware: image.firmware,
    acquire: async () => ({ image: source, cached: true }),
  };
}
