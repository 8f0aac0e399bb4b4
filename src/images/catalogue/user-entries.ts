/** A user's own catalogue: a JSON file that names local disks, URLs and aliases, and wins over the built-in entries. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { KilnError } from '../../arm/errors.ts';
import { BOOTSTRAPPED_PROVISIONING, DISTRIBUTIONS } from './debian/distributions.ts';
import { type Alias, type CatalogueEntry, imageName, type Origin } from './entries.ts';
import type { UserEntries } from './lookup.ts';

const SHA256 = Type.String({ pattern: '^[0-9a-fA-F]{64}$' });
const VERSION = Type.String({ pattern: '^\\d{1,10}\\.\\d{1,10}\\.\\d{1,10}$' });
const NAME = '^[A-Za-z0-9][A-Za-z0-9._-]*:[A-Za-z0-9][A-Za-z0-9._-]*:';
const common = {
  hyperVGeneration: Type.Optional(Type.Union([Type.Literal('V1'), Type.Literal('V2')])),
  firmware: Type.Optional(Type.Union([Type.Literal('bios'), Type.Literal('uefi')])),
  version: Type.Optional(VERSION),
  plan: Type.Optional(
    Type.Object(
      {
        name: Type.String({ minLength: 1 }),
        product: Type.String({ minLength: 1 }),
        publisher: Type.String({ minLength: 1 }),
      },
      { additionalProperties: false },
    ),
  ),
};
const closed = { additionalProperties: false };

const AliasText = Type.Object({ alias: Type.String({ pattern: `${NAME}[A-Za-z0-9][A-Za-z0-9._-]*$` }) }, closed);
const FileText = Type.Object({ file: Type.String({ minLength: 1 }), sha256: Type.Optional(SHA256), ...common }, closed);
const UrlText = Type.Object({ url: Type.String({ pattern: '^https?://' }), sha256: SHA256, ...common }, closed);
const { version: _, ...made } = common;
/** `ubuntu:noble`; its versions are the days on which it is made. */
const PackagesText = Type.Object({ bootstrap: Type.String(), ...made }, closed);
const EntryText = Type.Union([AliasText, FileText, UrlText, PackagesText]);

type EntryText = Static<typeof EntryText>;
type OwnDisk = Exclude<EntryText, { alias: string }>;

const SHAPES = [
  ['alias', AliasText],
  ['file', FileText],
  ['url', UrlText],
  ['bootstrap', PackagesText],
] as const;

/**
 * Reads a catalogue file (untrusted text): an object from `publisher:offer:sku` (the SKU may be `*` for an alias) to one of
 * `{"alias": NAME}`, `{"file": PATH, "sha256"?}`, `{"url": URL, "sha256"}`, `{"bootstrap": "ubuntu:noble"}` (made here from packages); all but the first with optional `version`, `hyperVGeneration`, `firmware` and
 * `plan` (`{"name", "product", "publisher"}`, what templates have to name in `planInfo`).
 * Relative paths are relative to the file. A missing file is no entries, unless `required`. Rejects with one UsageError.
 */
export async function readUserEntries(
  path: string,
  options: { readonly required?: boolean } = {},
): Promise<UserEntries> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !options.required) return { entries: [], aliases: [] };
    throw invalid(path, (error as Error).message);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(path, 'not an object from publisher:offer:sku to an entry');
  const entries: CatalogueEntry[] = [];
  const aliases: Alias[] = [];
  const seen = new Set<string>();
  for (const [name, entry] of Object.entries(value)) {
    const where = JSON.stringify(name);
    if (!new RegExp(`${NAME}(\\*|[A-Za-z0-9][A-Za-z0-9._-]*)$`).test(name))
      throw invalid(path, `${where} is not of the form publisher:offer:sku`);
    if (seen.has(name.toLowerCase())) throw invalid(path, `${where} is there twice`);
    seen.add(name.toLowerCase());
    const checked = check(path, where, entry);
    if ('alias' in checked) aliases.push({ ...imageName(name), to: imageName(checked.alias) });
    else if (name.endsWith(':*')) throw invalid(path, `${where}: only an alias may stand for all SKUs`);
    else entries.push(toEntry(path, name, checked));
  }
  return { entries, aliases };
}

/** Joins catalogue files; the earlier one wins. */
export function joinUserEntries(...all: readonly UserEntries[]): UserEntries {
  return { entries: all.flatMap(one => one.entries), aliases: all.flatMap(one => one.aliases) };
}

function check(path: string, where: string, entry: unknown): EntryText {
  const shapes = SHAPES.filter(([key]) => typeof entry === 'object' && entry !== null && key in entry);
  if (shapes.length !== 1)
    throw invalid(path, `${where}: exactly one of "alias", "file", "url" and "bootstrap" is needed`);
  const [, schema] = shapes[0]!;
  const first = Value.Errors(schema, entry).First();
  if (first) throw invalid(path, `${where}${first.path.replaceAll('/', '.')}: ${first.message}`);
  return entry as EntryText;
}

function toEntry(path: string, name: string, entry: OwnDisk): CatalogueEntry {
  const origin = originOf(path, name, entry);
  return {
    ...imageName(name),
    osType: 'Linux',
    architecture: 'x64',
    hyperVGeneration: entry.hyperVGeneration ?? 'V2',
    firmware: entry.firmware ?? 'bios',
    provisioning: origin.kind === 'bootstrap' ? BOOTSTRAPPED_PROVISIONING : 'cloud-init',
    ...(entry.plan && { plan: entry.plan }),
    origin,
  };
}

function originOf(path: string, name: string, entry: OwnDisk): Origin {
  if ('bootstrap' in entry) return { kind: 'bootstrap', ...madeOf(path, name, entry.bootstrap) };
  const version = entry.version === undefined ? {} : { version: entry.version };
  const sha256 = entry.sha256?.toLowerCase();
  return 'file' in entry
    ? { kind: 'file', path: resolve(dirname(path), entry.file), ...(sha256 && { sha256 }), ...version }
    : { kind: 'url', url: entry.url, sha256: sha256!, ...version };
}

function madeOf(
  path: string,
  name: string,
  text: string,
): Pick<Origin & { kind: 'bootstrap' }, 'distribution' | 'release'> {
  for (const { name: distribution, releases } of Object.values(DISTRIBUTIONS))
    for (const release of Object.keys(releases))
      if (text === `${distribution}:${release}`) return { distribution, release };
  const known = Object.values(DISTRIBUTIONS).flatMap(({ name, releases }) =>
    Object.keys(releases).map(release => `${name}:${release}`),
  );
  throw invalid(path, `${JSON.stringify(name)}.bootstrap: ${JSON.stringify(text)} is none of ${known.join(', ')}`);
}

function invalid(path: string, what: string): KilnError {
  return new KilnError('UsageError', `The catalogue file ${path} cannot be used: ${what}.`, {
    target: path,
    hint: 'An entry looks like "Debian:debian-11:11": {"alias": "Debian:debian-12:12-gen2"} or "My:image:1": {"file": "disk.qcow2"}.',
  });
}
