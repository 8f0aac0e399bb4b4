/**
 * The neighbours of a template: the resource group, identity, gallery and image definition that it names. Azure wants them made beforehand; `kiln build`
 * makes what nobody has made, and says so.
 */
import { KilnError } from '../arm/errors.ts';
import {
  formatId,
  idKey,
  parentId,
  parseId,
  RESOURCE_GROUP_TYPE,
  type ResourceId,
  resourceGroupId,
  sameText,
} from '../arm/ids.ts';
import type { ResourceType } from '../arm/resource-type.ts';
import type { JsonObject } from '../arm/shape.ts';
import { galleries } from './compute/galleries.ts';
import { galleryImages } from './compute/gallery-images.ts';
import { parseGalleryImageId } from './image-builder/distributors.ts';
import type { ImageTemplate } from './image-builder/normalise.ts';
import { putValidated } from './life.ts';
import { putIdentity } from './managed-identity/identity-principal.ts';
import { userAssignedIdentities } from './managed-identity/user-assigned-identities.ts';
import { resourceGroups } from './resources/resource-groups.ts';
import { getResource, lockResource, type Store } from './store.ts';

/** What an image definition says about the images in it. */
export interface GuestKind {
  readonly osType: 'Linux' | 'Windows';
  readonly hyperVGeneration: 'V1' | 'V2';
  readonly architecture?: 'x64' | 'Arm64';
}

export interface NeighbourOptions {
  /** The template's own id: its group is a neighbour, too. */
  readonly templateId: string;
  readonly template: ImageTemplate;
  /** Of the source: what a new image definition is made for. */
  readonly guest: GuestKind;
  /** Make nothing; refuse, listing everything that is missing. */
  readonly strict?: boolean;
}

interface Neighbour {
  readonly definition: ResourceType;
  readonly id: ResourceId;
  /** What it is called in sentences. */
  readonly what: string;
  /** Where the template names it. */
  readonly path: string;
  readonly properties: JsonObject;
}

/**
 * Makes all that is missing or nothing, in the transaction that is passed in or one of its own, and returns a sentence for each thing made.
 * Errors: with `strict` ResourceNotFound with one detail for each missing thing; else those of making them (names, for example).
 */
export async function ensureNeighbours(store: Store, options: NeighbourOptions): Promise<string[]> {
  if (!store.isTransaction) return await store.transaction().execute(own => ensureNeighbours(own, options));
  const neighbours = neighboursOf(options);
  let missing = await missingOf(store, neighbours);
  if (missing.length > 0 && !options.strict) {
    // Two commands at once must not both make a thing: the second finds what the first has made.
    for (const key of neighbours.map(({ id }) => idKey(id)).sort()) await lockResource(store, key);
    missing = await missingOf(store, neighbours);
  }
  if (options.strict && missing.length > 0) throw missingError(missing);
  const made: string[] = [];
  for (const { definition, id, what, properties } of missing) {
    const { location } = options.template;
    const request = { id: formatId(id), body: { location, properties }, apiVersion: definition.apiVersions[0]! };
    if (definition === userAssignedIdentities) await putIdentity(store, request);
    else await putValidated(store, definition, request);
    made.push(
      `Made the ${what} ${id.names.join('/')} in ${location}${sameText(id.type, RESOURCE_GROUP_TYPE) ? '' : `, resource group ${id.resourceGroup}`}: nobody had made it yet.`,
    );
  }
  return made;
}

async function missingOf(store: Store, neighbours: readonly Neighbour[]): Promise<Neighbour[]> {
  const missing: Neighbour[] = [];
  for (const neighbour of neighbours) if (!(await getResource(store, neighbour.id))) missing.push(neighbour);
  return missing;
}

/** Everything that has to be there, parents before children, each once. */
function neighboursOf({ templateId, template, guest }: NeighbourOptions): Neighbour[] {
  const found = new Map<string, Neighbour>();
  const add = (neighbour: Neighbour): void => {
    const key = idKey(neighbour.id);
    if (!found.has(key)) found.set(key, neighbour);
  };
  const addGroup = ({ subscription, resourceGroup }: ResourceId, path: string): void =>
    add({
      definition: resourceGroups,
      id: parseId(resourceGroupId(subscription, resourceGroup!), path),
      what: 'resource group',
      path,
      properties: {},
    });

  addGroup(parseId(templateId), 'id');
  for (const text of Object.keys(template.identity?.userAssignedIdentities ?? {})) {
    const id = parseId(text, 'identity');
    addGroup(id, 'identity.userAssignedIdentities');
    add({
      definition: userAssignedIdentities,
      id,
      what: 'identity',
      path: 'identity.userAssignedIdentities',
      properties: {},
    });
  }
  template.properties.distribute.forEach((distributor, index) => {
    const at = `properties.distribute[${index}]`;
    if (distributor.type === 'ManagedImage') addGroup(parseId(distributor.imageId, `${at}.imageId`), `${at}.imageId`);
    if (distributor.type !== 'SharedImage') return;
    const path = `${at}.galleryImageId`;
    const definition = parseId(parseGalleryImageId(distributor.galleryImageId)!.definitionId, path);
    const gallery = parentId(definition)!;
    addGroup(definition, path);
    add({ definition: galleries, id: gallery, what: 'gallery', path, properties: {} });
    add({
      definition: galleryImages,
      id: definition,
      what: 'image definition',
      path,
      properties: newDefinition(gallery, definition, guest),
    });
  });
  return [...found.values()];
}

/** publisher, offer and sku only have to be unique in the gallery. */
function newDefinition(gallery: ResourceId, definition: ResourceId, guest: GuestKind): JsonObject {
  return {
    osType: guest.osType,
    osState: 'Generalized',
    hyperVGeneration: guest.hyperVGeneration,
    architecture: guest.architecture ?? 'x64',
    identifier: { publisher: 'Kiln', offer: gallery.name.slice(0, 64), sku: definition.name.slice(0, 64) },
  };
}

function missingError(missing: readonly Neighbour[]): KilnError {
  const details = missing.map(
    ({ id, what, path }) =>
      new KilnError('ResourceNotFound', `The ${what} ${formatId(id)} does not exist.`, { target: path }),
  );
  return new KilnError(
    'ResourceNotFound',
    `The template names ${missing.length === 1 ? 'something that does' : `${missing.length} things that do`} not exist: ${missing.map(({ what, id }) => `${what} ${id.names.join('/')}`).join(', ')}.`,
    {
      details,
      hint: 'Make them first, or leave out --strict: they are made then.',
    },
  );
}
