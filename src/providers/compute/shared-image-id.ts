/**
 * Ids of images in galleries that somebody shares. They name no resource group: `/SharedGalleries/UNIQUENAME/Images/D/Versions/V`, the same below a
 * subscription's location, and `/CommunityGalleries/PUBLICNAME/…` (contract 2.3).
 */

export interface SharedImageId {
  readonly kind: 'shared' | 'community';
  /** `SUBSCRIPTION-GALLERY` or a public name. */
  readonly gallery: string;
  readonly image: string;
  /** A version's number, or `latest`. */
  readonly version: string;
}

const FORM =
  /^(?:\/subscriptions\/[^/]+\/providers\/Microsoft\.Compute(?:\/locations\/[^/]+)?)?\/(shared|community)Galleries\/([^/]+)\/images\/([^/]+)\/versions\/([^/]+)\/?$/i;

/** Undefined for every other text. Case is kept, and means nothing. */
export function parseSharedImageId(text: string): SharedImageId | undefined {
  const [, kind, gallery, image, version] = FORM.exec(text) ?? [];
  if (kind === undefined) return undefined;
  return {
    kind: kind.toLowerCase() as SharedImageId['kind'],
    gallery: gallery!,
    image: image!,
    version: version!,
  };
}

export const isSharedImageId = (text: string): boolean => FORM.test(text);
