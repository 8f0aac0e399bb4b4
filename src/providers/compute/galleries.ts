/** Microsoft.Compute/galleries: what image definitions live in (contract 2.3). */
import { Type } from '@sinclair/typebox';
import type { ResourceType } from '../../arm/resource-type.ts';
import { oneOf } from '../../arm/shape.ts';
import { readTracked } from '../tracked.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';

const GallerySchema = Type.Object({
  description: Type.Optional(Type.String()),
  identifier: Type.Optional(Type.Unknown({ readOnly: true })),
  provisioningState: Type.Optional(Type.Unknown({ readOnly: true })),
  sharingStatus: Type.Optional(Type.Unknown({ readOnly: true })),
  sharingProfile: Type.Optional(
    Type.Object({
      permissions: Type.Optional(oneOf(['Private', 'Groups', 'Community'])),
      groups: Type.Optional(Type.Unknown({ readOnly: true })),
      communityGalleryInfo: Type.Optional(Type.Unknown()),
    }),
  ),
  softDeletePolicy: Type.Optional(Type.Object({ isSoftDeleteEnabled: Type.Optional(Type.Boolean()) })),
});

export const galleries: ResourceType = Object.freeze({
  type: 'Microsoft.Compute/galleries',
  apiVersions: GALLERY_API_VERSIONS,
  kind: 'tracked',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidParameter',
  checkName(name) {
    if (/^[^_\W][\w.]{0,79}(?<!\.)$/.test(name)) return undefined;
    return {
      path: 'galleryName',
      message:
        'Gallery name is invalid. Allowed characters are English alphanumeric characters, with underscores and periods allowed in the middle, up to 80 characters total. All other special characters, including dashes, are disallowed.',
    };
  },
  validate(body, context) {
    const { location, tags, properties, violations, warnings } = readTracked(body, GallerySchema, 'gallery', context);
    const uniqueName = `${context.id.subscription}-${context.id.name.toUpperCase()}`;
    return {
      resource: {
        location,
        tags,
        properties: { ...properties, identifier: { uniqueName }, provisioningState: 'Succeeded' },
      },
      violations,
      warnings,
    };
  },
} satisfies ResourceType);
