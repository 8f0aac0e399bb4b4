/**
 * Galleries as those see them whom they are shared with: `…/locations/L/sharedGalleries/…` and `…/communityGalleries/…` (contract 2.3). A gallery is seen in its
 * own region and in those of its versions.
 */
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { LocationCall, LocationRead } from '../location-read.ts';
import { listResources, type StoredResource } from '../store.ts';
import { GALLERY_API_VERSIONS } from './api-versions.ts';
import { galleryImages } from './gallery-images.ts';
import { isExcluded, isReadyIn } from './latest-version.ts';
import { findSharedGallery, findSharedImage, galleriesSharedWith, uniqueName, versionsOf } from './shared-galleries.ts';
import type { SharedImageId } from './shared-image-id.ts';
import { sharingOf, type Viewer } from './sharing-profile.ts';

type Kind = SharedImageId['kind'];

/** As each way of sharing calls things. */
const WORDS = Object.freeze({
  shared: { root: 'SharedGalleries', path: 'sharedGalleries', type: 'sharedGallery' },
  community: { root: 'CommunityGalleries', path: 'communityGalleries', type: 'communityGallery' },
});

/** What came with the last api-version before: artifact tags, and what a publisher says of themselves. */
const SINCE_METADATA = '2023-07-03';

const reads = (kind: Kind): LocationRead[] => {
  const { path } = WORDS[kind];
  const permission = `Microsoft.Compute/locations/${path}`;
  const read = (below: string, type: string, answer: (call: LocationCall) => Promise<unknown>): LocationRead => ({
    namespace: 'Microsoft.Compute',
    path: `${path}${below}`,
    apiVersions: GALLERY_API_VERSIONS.filter(version => isSince(version, '2020-09-30')),
    permission: `${permission}${type}/read`,
    read: answer,
  });
  const images = '/{gallery}/images';
  const versions = `${images}/{image}/versions`;
  return [
    read('/{gallery}', '', async call => shownGallery(kind, call, await requireGallery(kind, call))),
    read(images, '/images', call => listImages(kind, call)),
    read(`${images}/{image}`, '/images', async call => {
      const { gallery, image } = await requireImage(kind, call);
      return shownImage(kind, call, gallery, image);
    }),
    read(versions, '/images/versions', call => listVersions(kind, call)),
    read(`${versions}/{version}`, '/images/versions', call => oneVersion(kind, call)),
  ];
};

export const sharedGalleryReads: readonly LocationRead[] = Object.freeze([
  {
    namespace: 'Microsoft.Compute',
    path: WORDS.shared.path,
    apiVersions: GALLERY_API_VERSIONS.filter(version => isSince(version, '2020-09-30')),
    permission: 'Microsoft.Compute/locations/sharedGalleries/read',
    read: listGalleries,
  },
  ...reads('shared'),
  ...reads('community'),
]);

const viewerOf = ({ subscription, caller }: LocationCall): Viewer => ({ subscription, tenantId: caller.tenantId });

/** `sharedTo=tenant`: those that the whole tenant sees. */
async function listGalleries(call: LocationCall): Promise<JsonObject> {
  const { database } = call.environment;
  const through = call.query.get('sharedTo')?.toLowerCase() === 'tenant' ? 'tenant' : 'subscription';
  const found = await galleriesSharedWith(database, viewerOf(call), through);
  const value: JsonObject[] = [];
  for (const gallery of found) if (await isSeen(call, gallery)) value.push(shownGallery('shared', call, gallery));
  return { value };
}

async function isSeen(call: LocationCall, gallery: StoredResource): Promise<boolean> {
  if (gallery.location === call.location) return true;
  const { database } = call.environment;
  for (const image of await listResources(database, { type: galleryImages.type, parent: gallery.id }))
    if ((await versionsOf(database, image.id)).some(version => isReadyIn(version, call.location))) return true;
  return false;
}

/** Errors: ResourceNotFound, also for a gallery that is somebody else's to see. */
async function requireGallery(kind: Kind, call: LocationCall): Promise<StoredResource> {
  const { gallery: name = '' } = call.names;
  const gallery = await findSharedGallery(call.environment.database, { kind, gallery: name }, viewerOf(call));
  if (gallery && (await isSeen(call, gallery))) return gallery;
  throw notFound(kind, call);
}

async function requireImage(kind: Kind, call: LocationCall) {
  const gallery = await requireGallery(kind, call);
  const image = await findSharedImage(call.environment.database, gallery, call.names.image ?? '');
  if (image) return { gallery, image };
  throw notFound(kind, call);
}

function notFound(kind: Kind, { names, location }: LocationCall): KilnError {
  const { gallery, image, version } = names;
  const path = [
    WORDS[kind].path,
    gallery,
    ...(image ? ['images', image] : []),
    ...(version ? ['versions', version] : []),
  ];
  return new KilnError(
    'ResourceNotFound',
    `The resource ${path.join('/')} was not found in the location ${location}, or is not shared with the subscription.`,
    { hint: 'az sig list-shared shows what is shared with a subscription.' },
  );
}

