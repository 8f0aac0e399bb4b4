/** Microsoft.Compute/galleries/images/versions: one finished image in a gallery, in its regions (contract 2.3). Made by callers and by distributors. */
import { Type } from '@sinclair/typebox';
import type { ResourceType, Violation } from '../../arm/resource-type.ts';
import { int32, isObject, type JsonObject, oneOf } from '../../arm/shape.ts';
import { immutable, readTracked } from '../tracked.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';
import { withoutSignatures } from './blob-address.ts';
import { endOfLife } from './gallery-images.ts';
import { completedProfile, PublishingProfileSchema, regionViolations } from './publishing-profile.ts';
import { isVersion, VERSION_RULE } from './version-numbers.ts';
import { missingSource, versionSource } from './version-source.ts';

const readOnly = Type.Optional(Type.Unknown({ readOnly: true }));
const word = Type.Optional(Type.String());
const flag = Type.Optional(Type.Boolean());
const hostCaching = Type.Optional(oneOf(['None', 'ReadOnly', 'ReadWrite']));
const diskSource = Type.Optional(Type.Object({ id: word, uri: word, storageAccountId: word }));

const VersionSchema = Type.Object({
  publishingProfile: Type.Optional(PublishingProfileSchema),
  storageProfile: Type.Object({
    source: Type.Optional(Type.Object({ id: word, virtualMachineId: word, communityGalleryImageId: word })),
    osDiskImage: Type.Optional(Type.Object({ sizeInGB: readOnly, hostCaching, source: diskSource })),
    dataDiskImages: Type.Optional(
      Type.Array(Type.Object({ lun: int32({ minimum: 0 }), sizeInGB: readOnly, hostCaching, source: diskSource })),
    ),
  }),
  safetyProfile: Type.Optional(
    Type.Object({
      allowDeletionOfReplicatedLocations: flag,
      blockDeletionBeforeEndOfLife: flag,
      reportedForPolicyViolation: readOnly,
      policyViolations: readOnly,
    }),
  ),
  securityProfile: Type.Optional(Type.Unknown()),
  provisioningState: readOnly,
  replicationStatus: readOnly,
});

export const galleryImageVersions: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/galleries/images/versions',
  apiVersions: GALLERY_API_VERSIONS,
  kind: 'tracked',
  parent: 'Microsoft.Compute/galleries/images',
  create: 'operation',
  delete: 'operation',
  violationCode: 'InvalidParameter',
  checkName: name => (isVersion(name) ? undefined : { path: 'galleryImageVersionName', message: VERSION_RULE }),
  validate(body, context) {
    const read = readTracked(body, VersionSchema, 'galleryImageVersion', context);
    const before = context.existing?.properties;
    const old = objectOf(before?.publishingProfile);
    const given = read.properties.publishingProfile as JsonObject | undefined;
    const publishingProfile: JsonObject = {
      ...completedProfile(given, read.location, old),
      publishedDate: old?.publishedDate ?? context.now.toISOString(),
    };
    const storage = withoutSignatures(objectOf(read.properties.storageProfile) ?? {}, 'uri');
    const { source, violations: wrongSource } = versionSource(storage);
    const properties: JsonObject = {
      publishingProfile,
      storageProfile: storageOf(storage, objectOf(before?.storageProfile)),
      safetyProfile: {
        reportedForPolicyViolation: false,
        allowDeletionOfReplicatedLocations: false,
        ...objectOf(before?.safetyProfile),
        ...read.properties.safetyProfile,
      },
      ...(read.properties.securityProfile !== undefined && { securityProfile: read.properties.securityProfile }),
      provisioningState: before ? 'Updating' : 'Creating',
    };
    const violations: Violation[] = [
      ...read.violations,
      ...wrongSource,
      ...(!before && !source && wrongSource.length + read.violations.length === 0 ? [missingSource] : []),
    ];
    if (read.violations.length === 0)
      violations.push(
        ...regionViolations(publishingProfile, read.location),
        ...(publishingProfile.endOfLifeDate === old?.endOfLifeDate
          ? []
          : endOfLife(
              publishingProfile.endOfLifeDate as string | undefined,
              'properties.publishingProfile.endOfLifeDate',
              context.now,
            )),
        ...sourceChanges(storage, before),
      );
    return { resource: { location: read.location, tags: read.tags, properties }, violations, warnings: read.warnings };
  },
} satisfies ResourceType);

const objectOf = (value: unknown): JsonObject | undefined => (isObject(value) ? value : undefined);

/** A PUT of what exists may leave the source out, as az does; it stays. */
function storageOf(given: JsonObject, before: JsonObject | undefined): JsonObject {
  if (!before) return given;
  const disk = objectOf(before.osDiskImage);
  const hostCaching = objectOf(given.osDiskImage)?.hostCaching ?? disk?.hostCaching;
  return { ...before, ...(disk && { osDiskImage: { ...disk, ...(hostCaching !== undefined && { hostCaching }) } }) };
}

/** Sources are for good. One that is left out is not changed. */
function sourceChanges(given: JsonObject, before: JsonObject | undefined): Violation[] {
  const old = objectOf(before?.storageProfile);
  if (!old) return [];
  const lower = (value: unknown) => (typeof value === 'string' ? value.toLowerCase() : value);
  const fields = [
    ...['id', 'virtualMachineId', 'communityGalleryImageId'].map(field => ['source', field]),
    ...['id', 'uri', 'storageAccountId'].map(field => ['osDiskImage', 'source', field]),
  ];
  return fields.flatMap(path => {
    const [now, was] = [given, old].map(profile =>
      path.reduce<unknown>((part, name) => objectOf(part)?.[name], profile),
    );
    if (now === undefined || lower(now) === lower(was)) return [];
    const at = ['storageProfile', ...path];
    return immutable({ value: now }, { value: was }, 'galleryImageVersion', [['value']]).map(violation => ({
      ...violation,
      path: `properties.${at.join('.')}`,
      message: `Changing property 'galleryImageVersion.properties.${at.join('.')}' is not allowed.`,
    }));
  });
}
