/** Galleries that others share: found by the names under which they are shared, and only by those whom they are shared with. */
import type { Kysely } from 'kysely';
import { sameText } from '../../arm/ids.ts';
import type { Schema } from '../../database/schema.ts';
import { listResources, type StoredResource } from '../store.ts';
import { galleries } from './galleries.ts';
import { galleryImageVersions } from './gallery-image-versions.ts';
import { galleryImages } from './gallery-images.ts';
import { isReadyIn, latestVersion } from './latest-version.ts';
import type { SharedImageId } from './shared-image-id.ts';
import { isOpen, isSharedWith, sharingOf, type Viewer } from './sharing-profile.ts';

type Store = Kysely<Schema>;

export async function galleriesSharedWith(
  store: Store,
  viewer: Viewer,
  through: 'either' | 'tenant' | 'subscription',
): Promise<StoredResource[]> {
  const all = await listResources(store, { type: galleries.type });
  return all.filter(gallery => isSharedWith(sharingOf(gallery), viewer, through));
}

/** By its unique name, where it is shared with the viewer; or by its public name, where everybody sees it. */
export async function findSharedGallery(
  store: Store,
  { kind, gallery: name }: Pick<SharedImageId, 'kind' | 'gallery'>,
  viewer: Viewer,
): Promise<StoredResource | undefined> {
  const all = await listResources(store, { type: galleries.type });
  return all.find(gallery => {
    const profile = sharingOf(gallery);
    if (kind === 'shared') return sameText(uniqueName(gallery), name) && isSharedWith(profile, viewer);
    const names = profile && isOpen(profile) ? profile.communityGalleryInfo?.publicNames : undefined;
    return (names ?? []).some(one => sameText(one, name));
  });
}

export function uniqueName({ properties }: Pick<StoredResource, 'properties'>): string {
  return String((properties.identifier as { uniqueName?: string } | undefined)?.uniqueName ?? '');
}

export async function findSharedImage(
  store: Store,
  gallery: StoredResource,
  name: string,
): Promise<StoredResource | undefined> {
  const images = await listResources(store, { type: galleryImages.type, parent: gallery.id });
  return images.find(image => sameText(image.name, name));
}

export const versionsOf = (store: Store, definition: string): Promise<StoredResource[]> =>
  listResources(store, { type: galleryImageVersions.type, parent: definition });

/** The image version that an id of a shared image means in a region, for a viewer; undefined where there is none for them. */
export async function findSharedVersion(
  store: Store,
  id: SharedImageId,
  viewer: Viewer,
  location: string,
): Promise<StoredResource | undefined> {
  const gallery = await findSharedGallery(store, id, viewer);
  const definition = gallery && (await findSharedImage(store, gallery, id.image));
  if (!definition) return undefined;
  const versions = await versionsOf(store, definition.id);
  if (sameText(id.version, 'latest')) return latestVersion(versions, location);
  return versions.find(version => version.name === id.version && isReadyIn(version, location));
}

/** The definition alone: what triggers watch. */
export async function findSharedDefinition(
  store: Store,
  id: Pick<SharedImageId, 'kind' | 'gallery' | 'image'>,
  viewer: Viewer,
): Promise<StoredResource | undefined> {
  const gallery = await findSharedGallery(store, id, viewer);
  return gallery && (await findSharedImage(store, gallery, id.image));
}
