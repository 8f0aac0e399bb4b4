/** From a name in a template to an entry of the catalogue. */
import { KilnError } from '../../arm/errors.ts';
import type { PlatformImageReference } from '../source.ts';
import { ALIASES, type Alias, type CatalogueEntry, ENTRIES, formatName, type ImageName } from './entries.ts';

/** What a user's own catalogue file adds; it wins over what is built in. */
export interface UserEntries {
  readonly entries: readonly CatalogueEntry[];
  readonly aliases: readonly Alias[];
}

export interface Found {
  readonly entry: CatalogueEntry;
  /** Sentences for the build log: which aliases were taken, and why. */
  readonly notes: readonly string[];
  /** The version asked for; `latest` after an alias, since another image has other versions. */
  readonly version: string;
}

const NO_ENTRIES: UserEntries = Object.freeze({ entries: [], aliases: [] });

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

function names(name: ImageName, wanted: ImageName): boolean {
  return same(name.publisher, wanted.publisher) && same(name.offer, wanted.offer) && same(name.sku, wanted.sku);
}

function covers(alias: Alias, wanted: ImageName): boolean {
  return names({ ...alias, sku: alias.sku === '*' ? wanted.sku : alias.sku }, wanted);
}

/** All entries, the user's first, each name once. */
export function catalogue(user: UserEntries = NO_ENTRIES): CatalogueEntry[] {
  const hidden = (entry: CatalogueEntry) =>
    user.entries.some(own => names(own, entry)) || user.aliases.some(own => covers(own, entry));
  return [...user.entries, ...ENTRIES.filter(entry => !hidden(entry))];
}

/** Finds the entry behind a name. Throws SourceNotFound that lists the nearest names. */
export function findEntry(reference: PlatformImageReference, user: UserEntries = NO_ENTRIES): Found {
  const notes: string[] = [];
  let wanted: ImageName = reference;
  let version = reference.version;
  // An alias may lead to an alias; a circle of them ends here.
  for (let hop = 0; hop < 8; hop++) {
    const name = wanted;
    const own = user.entries.find(entry => names(entry, name));
    const alias = own ? undefined : user.aliases.find(candidate => covers(candidate, name));
    const entry = own ?? (alias ? undefined : ENTRIES.find(candidate => names(candidate, name)));
    if (entry) return { entry, notes, version };
    const next = alias ?? ALIASES.find(candidate => covers(candidate, name));
    if (!next) throw notFound(reference, name, user);
    const why = next.because ?? (alias ? 'the catalogue file says so' : undefined);
    if (why !== undefined) notes.push(`${formatName(name)}: using ${formatName(next.to)} instead (${why}).`);
    if (version.toLowerCase() !== 'latest')
      notes.push(`Version ${version} belongs to another image: using the latest one.`);
    version = 'latest';
    wanted = next.to;
  }
  throw new KilnError('SourceNotFound', `The aliases of ${formatName(reference)} lead in a circle.`, {
    target: formatName(reference),
  });
}

function notFound(reference: ImageName, missing: ImageName, user: UserEntries): KilnError {
  const near = nearest(missing, catalogue(user));
  const through = names(reference, missing) ? '' : ` (which ${formatName(reference)} stands for)`;
  return new KilnError('SourceNotFound', `No image in the catalogue is called ${formatName(missing)}${through}.`, {
    target: formatName(reference),
    hint: `Nearest: ${near.map(formatName).join(', ')}. Your own catalogue.json can name a local disk or an alias.`,
  });
}

/** The entries whose names share most with the wanted one, best first. */
function nearest(wanted: ImageName, entries: readonly CatalogueEntry[]): CatalogueEntry[] {
  const pieces = (text: string) => new Set(text.toLowerCase().split(/[^a-z0-9]+|(?<=[a-z])(?=[0-9])/));
  const target = pieces(formatName(wanted));
  const score = (entry: CatalogueEntry) =>
    [...pieces(formatName(entry))].filter(piece => target.has(piece)).length +
    (same(entry.offer, wanted.offer) ? 2 : 0);
  return entries
    .map(entry => ({ entry, score: score(entry) }))
    .sort((a, b) => b.score - a.score)
    .slice(0, 5)
    .map(({ entry }) => entry);
}
