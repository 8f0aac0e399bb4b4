/** What a template starts from: a platform image, a managed image, or a version in a gallery. */
import { type Static, Type } from '@sinclair/typebox';
import { isSince } from '../../arm/api-versions.ts';
import { isIdOf } from '../../arm/ids.ts';
import type { JsonPath } from '../../arm/json-path.ts';
import { variants } from '../../arm/shape.ts';
import { parseSharedImageId } from '../compute/shared-image-id.ts';
import { isVersion } from '../compute/version-numbers.ts';
import { TARGET_REGIONS_SINCE } from './api-versions.ts';
import type { Rules } from './rules.ts';

export const PlanInfoSchema = Type.Object(
  {
    planName: Type.String({ minLength: 1 }),
    planProduct: Type.String({ minLength: 1 }),
    planPublisher: Type.String({ minLength: 1 }),
  },
  { title: 'PlatformImagePurchasePlan' },
);

export const PlatformImageSourceSchema = Type.Object(
  {
    type: Type.Literal('PlatformImage'),
    publisher: Type.String({ minLength: 1 }),
    offer: Type.String({ minLength: 1 }),
    sku: Type.String({ minLength: 1 }),
    version: Type.String({ minLength: 1 }),
    exactVersion: Type.Optional(Type.String({ readOnly: true, since: '2021-10-01' })),
    planInfo: Type.Optional(
      Type.Object(PlanInfoSchema.properties, { title: PlanInfoSchema.title!, since: '2020-02-14' }),
    ),
  },
  { title: 'ImageTemplatePlatformImageSource' },
);

export const ManagedImageSourceSchema = Type.Object(
  { type: Type.Literal('ManagedImage'), imageId: Type.String() },
  { title: 'ImageTemplateManagedImageSource' },
);

export const SharedImageVersionSourceSchema = Type.Object(
  {
    type: Type.Literal('SharedImageVersion'),
    imageVersionId: Type.String(),
    exactVersion: Type.Optional(Type.String({ readOnly: true, since: '2022-07-01' })),
  },
  { title: 'ImageTemplateSharedImageVersionSource' },
);

export const SourceSchema = variants('type', [
  PlatformImageSourceSchema,
  ManagedImageSourceSchema,
  SharedImageVersionSourceSchema,
]);

export type PlatformImageSource = Static<typeof PlatformImageSourceSchema>;
export type ManagedImageSource = Static<typeof ManagedImageSourceSchema>;
export type SharedImageVersionSource = Static<typeof SharedImageVersionSourceSchema>;
export type TemplateSource = Static<typeof SourceSchema>;

/** Of a gallery that is shared directly; those of the community are no sources. */
function sharedVersion(id: string): string | undefined {
  const shared = parseSharedImageId(id);
  return shared?.kind === 'shared' ? shared.version : undefined;
}

export function checkSource(source: TemplateSource, at: JsonPath, rules: Rules): void {
  if (source.type === 'ManagedImage' && source.imageId !== undefined) {
    if (!isIdOf(source.imageId, 'Microsoft.Compute/images'))
      rules.bad(
        [...at, 'imageId'],
        source.imageId,
        'It must be the id of a managed image: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/images/….',
      );
  }
  if (source.type === 'SharedImageVersion' && source.imageVersionId !== undefined) {
    const id = source.imageVersionId;
    const version =
      sharedVersion(id) ??
      (isIdOf(id, 'Microsoft.Compute/galleries/images/versions')
        ? id.replace(/\/$/, '').split('/').at(-1)!
        : undefined);
    if (version === undefined)
      rules.bad(
        [...at, 'imageVersionId'],
        id,
        'It must be the id of an image version: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/galleries/…/images/…/versions/….',
      );
    else if (version.toLowerCase() === 'latest' && !isSince(rules.apiVersion, TARGET_REGIONS_SINCE))
      rules.bad([...at, 'imageVersionId'], id, `'latest' needs api-version ${TARGET_REGIONS_SINCE} or newer.`);
    else if (version.toLowerCase() !== 'latest' && !isVersion(version))
      rules.bad([...at, 'imageVersionId'], id, "Its last part must be a version such as 1.0.0, or 'latest'.");
  }
}
