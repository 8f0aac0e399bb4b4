/**
 * Platform images, as `az vm image` reads them: publishers, their offers, SKUs and versions. What Azure's marketplace is there, the catalogue is here, in every
 * region; lists are bare arrays (contract 2.4, az-wire 7).
 */
import { KilnError } from '../../arm/errors.ts';
import { sameText } from '../../arm/ids.ts';
import type { JsonObject } from '../../arm/shape.ts';
import type { CatalogueEntry, ImageName } from '../../images/catalogue/entries.ts';
import { ALIASES } from '../../images/catalogue/entries.ts';
import { catalogue, type Found, findEntry, type UserEntries } from '../../images/catalogue/lookup.ts';
import { type KnownVersion, knownVersions } from '../../images/catalogue/versions.ts';
import { userCatalogue } from '../image-builder/source-image.ts';
import type { LocationCall, LocationRead } from '../location-read.ts';
import { IMAGE_API_VERSIONS } from './api-versions.ts';

const TYPE = 'Microsoft.Compute/locations/publishers';
const OFFERS = 'publishers/{publisher}/artifacttypes/vmimage/offers';
const SKUS = `${OFFERS}/{offer}/skus`;
const VERSIONS = `${SKUS}/{sku}/versions`;

const read = (path: string, permission: string, answer: LocationRead['read']): LocationRead => ({
  namespace: 'Microsoft.Compute',
  path,
  apiVersions: IMAGE_API_VERSIONS,
  permission: `${TYPE}${permission}/read`,
  read: answer,
});

export const platformImageReads: readonly LocationRead[] = Object.freeze([
  read('publishers', '', publishers),
  read(OFFERS, '/artifacttypes/offers', offers),
  read(SKUS, '/artifacttypes/offers/skus', skus),
  read(VERSIONS, '/artifacttypes/offers/skus/versions', versions),
  read(`${VERSIONS}/{version}`, '/artifacttypes/offers/skus/versions', version),
]);

async function publishers(call: LocationCall): Promise<JsonObject[]> {
  const names = imageNames(await userCatalogue(call.environment));
  return distinct(names.map(({ publisher }) => publisher)).map(publisher => item(call, [publisher]));
}

/** Errors: NotFound. */
async function offers(call: LocationCall): Promise<JsonObject[]> {
  const { publisher } = call.names;
  const names = imageNames(await userCatalogue(call.environment)).filter(name => sameText(name.publisher, publisher!));
  const [first] = names;
  if (!first) throw new KilnError('NotFound', `Publisher: ${publisher} was not found.`);
  return distinct(names.map(({ offer }) => offer)).map(offer => item(call, [first.publisher, offer]));
}

/** Errors: NotFound. */
async function skus(call: LocationCall): Promise<JsonObject[]> {
  const { publisher, offer } = call.names;
  const names = imageNames(await userCatalogue(call.environment)).filter(
    name => sameText(name.publisher, publisher!) && sameText(name.offer, offer!),
  );
  const [first] = names;
  if (!first) throw noImage();
  return distinct(names.map(({ sku }) => sku)).map(sku => item(call, [first.publisher, first.offer, sku]));
}

/** `$top` and `$orderby=name desc`; `$expand=properties…`. Errors: NotFound, InvalidParameter. */
async function versions(call: LocationCall): Promise<JsonObject[]> {
  const { found, known, name } = await imageOf(call);
  const given = call.query.get('$orderby');
  const order = /^\s*name(\s+(asc|desc))?\s*$/i.exec(given ?? 'name');
  if (!order) throw badParameter('$orderby', given, "It is 'name', 'name asc' or 'name desc'.");
  const ordered = order[2]?.toLowerCase() === 'desc' ? known.toReversed() : known;
  const top = call.query.get('$top');
  if (top !== null && !/^\d{1,9}$/.test(top)) throw badParameter('$top', top, 'It is a number.');
  const expand = call.query.get('$expand')?.toLowerCase() ?? '';
  return ordered.slice(0, top === null ? undefined : Number(top)).map(one => ({
    ...item(call, [...name, one.version]),
    ...((expand === 'properties' || expand.startsWith('properties/')) && { properties: properties(found, one) }),
  }));
}

