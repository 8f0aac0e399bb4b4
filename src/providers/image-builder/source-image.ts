/** A template's source as a disk: of the catalogue, or an image that was built here. */
import type { Kysely } from 'kysely';
import { KilnError } from '../../arm/errors.ts';
import { sameText } from '../../arm/ids.ts';
import type { BuildRequest } from '../../builds/build.ts';
import type { Schema } from '../../database/schema.ts';
import type { Home } from '../../home.ts';
import { acquirePlatformImage, cachedPlatformImage, resolvePlatformImage } from '../../images/catalogue/acquire.ts';
import type { PurchasePlan } from '../../images/catalogue/entries.ts';
import { findEntry, type UserEntries } from '../../images/catalogue/lookup.ts';
import { newestPlatformImage } from '../../images/catalogue/newest.ts';
import { joinUserEntries, readUserEntries } from '../../images/catalogue/user-entries.ts';
import type { SourceImage } from '../../images/source.ts';
import { patchProperties, type StoredResource } from '../store.ts';
import { builtImage, versionId, versionName } from './built-image.ts';
import type { ImageTemplate, ImageTemplateProperties } from './normalise.ts';
import type { ImageKind } from './same-kind.ts';
import type { PlatformImageSource } from './source.ts';

export interface SourceEnvironment {
  readonly database: Kysely<Schema>;
  readonly home: Home;
  /** A catalogue file that wins over the state directory's. */
  readonly catalogue?: string;
}

export type TemplateSourceImage = BuildRequest['source'] &
  ImageKind & {
    readonly osType: 'Linux' | 'Windows';
    readonly hyperVGeneration: 'V1' | 'V2';
    readonly firmware: 'bios' | 'uefi';
    /** The disk as far as it is on this host already. */
    readonly known: () => Promise<SourceImage | undefined>;
    /** Another image stands in for the one that was named. */
    readonly replaced: boolean;
  };

/** What of a template its source follows from. */
export type SourceOwner = Pick<ImageTemplate, 'id' | 'location'> & {
  readonly properties: Pick<ImageTemplateProperties, 'source'>;
};

/** What the template starts from; nothing is fetched or made yet. Errors: SourceNotFound, SourceUnusable, ValidationFailed (its purchase plan). */
export async function sourceOf(template: SourceOwner, environment: SourceEnvironment): Promise<TemplateSourceImage> {
  const { source } = template.properties;
  return source.type === 'PlatformImage'
    ? await platformImage(source, environment)
    : await builtImage(source, template, environment);
}

async function platformImage(
  source: PlatformImageSource,
  environment: SourceEnvironment,
): Promise<TemplateSourceImage> {
  const { publisher, offer, sku, version } = source;
  const reference = { publisher, offer, sku, version };
  const userEntries = await userCatalogue(environment);
  const { entry, notes } = findEntry(reference, userEntries);
  // An image that stands in for another one has not that one's plan.
  if (notes.length === 0) requirePlan(source, entry.plan);
  const options = { cacheDirectory: environment.home.sources, userEntries };
  return {
    reference: [publisher, offer, sku, version].join(':'),
    osType: entry.osType,
    hyperVGeneration: entry.hyperVGeneration,
    architecture: entry.architecture,
    firmware: entry.firmware,
    known: () => cachedPlatformImage(reference, options),
    replaced: notes.length > 0,
    async acquire(acquiring) {
      const before = await resolvePlatformImage(reference, options);
      const image = await acquirePlatformImage(reference, { ...options, ...acquiring });
      return { image, cached: before.exactVersion === image.exactVersion };
    },
  };
}

/**
 * Whoever builds on an image with a purchase plan names that plan, all of it. Where the catalogue knows of none, what a template says is taken as it is: an image
 * of the marketplace that one has put into the catalogue oneself may have one. Errors: ValidationFailed.
 */
function requirePlan({ publisher, offer, sku, planInfo }: PlatformImageSource, plan: PurchasePlan | undefined): void {
  if (!plan) return;
  const target = 'properties.source.planInfo';
  const name = `${publisher}:${offer}:${sku}`;
  const hint = `Its plan: ${JSON.stringify({ planName: plan.name, planProduct: plan.product, planPublisher: plan.publisher })}.`;
  if (!planInfo)
    throw new KilnError(
      'ValidationFailed',
      `The platform image '${name}' has a purchase plan: 'planInfo' is required.`,
      { target, hint },
    );
  for (const [field, wanted] of [
    ['planName', plan.name],
    ['planProduct', plan.product],
    ['planPublisher', plan.publisher],
  ] as const)
    if (!sameText(planInfo[field], wanted))
      throw new KilnError(
        'ValidationFailed',
        `The ${field} '${planInfo[field]}' is not that of the platform image '${name}', which is '${wanted}'.`,
        { target: `${target}.${field}`, hint },
      );
}

/** How long a publisher is asked for its newest version while a template is made (ms); its builds ask again, and wait longer. */
const PATIENCE = 3_000;

/**
 * What `exactVersion` says when a template has been made: the version that `latest` stands for now, or `latest` itself where that is not known before
 * somebody makes or fetches it; otherwise the version that the template names.
 */
export async function exactVersionOf(
  template: ImageTemplate,
  environment: SourceEnvironment,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { source } = template.properties;
  if (source.type === 'ManagedImage') return undefined;
  if (source.type === 'SharedImageVersion') return await versionId(source.imageVersionId, template, environment);
  const { publisher, offer, sku, version } = source;
  if (version.toLowerCase() !== 'latest') return version;
  const options = {
    cacheDirectory: environment.home.sources,
    userEntries: await userCatalogue(environment),
    signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
  };
  const reference = { publisher, offer, sku, version };
  const known = await newestPlatformImage(reference, options).catch(() => undefined);
  signal.throwIfAborted();
  if (known && NUMBERS.test(known.version)) return known.version;
  return (await resolvePlatformImage(reference, { ...options, signal })).exactVersion ?? version;
}

/** What `latest` stood for in a build that has begun: the template shows it. */
export async function noteExactVersion(
  database: Kysely<Schema>,
  template: Pick<StoredResource, 'id' | 'properties'>,
  image: SourceImage,
): Promise<void> {
  const { source } = template.properties as unknown as ImageTemplateProperties;
  if (source.type === 'ManagedImage') return;
  const named = source.type === 'PlatformImage' ? source.version : versionName(source.imageVersionId);
  const exactVersion = source.type === 'PlatformImage' ? image.exactVersion : image.name;
  if (named.toLowerCase() !== 'latest' || source.exactVersion === exactVersion) return;
  await patchProperties(database, template.id, { source: { ...source, exactVersion } });
}

const NUMBERS = /^\d+(\.\d+)+$/;

/** The state directory's own catalogue, under the one that the command line names. */
export async function userCatalogue({
  home,
  catalogue,
}: Pick<SourceEnvironment, 'home' | 'catalogue'>): Promise<UserEntries> {
  const own = await readUserEntries(home.catalogueFile);
  return catalogue === undefined ? own : joinUserEntries(await readUserEntries(catalogue, { required: true }), own);
}
