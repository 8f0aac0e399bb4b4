/**
 * A checked template with its defaults filled in, as the real service answers it (contract 1.5, 4.7). This is the form that is stored and that builds read.
 */
import { isSince } from '../../arm/api-versions.ts';
import { withoutSlash } from '../../arm/ids.ts';
import { requireRegion } from '../../arm/locations.ts';
import { type JsonObject, shape } from '../../arm/shape.ts';
import type { Customizer } from './customizers.ts';
import type { Distributor } from './distributors.ts';
import { PropertiesSchema, type TemplateIdentity, type TemplateProperties } from './schema.ts';
import type { TemplateSource } from './source.ts';
import { type CheckedTemplate, TEMPLATE_TYPE } from './validate.ts';
import type { ValidateSettings } from './validators.ts';

type Optimize = NonNullable<TemplateProperties['optimize']>;

/** What a template is for everything below: valid, complete, in canonical spelling. */
export interface ImageTemplate {
  /** Of one that is stored. */
  readonly id?: string;
  readonly apiVersion: string;
  /** A region's name: `eastus`. */
  readonly location: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly identity?: TemplateIdentity;
  readonly properties: ImageTemplateProperties;
}

export interface ImageTemplateProperties
  extends Omit<
    TemplateProperties,
    'provisioningState' | 'provisioningError' | 'lastRunStatus' | 'exactStagingResourceGroup'
  > {
  readonly customize: Customizer[];
  /** 0 stands for 240. */
  readonly buildTimeoutInMinutes: number;
  readonly stagingResourceGroup: string;
}

/** `buildTimeoutInMinutes` as a number of minutes: 0 means 4 hours. */
export function buildTimeout(template: ImageTemplate): number {
  return template.properties.buildTimeoutInMinutes || 240;
}

/** Fills in defaults. Takes only what {@link validateTemplate} found no violations in. */
export function normaliseTemplate(template: CheckedTemplate, apiVersion: string): ImageTemplate {
  const { properties } = template;
  return {
    apiVersion,
    location: requireRegion(template.location, TEMPLATE_TYPE).name,
    tags: template.tags ?? {},
    ...(template.identity && { identity: normaliseIdentity(template.identity) }),
    properties: {
      ...properties,
      source: normaliseSource(properties.source),
      customize: (properties.customize ?? []).map(normaliseCustomizer),
      ...(properties.validate && { validate: normaliseValidate(properties.validate) }),
      ...(properties.optimize && { optimize: normaliseOptimize(properties.optimize) }),
      distribute: properties.distribute.map(normaliseDistributor),
      buildTimeoutInMinutes: properties.buildTimeoutInMinutes ?? 0,
      ...(properties.vmProfile && {
        vmProfile: {
          ...properties.vmProfile,
          vmSize: properties.vmProfile.vmSize ?? '',
          osDiskSizeGB: properties.vmProfile.osDiskSizeGB ?? 0,
        },
      }),
      ...(properties.errorHandling && {
        errorHandling: { onCustomizerError: 'cleanup', onValidationError: 'cleanup', ...properties.errorHandling },
      }),
      stagingResourceGroup: properties.stagingResourceGroup ?? '',
    },
  };
}

function normaliseIdentity(identity: TemplateIdentity): TemplateIdentity {
  return identity.type === 'None' ? { type: 'None' } : identity;
}

/** `exactVersion` says `latest` until that is resolved. */
function normaliseSource(source: TemplateSource): TemplateSource {
  if (source.type === 'PlatformImage') return { ...source, exactVersion: source.version };
  if (source.type === 'ManagedImage') return { ...source, imageId: withoutSlash(source.imageId) };
  const imageVersionId = withoutSlash(source.imageVersionId);
  return { ...source, imageVersionId, exactVersion: imageVersionId };
}

function normaliseCustomizer(customizer: Customizer): Customizer {
  if (customizer.type === 'Shell' || customizer.type === 'PowerShell' || customizer.type === 'File')
    return withChecksum(customizer);
  if (customizer.type === 'WindowsRestart')
    return { restartCommand: '', restartCheckCommand: '', restartTimeout: '', ...customizer };
  return customizer;
}

/** Lower-case, and no empty words for things that were not given. */
function withChecksum<Step extends object>(step: Step): Step {
  const { ...copy } = step as Step & { sha256Checksum?: string; scriptUri?: string; inline?: string[] };
  if (copy.sha256Checksum) copy.sha256Checksum = copy.sha256Checksum.toLowerCase();
  else delete copy.sha256Checksum;
  if (copy.scriptUri === '') delete copy.scriptUri;
  if (copy.inline?.length === 0) delete copy.inline;
  return copy;
}

function normaliseValidate(settings: ValidateSettings): ValidateSettings {
  return {
    ...settings,
    continueDistributeOnFailure: settings.continueDistributeOnFailure ?? false,
    sourceValidationOnly: settings.sourceValidationOnly ?? false,
    ...(settings.inVMValidations && { inVMValidations: settings.inVMValidations.map(withChecksum) }),
  };
}

function normaliseOptimize({ workload, ...optimize }: Optimize): Optimize {
  return { ...optimize, ...(workload && { workload: withChecksum(workload) }) };
}

function normaliseDistributor(distributor: Distributor): Distributor {
  const tagged = { ...distributor, artifactTags: distributor.artifactTags ?? {} };
  if (tagged.type === 'ManagedImage')
    return {
      ...tagged,
      imageId: withoutSlash(tagged.imageId),
      location: requireRegion(tagged.location, TEMPLATE_TYPE).name,
    };
  if (tagged.type !== 'SharedImage') return tagged;
  return {
    ...tagged,
    galleryImageId: withoutSlash(tagged.galleryImageId),
    excludeFromLatest: tagged.excludeFromLatest ?? false,
    ...(tagged.replicationRegions && {
      replicationRegions: tagged.replicationRegions.map(region => requireRegion(region, TEMPLATE_TYPE).name),
    }),
    ...(tagged.targetRegions && {
      targetRegions: tagged.targetRegions.map(region => ({
        ...region,
        name: requireRegion(region.name, TEMPLATE_TYPE).name,
        replicaCount: region.replicaCount ?? 1,
        storageAccountType: region.storageAccountType ?? 'Standard_LRS',
      })),
    }),
  };
}

/**
 * The properties as a client of this api-version sees them: nothing that came later, `versioning: null` where none was chosen, no empty `customize`.
 * `properties` are the stored ones, with the read-only ones that Kiln added.
 */
export function echoProperties(properties: JsonObject, apiVersion: string): JsonObject {
  const known = shape(PropertiesSchema, properties, { apiVersion, caseSensitive: true, keepReadOnly: true })
    .value as JsonObject;
  const customize = known.customize as unknown[] | undefined;
  if (customize?.length === 0) delete known.customize;
  if (isSince(apiVersion, '2022-07-01'))
    for (const distributor of (known.distribute ?? []) as JsonObject[])
      if (distributor.type === 'SharedImage') distributor.versioning ??= null;
  return known;
}
