/** Microsoft.Compute/galleries/images/versions: one finished image in a gallery, in its regions (contract 2.3). Made by distributors. */
import { Type } from '@sinclair/typebox';
import { isIdOf } from '../../arm/ids.ts';
import { findRegion } from '../../arm/locations.ts';
import type { Resource, ResourceType, Violation } from '../../arm/resource-type.ts';
import { int32, isObject, oneOf } from '../../arm/shape.ts';
import { immutable, readTracked } from '../tracked.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';
import { endOfLife } from './gallery-images.ts';
import { compareVersions, isVersion, VERSION_RULE } from './version-numbers.ts';

const storage = oneOf(['Standard_LRS', 'Standard_ZRS', 'Premium_LRS']);
const readOnly = Type.Optional(Type.Unknown({ readOnly: true }));

const VersionSchema = Type.Object({
  publishingProfile: Type.Optional(
    Type.Object({
      targetRegions: Type.Optional(
        Type.Array(
          Type.Object({
            name: Type.String(),
            regionalReplicaCount: Type.Optional(int32({ minimum: 1 })),
            storageAccountType: Type.Optional(storage),
            excludeFromLatest: Type.Optional(Type.Boolean()),
            encryption: Type.Optional(Type.Unknown()),
          }),
        ),
      ),
      replicaCount: Type.Optional(int32({ minimum: 1 })),
      excludeFromLatest: Type.Optional(Type.Boolean()),
      publishedDate: readOnly,
      endOfLifeDate: Type.Optional(Type.String()),
      storageAccountType: Type.Optional(storage),
      replicationMode: Type.Optional(oneOf(['Full', 'Shallow'])),
    }),
  ),
  storageProfile: Type.Object({
    source: Type.Object({ id: Type.String() }),
    osDiskImage: readOnly,
    dataDiskImages: readOnly,
  }),
  safetyProfile: Type.Optional(Type.Object({ allowDeletionOfReplicatedLocations: Type.Optional(Type.Boolean()) })),
  provisioningState: readOnly,
  replicationStatus: readOnly,
});

export const galleryImageVersions: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/galleries/images/versions',
  apiVersions: GALLERY_API_VERSIONS,
  kind: 'tracked',
  parent: 'Microsoft.Compute/galleries/images',
  violationCode: 'InvalidParameter',
  checkName: name => (isVersion(name) ? undefined : { path: 'galleryImageVersionName', message: VERSION_RULE }),
  validate(body, context) {
    const read = readTracked(body, VersionSchema, 'galleryImageVersion', context);
    const profile = read.properties.publishingProfile ?? {};
    const targets = (profile.targetRegions ?? [{ name: read.location }]).filter(isObject);
    const targetRegions = targets.map(target => ({
      ...target,
      name: findRegion(String(target.name))?.displayName ?? String(target.name),
      regionalReplicaCount: target.regionalReplicaCount ?? profile.replicaCount ?? 1,
      storageAccountType: target.storageAccountType ?? profile.storageAccountType ?? 'Standard_LRS',
    }));
    const properties = {
      ...read.properties,
      publishingProfile: {
        replicaCount: 1,
        excludeFromLatest: false,
        storageAccountType: 'Standard_LRS',
        replicationMode: 'Full',
        ...profile,
        targetRegions,
        publishedDate: publishedDate(context.existing) ?? context.now.toISOString(),
      },
      provisioningState: 'Succeeded',
    };
    const violations = [
      ...read.violations,
      ...regionViolations(
        targetRegions.map(region => region.name),
        read.location,
      ),
      ...sourceViolations(read.properties.storageProfile?.source?.id),
      ...endOfLife(profile.endOfLifeDate, 'properties.publishingProfile.endOfLifeDate', context.now),
      ...immutable(properties, context.existing?.properties, 'galleryImageVersion', [
        ['storageProfile', 'source', 'id'],
      ]),
    ];
    return { resource: { location: read.location, tags: read.tags, properties }, violations, warnings: read.warnings };
  },
} satisfies ResourceType);

function publishedDate(existing: Resource | undefined): unknown {
  const profile = existing?.properties.publishingProfile;
  return isObject(profile) ? profile.publishedDate : undefined;
}

/** `displayNames`: of the regions, or what was given where no region has that name. */
function regionViolations(displayNames: readonly string[], location: string): Violation[] {
  const path = 'properties.publishingProfile.targetRegions';
  const unknown = displayNames.filter(name => !findRegion(name));
  if (unknown.length > 0)
    return [
      {
        path,
        message: `The value of parameter galleryImageVersion.${path} is invalid.`,
        hint: `No region has the name ${unknown.map(name => `'${name}'`).join(', ')}.`,
      },
    ];
  const violations: Violation[] = [];
  if (new Set(displayNames).size < displayNames.length)
    violations.push({ path, message: 'Duplicate regions are not allowed in target publishing regions.' });
  if (!displayNames.some(name => findRegion(name)?.name === location))
    violations.push({
      path,
      message: `Gallery image version publishing profile regions ${displayNames.join(', ')} must contain the location of image version ${findRegion(location)?.displayName ?? location}`,
    });
  return violations;
}

const SOURCES = [
  'Microsoft.Compute/images',
  'Microsoft.Compute/virtualMachines',
  'Microsoft.Compute/galleries/images/versions',
];

function sourceViolations(id: string | undefined): Violation[] {
  if (id === undefined || SOURCES.some(type => isIdOf(id, type))) return [];
  return [
    {
      path: 'properties.storageProfile.source.id',
      message: `The source id: ${id} must either be a managed image, virtual machine or another gallery image version`,
    },
  ];
}

/** The version that `latest` stands for in a region: the highest that is not excluded and is there. */
export function latestVersion(versions: readonly Resource[], location?: string): Resource | undefined {
  const wanted = location === undefined ? undefined : findRegion(location)?.name;
  return versions.filter(version => counts(version, wanted)).sort((a, b) => compareVersions(b.name, a.name))[0];
}

function counts(version: Resource, wanted: string | undefined): boolean {
  const profile = version.properties.publishingProfile;
  if (!isObject(profile)) return wanted === undefined;
  if (profile.excludeFromLatest === true) return false;
  if (wanted === undefined) return true;
  const target = (profile.targetRegions as { name: string; excludeFromLatest?: boolean }[] | undefined)?.find(
    region => findRegion(region.name)?.name === wanted,
  );
  return target !== undefined && target.excludeFromLatest !== true;
}