/** Errors: NotFound. */
async function version(call: LocationCall): Promise<JsonObject> {
  const { found, known, name } = await imageOf(call);
  const one = known.find(({ version: number }) => number === call.names.version);
  if (!one) throw noImage();
  return { ...item(call, [...name, one.version]), properties: properties(found, one) };
}

/** What can be named: entries and second names of entries. An alias for all SKUs of an offer has none of its own to show. */
function imageNames(user: UserEntries): ImageName[] {
  const own = catalogue(user);
  const aliases = [...user.aliases, ...ALIASES].filter(({ sku }) => sku !== '*');
  const hidden = (name: ImageName) => own.some(entry => named(entry, name));
  return [...own, ...aliases.filter(alias => !hidden(alias))];
}

const named = (a: ImageName, b: ImageName): boolean =>
  sameText(a.publisher, b.publisher) && sameText(a.offer, b.offer) && sameText(a.sku, b.sku);

/** How long a publisher is asked for his newest version (ms). */
const PATIENCE = 3_000;

interface Image {
  readonly found: Found;
  readonly known: readonly KnownVersion[];
  /** In the catalogue's casing, where it has one. */
  readonly name: readonly [publisher: string, offer: string, sku: string];
}

/** Errors: NotFound. */
async function imageOf({ environment, names }: LocationCall): Promise<Image> {
  const { publisher = '', offer = '', sku = '' } = names;
  const wanted = { publisher, offer, sku };
  const userEntries = await userCatalogue(environment);
  const found = lookUp(wanted, userEntries);
  const known = await knownVersions(found.entry, {
    cacheDirectory: environment.home.sources,
    userEntries,
    signal: AbortSignal.timeout(PATIENCE),
  });
  const usual = imageNames(userEntries).find(name => named(name, wanted)) ?? wanted;
  return { found, known, name: [usual.publisher, usual.offer, usual.sku] };
}

function lookUp(name: ImageName, user: UserEntries): Found {
  try {
    return findEntry({ ...name, version: 'latest' }, user);
  } catch (error) {
    throw error instanceof KilnError && error.code === 'SourceNotFound' ? noImage() : error;
  }
}

const noImage = () => new KilnError('NotFound', 'Artifact: VMImage was not found.');

const badParameter = (name: string, given: string | null, hint: string) =>
  new KilnError('InvalidParameter', `The value '${given}' of parameter ${name} is invalid.`, { target: name, hint });

/** Sorted, each once, in whatever casing comes first. */
function distinct(texts: readonly string[]): string[] {
  const first = new Map<string, string>();
  for (const text of texts) if (!first.has(text.toLowerCase())) first.set(text.toLowerCase(), text);
  return [...first.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
}

const WORDS = ['Publishers', 'ArtifactTypes/VMImage/Offers', 'Skus', 'Versions'];

function item({ subscription, location }: LocationCall, names: readonly string[]): JsonObject {
  const path = names.map((name, index) => `/${WORDS[index]}/${name}`).join('');
  return {
    location,
    name: names.at(-1)!,
    id: `/Subscriptions/${subscription}/Providers/Microsoft.Compute/Locations/${location}${path}`,
  };
}

/** An image that stands in for a retired one says so. */
function properties({ entry, notes }: Found, { virtualSize }: KnownVersion): JsonObject {
  const { osType, hyperVGeneration, architecture, plan } = entry;
  return {
    hyperVGeneration,
    architecture,
    osDiskImage: {
      operatingSystem: osType,
      ...(virtualSize !== undefined && { sizeInGb: Math.ceil(virtualSize / 1024 ** 3) }),
    },
    dataDiskImages: [],
    ...(plan && notes.length === 0 && { plan }),
    automaticOSUpgradeProperties: { automaticOSUpgradeSupported: false },
    disallowed: { vmDiskType: hyperVGeneration === 'V2' ? 'Unmanaged' : 'None' },
    features: [],
    imageDeprecationStatus: notes.length > 0 ? deprecated(entry) : { imageState: 'Active' },
  };
}

const deprecated = ({ offer }: CatalogueEntry): JsonObject => ({
  imageState: 'Deprecated',
  alternativeOption: { type: 'Offer', value: offer },
});