async function listImages(kind: Kind, call: LocationCall): Promise<JsonObject> {
  const gallery = await requireGallery(kind, call);
  const found = await listResources(call.environment.database, { type: galleryImages.type, parent: gallery.id });
  return { value: found.map(image => shownImage(kind, call, gallery, image)) };
}

/** Of those that are ready in the region; what is not to be taken for the latest is not listed. */
async function listVersions(kind: Kind, call: LocationCall): Promise<JsonObject> {
  const { gallery, image } = await requireImage(kind, call);
  const found = (await versionsOf(call.environment.database, image.id)).filter(
    version => isReadyIn(version, call.location) && !isExcluded(version),
  );
  return { value: found.map(version => shownVersion(kind, call, gallery, image, version)) };
}

async function oneVersion(kind: Kind, call: LocationCall): Promise<JsonObject> {
  const { gallery, image } = await requireImage(kind, call);
  const version = (await versionsOf(call.environment.database, image.id)).find(
    one => one.name === call.names.version && isReadyIn(one, call.location),
  );
  if (version) return shownVersion(kind, call, gallery, image, version);
  throw notFound(kind, call);
}

function envelope(
  kind: Kind,
  { location, apiVersion }: LocationCall,
  name: string,
  type: '' | 'Image' | 'ImageVersion',
  uniqueId: string,
  properties: JsonObject,
): JsonObject {
  return {
    name,
    location,
    ...(kind === 'community' && { type: `Microsoft.Compute/locations/${WORDS.community.type}${type}` }),
    identifier: { uniqueId },
    ...((type !== '' || isSince(apiVersion, SINCE_METADATA)) && { properties }),
  };
}

const rootOf = (kind: Kind, gallery: StoredResource): string =>
  `/${WORDS[kind].root}/${kind === 'shared' ? uniqueName(gallery) : publicName(gallery)}`;

const publicName = (gallery: StoredResource): string =>
  sharingOf(gallery)?.communityGalleryInfo?.publicNames?.[0] ?? '';

function shownGallery(kind: Kind, call: LocationCall, gallery: StoredResource): JsonObject {
  const {
    publisherUri,
    publisherContact = '',
    eula,
    publicNames = [],
  } = sharingOf(gallery)?.communityGalleryInfo ?? {};
  const communityMetadata = { publisherUri, publisherContact, eula, publicNames };
  const name = kind === 'shared' ? uniqueName(gallery) : publicName(gallery);
  const properties = { artifactTags: gallery.tags ?? {}, ...(kind === 'community' && { communityMetadata }) };
  return envelope(kind, call, name, '', rootOf(kind, gallery), properties);
}

const IMAGE_FIELDS = [
  ...['osType', 'osState', 'endOfLifeDate', 'identifier', 'recommended', 'disallowed', 'hyperVGeneration', 'features'],
  ...['purchasePlan', 'architecture', 'privacyStatementUri', 'eula'],
];

const picked = ({ properties }: Resource, fields: readonly string[]): JsonObject =>
  Object.fromEntries(fields.flatMap(field => (properties[field] === undefined ? [] : [[field, properties[field]]])));

function shownImage(kind: Kind, call: LocationCall, gallery: StoredResource, image: StoredResource): JsonObject {
  const uniqueId = `${rootOf(kind, gallery)}/Images/${image.name}`;
  const tags = isSince(call.apiVersion, SINCE_METADATA) && { artifactTags: image.tags ?? {} };
  return envelope(kind, call, image.name, 'Image', uniqueId, { ...picked(image, IMAGE_FIELDS), ...tags });
}

function shownVersion(
  kind: Kind,
  call: LocationCall,
  gallery: StoredResource,
  image: StoredResource,
  version: StoredResource,
): JsonObject {
  const { publishingProfile, storageProfile } = version.properties;
  const profile = isObject(publishingProfile) ? publishingProfile : {};
  const disk =
    isObject(storageProfile) && isObject(storageProfile.osDiskImage) ? storageProfile.osDiskImage : undefined;
  const uniqueId = `${rootOf(kind, gallery)}/Images/${image.name}/Versions/${version.name}`;
  return envelope(kind, call, version.name, 'ImageVersion', uniqueId, {
    publishedDate: profile.publishedDate,
    ...(profile.endOfLifeDate !== undefined && { endOfLifeDate: profile.endOfLifeDate }),
    ...(isSince(call.apiVersion, '2022-03-03') && {
      excludeFromLatest: profile.excludeFromLatest === true,
      ...(disk && {
        storageProfile: { osDiskImage: { diskSizeGB: disk.sizeInGB, hostCaching: disk.hostCaching ?? 'ReadWrite' } },
      }),
    }),
    ...(isSince(call.apiVersion, SINCE_METADATA) && { artifactTags: version.tags ?? {} }),
  });
}
