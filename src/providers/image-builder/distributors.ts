/** Where a finished image goes: a VHD, a managed image, or a version in a gallery; and the rules of their regions and versions. */
import { type Static, Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { isIdOf, parseId, tryParseId } from '../../arm/ids.ts';
import type { JsonPath } from '../../arm/json-path.ts';
import { findRegion, normaliseLocation, REGIONS } from '../../arm/locations.ts';
import { int32, oneOf, stringMap, variants } from '../../arm/shape.ts';
import { images } from '../compute/images.ts';
import { defaultScheme, isVersion, type NextVersionOptions } from '../compute/version-numbers.ts';
import { TARGET_REGIONS_SINCE } from './api-versions.ts';
import type { Rules } from './rules.ts';
import type { TemplateSource } from './source.ts';

const STORAGE_ACCOUNT_TYPES = ['Standard_LRS', 'Standard_ZRS', 'Premium_LRS'] as const;

const common = {
  runOutputName: Type.String({
    // A name that is nothing but one or two periods could never stand in an address.
    pattern: '^(?!\\.{1,2}$)[A-Za-z0-9\\-_.]{1,64}$',
    reason: 'It must have 1 to 64 letters, digits, hyphens, underscores or periods, and not be . or .. alone.',
  }),
  artifactTags: Type.Optional(stringMap()),
};

export const TargetRegionSchema = Type.Object(
  {
    name: Type.String(),
    replicaCount: Type.Optional(int32({ minimum: 1 })),
    storageAccountType: Type.Optional(oneOf(STORAGE_ACCOUNT_TYPES)),
  },
  { title: 'TargetRegion' },
);

export const VersioningSchema = variants(
  'scheme',
  [
    Type.Object(
      { scheme: Type.Literal('Latest'), major: Type.Optional(int32({ minimum: -1 })) },
      { title: 'DistributeVersionerLatest' },
    ),
    Type.Object({ scheme: Type.Literal('Source') }, { title: 'DistributeVersionerSource' }),
  ],
  { since: TARGET_REGIONS_SINCE },
);

export const ManagedImageDistributorSchema = Type.Object(
  { type: Type.Literal('ManagedImage'), ...common, imageId: Type.String(), location: Type.String() },
  { title: 'ImageTemplateManagedImageDistributor' },
);

export const SharedImageDistributorSchema = Type.Object(
  {
    type: Type.Literal('SharedImage'),
    ...common,
    galleryImageId: Type.String(),
    replicationRegions: Type.Optional(Type.Array(Type.String())),
    excludeFromLatest: Type.Optional(Type.Boolean({ since: '2020-02-14' })),
    storageAccountType: Type.Optional(oneOf(STORAGE_ACCOUNT_TYPES, { since: '2020-02-14' })),
    targetRegions: Type.Optional(Type.Array(TargetRegionSchema, { since: TARGET_REGIONS_SINCE })),
    versioning: Type.Optional(VersioningSchema),
    replicationMode: Type.Optional(oneOf(['Full', 'Shallow'], { since: '2025-10-01' })),
  },
  { title: 'ImageTemplateSharedImageDistributor' },
);

export const VhdDistributorSchema = Type.Object(
  { type: Type.Literal('VHD'), ...common, uri: Type.Optional(Type.String({ since: '2022-07-01' })) },
  { title: 'ImageTemplateVhdDistributor' },
);

export const DistributorSchema = variants('type', [
  ManagedImageDistributorSchema,
  SharedImageDistributorSchema,
  VhdDistributorSchema,
]);

export type TargetRegion = Static<typeof TargetRegionSchema>;
export type Versioning = Static<typeof VersioningSchema>;
export type ManagedImageDistributor = Static<typeof ManagedImageDistributorSchema>;
export type SharedImageDistributor = Static<typeof SharedImageDistributorSchema>;
export type VhdDistributor = Static<typeof VhdDistributorSchema>;
export type Distributor = Static<typeof DistributorSchema>;

/** The gallery, the definition and the pinned version that a `galleryImageId` names; undefined when it names none. */
export function parseGalleryImageId(text: string): { definitionId: string; version?: string } | undefined {
  if (isIdOf(text, 'Microsoft.Compute/galleries/images')) return { definitionId: text.replace(/\/$/, '') };
  if (!isIdOf(text, 'Microsoft.Compute/galleries/images/versions')) return undefined;
  const version = tryParseId(text)!.name;
  return { definitionId: text.replace(/\/versions\/[^/]+\/?$/i, ''), version };
}

/** How a gallery version of this distributor gets its number: what {@link nextVersion} is told besides the versions that exist. */
export function versionChoice(
  distributor: SharedImageDistributor,
  apiVersion: string,
): Pick<NextVersionOptions, 'explicit' | 'scheme' | 'major'> {
  const explicit = parseGalleryImageId(distributor.galleryImageId)?.version;
  const { versioning } = distributor;
  if (versioning?.scheme === 'Source') return { scheme: 'source' };
  if (versioning?.scheme === 'Latest') return { scheme: 'latest', major: versioning.major ?? -1 };
  return { scheme: defaultScheme(apiVersion), ...(explicit !== undefined && { explicit }) };
}

/** Whether the version is to be that of a source which has none. */
export const lacksVersion = ({ versioning }: SharedImageDistributor, source: Pick<TemplateSource, 'type'>): boolean =>
  versioning?.scheme === 'Source' && source.type === 'ManagedImage';

export const SOURCE_WITHOUT_VERSION =
  "The scheme 'Source' needs a source with a version, which a managed image has not.";

/** The regions (names) that a gallery image goes to: as the template says, else only where the definition is. */
export function regionsOf(distributor: SharedImageDistributor, definitionLocation: string): readonly string[] {
  // Some clients send an empty list for what they leave out.
  const { targetRegions = [], replicationRegions = [] } = distributor;
  const named = targetRegions.length > 0 ? targetRegions.map(region => region.name) : replicationRegions;
  return named.length > 0 ? named : [definitionLocation];
}

export function checkDistributors(
  distributors: readonly (Distributor | undefined)[],
  at: JsonPath,
  rules: Rules,
): void {
  const names = new Map<string, number>();
  distributors.forEach((distributor, index) => {
    if (distributor === undefined) return;
    const here = [...at, index];
    checkDistributor(distributor, here, rules);
    if (distributor.runOutputName === undefined) return;
    const first = names.get(distributor.runOutputName.toLowerCase());
    if (first === undefined) names.set(distributor.runOutputName.toLowerCase(), index);
    else
      rules.bad(
        [...here, 'runOutputName'],
        distributor.runOutputName,
        `distribute[${first}] has this name already; run outputs need names of their own.`,
      );
  });
}

function checkDistributor(distributor: Distributor, at: JsonPath, rules: Rules): void {
  switch (distributor.type) {
    case 'VHD':
      if (distributor.uri) {
        const fault = uriFault(distributor.uri);
        // A signature is in no complaint.
        if (fault !== undefined) rules.bad([...at, 'uri'], distributor.uri.split('?')[0], fault);
      }
      return;
    case 'ManagedImage':
      if (distributor.imageId !== undefined) {
        const fault = imageFault(distributor.imageId);
        if (fault !== undefined) rules.bad([...at, 'imageId'], distributor.imageId, fault);
      }
      if (distributor.location !== undefined) checkRegion(distributor.location, [...at, 'location'], rules);
      return;
    case 'SharedImage':
      checkSharedImage(distributor, at, rules);
  }
}

/** What is wrong with the id of an image that is to be made. Untrusted text. */
function imageFault(text: string): string | undefined {
  if (isIdOf(text, images.type)) return images.checkName(parseId(text).name)?.message;
  return 'It must be the id of a managed image: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/images/….';
}

/** What is wrong with a blob's URL. Untrusted text. */
function uriFault(text: string): string | undefined {
  const url = URL.parse(text);
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') return 'It must be an absolute http or https URL.';
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    return 'It must have no user, password or fragment: what proves who may write there is a signature (SAS).';
  if (url.pathname.endsWith('/') || url.pathname.split('/').filter(part => part !== '').length < 2)
    return 'It must name a container and a blob: https://ACCOUNT.blob.core.windows.net/CONTAINER/NAME.vhd.';
  if (['comp', 'restype', 'snapshot', 'versionid'].some(name => url.searchParams.has(name)))
    return 'Its query must be a signature (SAS) alone.';
  return undefined;
}

function checkSharedImage(distributor: SharedImageDistributor, at: JsonPath, rules: Rules): void {
  const { galleryImageId, replicationRegions, targetRegions } = distributor;
  const target = galleryImageId === undefined ? undefined : parseGalleryImageId(galleryImageId);
  if (galleryImageId !== undefined && !target)
    rules.bad(
      [...at, 'galleryImageId'],
      galleryImageId,
      'It must be the id of an image definition: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/galleries/…/images/…, optionally with /versions/1.0.0.',
    );
  if (target?.version !== undefined && !isVersion(target.version))
    rules.bad(
      [...at, 'galleryImageId'],
      galleryImageId,
      'Its version must have the form Major.Minor.Patch, each from 0 to 2147483647.',
    );
  if (target?.version !== undefined && distributor.versioning)
    rules.rule(
      at,
      ['versioning', 'galleryImageId'],
      "'versioning' cannot be combined with a version in 'galleryImageId'.",
    );
  // Some clients send an empty list for what they leave out.
  if (replicationRegions && targetRegions && replicationRegions.length > 0 && targetRegions.length > 0)
    rules.rule(
      at,
      ['replicationRegions', 'targetRegions'],
      "Only one of 'replicationRegions' or 'targetRegions' can be specified.",
    );
  if (distributor.storageAccountType !== undefined && !replicationRegions)
    rules.rule(
      at,
      ['storageAccountType', 'replicationRegions'],
      "'storageAccountType' can only be specified with 'replicationRegions'; 'targetRegions' have it for each region.",
    );
  if (!replicationRegions && !isSince(rules.apiVersion, TARGET_REGIONS_SINCE))
    rules.missing([...at, 'replicationRegions']);
  if (replicationRegions?.length === 0 && !isSince(rules.apiVersion, TARGET_REGIONS_SINCE))
    rules.bad([...at, 'replicationRegions'], replicationRegions, 'It must name at least one region.');
  if (distributor.storageAccountType === 'Premium_LRS' && !isSince(rules.apiVersion, TARGET_REGIONS_SINCE))
    rules.bad([...at, 'storageAccountType'], 'Premium_LRS', `It needs api-version ${TARGET_REGIONS_SINCE} or newer.`);
  checkRegions(replicationRegions ?? [], index => [...at, 'replicationRegions', index], rules);
  checkRegions(
    (targetRegions ?? []).map(region => region?.name),
    index => [...at, 'targetRegions', index, 'name'],
    rules,
  );
}

function checkRegions(names: readonly (string | undefined)[], pathOf: (index: number) => JsonPath, rules: Rules): void {
  const seen = new Set<string>();
  names.forEach((name, index) => {
    if (name === undefined) return;
    if (!checkRegion(name, pathOf(index), rules)) return;
    if (seen.has(normaliseLocation(name)))
      rules.bad(pathOf(index), name, 'Duplicate regions are not allowed in target publishing regions.');
    seen.add(normaliseLocation(name));
  });
}

const NO_REGION = `It must be one of Azure's regions: ${REGIONS.map(region => region.name).join(', ')}.`;

function checkRegion(name: string, path: JsonPath, rules: Rules): boolean {
  if (findRegion(name)) return true;
  rules.bad(path, name, NO_REGION);
  return false;
}
