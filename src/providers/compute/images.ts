/** Microsoft.Compute/images: a managed image, its disks in one region (contract 2.4). Made by distributors, and by callers from VHDs (image-sources.ts). */
import { type Static, Type } from '@sinclair/typebox';
import type { ResourceType, ValidationContext, Violation } from '../../arm/resource-type.ts';
import { int32, isObject, type JsonObject, oneOf } from '../../arm/shape.ts';
import { immutable, readTracked, type Tracked } from '../tracked.ts';
import { IMAGE_API_VERSIONS } from './api-versions.ts';

const reference = Type.Optional(Type.Object({ id: Type.String({ minLength: 1 }) }));

const disk = {
  snapshot: reference,
  managedDisk: reference,
  blobUri: Type.Optional(Type.String()),
  caching: Type.Optional(oneOf(['None', 'ReadOnly', 'ReadWrite'])),
  diskSizeGB: Type.Optional(int32({ minimum: 0 })),
  storageAccountType: Type.Optional(
    oneOf([
      'Standard_LRS',
      'Premium_LRS',
      'StandardSSD_LRS',
      'UltraSSD_LRS',
      'Premium_ZRS',
      'StandardSSD_ZRS',
      'PremiumV2_LRS',
    ]),
  ),
  diskEncryptionSet: reference,
};

const ImageSchema = Type.Object({
  sourceVirtualMachine: reference,
  storageProfile: Type.Optional(
    Type.Object({
      osDisk: Type.Object({
        osType: oneOf(['Windows', 'Linux']),
        osState: oneOf(['Generalized', 'Specialized']),
        ...disk,
      }),
      dataDisks: Type.Optional(Type.Array(Type.Object({ lun: int32({ minimum: 0, maximum: 63 }), ...disk }))),
      zoneResilient: Type.Optional(Type.Boolean()),
    }),
  ),
  hyperVGeneration: Type.Optional(oneOf(['V1', 'V2'])),
  provisioningState: Type.Optional(Type.Unknown({ readOnly: true })),
});

/** As a body has them, when there are no violations. */
export type ImageProperties = Static<typeof ImageSchema>;
export type StorageProfile = NonNullable<ImageProperties['storageProfile']>;
/** Of the operating system, or, with a unit, of data. */
export type ImageDisk = Partial<StorageProfile['osDisk']> & { readonly lun?: number };

/** What a body says, without what is filled in. Untrusted. Errors: those of readTracked. */
export function readImage(body: unknown, context: ValidationContext): Tracked<ImageProperties> {
  return readTracked(body, ImageSchema, 'image', context);
}

/** What the real service fills in. */
const withDefaults = <Disk extends object>(given: Disk) => ({
  caching: 'None',
  storageAccountType: 'Standard_LRS',
  ...given,
});

export const images: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/images',
  apiVersions: IMAGE_API_VERSIONS,
  kind: 'tracked',
  create: 'operation',
  delete: 'operation',
  violationCode: 'InvalidParameter',
  checkName(name) {
    const rule = '^[^_\\W][\\w-._]{0,79}(?<![-.])$';
    if (/^[^_\W][\w\-.]{0,79}(?<![-.])$/.test(name)) return undefined;
    return {
      path: 'imageName',
      message: `The entity name '${name}' is invalid according to its validation rule: ${rule}.`,
    };
  },
  validate(body, context) {
    const read = readImage(body, context);
    const given = read.properties as Partial<ImageProperties>;
    const {
      osDisk = {},
      dataDisks,
      ...profile
    } = (isObject(given.storageProfile) ? given.storageProfile : {}) as JsonObject;
    const properties = {
      ...given,
      storageProfile: {
        ...profile,
        osDisk: withDefaults(isObject(osDisk) ? osDisk : {}),
        dataDisks: (Array.isArray(dataDisks) ? dataDisks : []).filter(isObject).map(withDefaults),
      },
      hyperVGeneration: given.hyperVGeneration ?? 'V1',
      provisioningState: 'Succeeded',
    };
    const violations: Violation[] = [
      ...read.violations,
      ...immutable(properties, context.existing?.properties, 'image', [['storageProfile', 'osDisk', 'osType']]),
    ];
    return { resource: { location: read.location, tags: read.tags, properties }, violations, warnings: read.warnings };
  },
} satisfies ResourceType);
