/** Microsoft.Compute/images: a managed image, one disk in one region (contract 2.4). Made by distributors. */
import { Type } from '@sinclair/typebox';
import type { ResourceType } from '../../arm/resource-type.ts';
import { int32, oneOf } from '../../arm/shape.ts';
import { immutable, readTracked } from '../tracked.ts';
import { IMAGE_API_VERSIONS } from './api-versions.ts';

const reference = Type.Optional(Type.Object({ id: Type.String() }));

const ImageSchema = Type.Object({
  sourceVirtualMachine: reference,
  storageProfile: Type.Object({
    osDisk: Type.Object({
      osType: oneOf(['Windows', 'Linux']),
      osState: oneOf(['Generalized', 'Specialized']),
      snapshot: reference,
      managedDisk: reference,
      blobUri: Type.Optional(Type.String()),
      caching: Type.Optional(oneOf(['None', 'ReadOnly', 'ReadWrite'])),
      diskSizeGB: Type.Optional(int32({ minimum: 0 })),
      storageAccountType: Type.Optional(Type.String()),
    }),
    dataDisks: Type.Optional(Type.Array(Type.Unknown())),
    zoneResilient: Type.Optional(Type.Boolean()),
  }),
  hyperVGeneration: Type.Optional(oneOf(['V1', 'V2'])),
  provisioningState: Type.Optional(Type.Unknown({ readOnly: true })),
});

export const images: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/images',
  apiVersions: IMAGE_API_VERSIONS,
  kind: 'tracked',
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
    const read = readTracked(body, ImageSchema, 'image', context);
    const properties = { hyperVGeneration: 'V1', ...read.properties, provisioningState: 'Succeeded' };
    const violations = [
      ...read.violations,
      ...immutable(properties, context.existing?.properties, 'image', [['storageProfile', 'osDisk', 'osType']]),
    ];
    return { resource: { location: read.location, tags: read.tags, properties }, violations, warnings: read.warnings };
  },
} satisfies ResourceType);
