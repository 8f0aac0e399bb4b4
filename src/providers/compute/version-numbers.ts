/** Versions of images in galleries: three numbers, and how the next one is found (contract 4.1). */
import { isSince } from '../../arm/api-versions.ts';
import { KilnError } from '../../arm/errors.ts';

export const MAX_VERSION_PART = 2 ** 31 - 1;

export type Version = readonly [major: number, minor: number, patch: number];

export const VERSION_RULE =
  'The image version name is invalid. The image version name should follow Major(int).Minor(int).Patch(int) format, where int is between 0 and 2,147,483,647 (inclusive). For e.g: 1.0.0, 2018.12.1 etc.';

/** Three numbers of 0…2,147,483,647 with points between them; undefined for anything else. */
export function parseVersion(text: string): Version | undefined {
  if (!/^\d{1,10}\.\d{1,10}\.\d{1,10}$/.test(text)) return undefined;
  const parts = text.split('.').map(Number);
  return parts.every(part => part <= MAX_VERSION_PART) ? (parts as unknown as Version) : undefined;
}

export function isVersion(text: string): boolean {
  return parseVersion(text) !== undefined;
}

export function formatVersion(version: Version): string {
  return version.join('.');
}

/** Negative when `a` is older. Compares the dotted parts as numbers, as many as there are: versions of platform images have two to four. */
export function compareVersions(a: string | readonly number[], b: string | readonly number[]): number {
  const parts = (version: string | readonly number[]): readonly number[] =>
    typeof version === 'string' ? version.split('.').map(Number) : version;
  const [left, right] = [parts(a), parts(b)];
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export type VersionScheme = 'latest' | 'source' | 'legacy';

export interface NextVersionOptions {
  /** Used as it is; must not exist. */
  readonly explicit?: string;
  readonly scheme: VersionScheme;
  /** For `latest`: only versions with this major count. Missing or -1: all do. */
  readonly major?: number;
  /** For `source`: the exact version of the image that the build started from. */
  readonly sourceVersion?: string;
  readonly now: Date;
}

/** How versions were made when a template says nothing: by the clock before `versioning` came. */
export function defaultScheme(apiVersion: string): VersionScheme {
  return isSince(apiVersion, '2022-07-01') ? 'latest' : 'legacy';
}

/**
 * The version that a new image gets. `existing` are the definition's versions; text that is no version is ignored.
 * Errors: Conflict (an explicit one exists), InvalidParameter (not a version; no number left).
 */
export function nextVersion(existing: readonly string[], options: NextVersionOptions): string {
  const versions = existing.map(parseVersion).filter(version => version !== undefined);
  if (options.explicit !== undefined) return explicitVersion(versions, options.explicit);
  switch (options.scheme) {
    case 'latest':
      return formatVersion(afterLatest(versions, options.major ?? -1));
    case 'source':
      return formatVersion(afterSource(versions, options.sourceVersion));
    case 'legacy':
      return formatVersion(byClock(versions, options.now));
  }
}

function explicitVersion(versions: readonly Version[], text: string): string {
  const version = parseVersion(text);
  if (!version) throw new KilnError('InvalidParameter', VERSION_RULE, { target: 'galleryImageVersionName' });
  if (versions.some(one => compareVersions(one, version) === 0))
    throw new KilnError('Conflict', `The image version ${text} exists already.`, {
      hint: 'Name another version in galleryImageId, or leave it out: the next one is found then.',
    });
  return formatVersion(version);
}

/**
 * The highest one (of `major`, unless that is -1), patch + 1. The first one of all is 1.0.0 (recorded); the first one of a major, and what a full patch leads to,
 * are not documented.
 */
function afterLatest(versions: readonly Version[], major: number): Version {
  const highest = newest(versions.filter(version => major === -1 || version[0] === major));
  if (!highest) return major === -1 ? [1, 0, 0] : [major, 0, 1];
  const [first, second, third] = highest;
  if (third < MAX_VERSION_PART) return [first, second, third + 1];
  if (second < MAX_VERSION_PART) return [first, second + 1, 0];
  if (major === -1 && first < MAX_VERSION_PART) return [first + 1, 0, 0];
  throw noneLeft();
}

/**
 * The source's own number, as three; when it is taken or newer ones stand under the same major.minor, the next patch after those, so that what is built last is
 * also the latest. Not documented further.
 */
function afterSource(versions: readonly Version[], source: string | undefined): Version {
  const wanted = threeParts(source ?? '');
  if (!wanted)
    throw new KilnError(
      'InvalidParameter',
      `The source's version '${source ?? ''}' cannot become the version of an image.`,
      {
        target: 'versioning.scheme',
        hint: "Use the scheme 'Latest', or name a version in galleryImageId.",
      },
    );
  const highest = newest(versions.filter(version => version[0] === wanted[0] && version[1] === wanted[1]));
  if (!highest || highest[2] < wanted[2]) return wanted;
  if (highest[2] < MAX_VERSION_PART) return [wanted[0], wanted[1], highest[2] + 1];
  throw noneLeft();
}

/** A day and a time without anything between them: yyyyMMddHHmm, with seconds or without. */
const MOMENT = /^(\d{8})(\d{4}(?:\d\d)?)$/;

/**
 * A version of any number of parts as three: missing ones are 0, of four the last is left out. A moment, which is too large for one part, becomes two: its day
 * and its time. Undefined for what is no version, or has a part that is too large.
 */
function threeParts(text: string): Version | undefined {
  const parts = text.split('.').flatMap(part => (isPart(part) ? [part] : (MOMENT.exec(part)?.slice(1) ?? [part])));
  return parseVersion([...parts, '0', '0'].slice(0, 3).join('.'));
}

const isPart = (text: string): boolean => /^\d{1,10}$/.test(text) && Number(text) <= MAX_VERSION_PART;

/** 0.⌊seconds / 65536⌋.(seconds mod 65536): derived from versions that the service published, such as 0.24490.10860 on 2020-11-10. */
function byClock(versions: readonly Version[], now: Date): Version {
  let seconds = Math.floor(now.getTime() / 1000);
  const taken = new Set(versions.map(formatVersion));
  for (;;) {
    const version: Version = [0, Math.floor(seconds / 65536), seconds % 65536];
    if (!taken.has(formatVersion(version))) return version;
    seconds += 1;
  }
}

function newest(versions: readonly Version[]): Version | undefined {
  return versions.reduce<Version | undefined>(
    (best, version) => (best && compareVersions(best, version) >= 0 ? best : version),
    undefined,
  );
}

function noneLeft(): KilnError {
  return new KilnError('InvalidParameter', 'The definition has no version number left after its highest one.', {
    target: 'versioning',
    hint: 'Delete the version with the highest number, or name a version in galleryImageId.',
  });
}
