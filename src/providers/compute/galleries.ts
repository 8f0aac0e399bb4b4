/** Microsoft.Compute/galleries: what image definitions live in, and with whom they are shared (contract 2.3). */
import { Type } from '@sinclair/typebox';
import type { Resource, ResourceType, Violation } from '../../arm/resource-type.ts';
import { isObject, type JsonObject, oneOf } from '../../arm/shape.ts';
import { readTracked } from '../tracked.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';
import { isShared, type SharingProfile, sharingOf } from './sharing-profile.ts';

const SINCE_SHARING = '2020-09-30';
const readOnly = Type.Optional(Type.Unknown({ readOnly: true }));
const word = Type.Optional(Type.String());

const GallerySchema = Type.Object({
  description: word,
  identifier: readOnly,
  provisioningState: readOnly,
  sharingStatus: readOnly,
  sharingProfile: Type.Optional(
    Type.Object(
      {
        permissions: Type.Optional(oneOf(['Private', 'Groups', 'Community'])),
        groups: readOnly,
        communityGalleryInfo: Type.Optional(
          Type.Object({
            publisherUri: word,
            publisherContact: word,
            eula: word,
            publicNamePrefix: word,
            communityGalleryEnabled: readOnly,
            publicNames: readOnly,
          }),
        ),
      },
      { since: SINCE_SHARING },
    ),
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
    const { profile, violations: more } = profileOf(properties.sharingProfile, context.existing, context.newGuid);
    const { sharingProfile: _, ...rest } = properties;
    return {
      resource: {
        location,
        tags,
        properties: {
          ...rest,
          ...(profile && { sharingProfile: profile }),
          identifier: { uniqueName },
          provisioningState: 'Succeeded',
        },
      },
      violations: [...violations, ...(violations.length === 0 ? more : [])],
      warnings,
    };
  },
} satisfies ResourceType);

const AT = 'properties.sharingProfile';
/** What somebody must be able to find out about a gallery that everybody can see. */
const NEEDED = ['publisherUri', 'publisherContact', 'eula', 'publicNamePrefix'] as const;

/** Left out, it stays as it is; whom it is shared with changes by the action `share` alone. */
function profileOf(
  given: JsonObject | undefined,
  existing: Resource | undefined,
  newGuid: () => string,
): { readonly profile: SharingProfile | undefined; readonly violations: readonly Violation[] } {
  const before = existing && sharingOf(existing);
  if (!isObject(given)) return { profile: before, violations: [] };
  const wanted = given as Omit<SharingProfile, 'groups'>;
  const permissions = wanted.permissions ?? before?.permissions ?? 'Private';
  if (before && isShared(before) && permissions !== before.permissions)
    return {
      profile: before,
      violations: [
        {
          path: `${AT}.permissions`,
          message: `Changing property 'gallery.${AT}.permissions' is not allowed.`,
          hint: 'The gallery is shared: reset its sharing first (az sig share reset).',
          code: 'PropertyChangeNotAllowed',
        },
      ],
    };
  if (permissions !== 'Community')
    return {
      profile: { permissions, ...(permissions === 'Groups' && before?.groups && { groups: before.groups }) },
      violations: [],
    };
  const old = before?.communityGalleryInfo;
  const info = { ...old, ...wanted.communityGalleryInfo };
  const missing = NEEDED.filter(field => !info[field]);
  const violations: Violation[] = missing.map(field => ({
    path: `${AT}.communityGalleryInfo.${field}`,
    message: `Required parameter 'gallery.${AT}.communityGalleryInfo.${field}' is missing (null).`,
  }));
  if (missing.length === 0 && !/^[A-Za-z0-9]{5,16}$/.test(info.publicNamePrefix!))
    violations.push({
      path: `${AT}.communityGalleryInfo.publicNamePrefix`,
      message: `The value of parameter gallery.${AT}.communityGalleryInfo.publicNamePrefix is invalid.`,
      hint: 'A prefix has 5 to 16 letters and digits.',
    });
  // The public name is the gallery's for good: others use it.
  const publicNames = old?.publicNames ?? [`${info.publicNamePrefix}-${newGuid()}`];
  const communityGalleryInfo = {
    ...info,
    communityGalleryEnabled: old?.communityGalleryEnabled ?? false,
    publicNames,
  };
  return { profile: { permissions, communityGalleryInfo }, violations };
}
