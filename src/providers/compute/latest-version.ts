/** What `latest` stands for: the one function that sources, triggers and shared galleries ask. */
import { findRegion } from '../../arm/locations.ts';
import type { Resource } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';
import { compareVersions } from './version-numbers.ts';

export interface TargetRegion {
  /** A region's name: `westus2`. */
  readonly region: string;
  readonly excludeFromLatest: boolean;
}

/** Where a version is, or is going to be. */
export function targetRegions({ properties }: Pick<Resource, 'properties'>): TargetRegion[] {
  const profile = properties.publishingProfile;
  const targets = isObject(profile) && Array.isArray(profile.targetRegions) ? profile.targetRegions : [];
  return targets.filter(isObject).map(({ name, excludeFromLatest }) => ({
    region: findRegion(String(name))?.name ?? String(name),
    excludeFromLatest: excludeFromLatest === true,
  }));
}

/** Whether a version can be used in a region: it was made, and its replica there is complete, also while others are being added. */
export function isReadyIn({ properties }: Pick<Resource, 'properties'>, location: string): boolean {
  const { provisioningState, adding } = properties;
  if (provisioningState !== 'Succeeded' && provisioningState !== 'Updating') return false;
  const wanted = findRegion(location)?.name;
  if (Array.isArray(adding) && adding.includes(wanted)) return false;
  return targetRegions({ properties }).some(({ region }) => region === wanted);
}

/**
 * The version that `latest` stands for in a region: the highest by number that is ready there and not excluded, in general or in that region. One that
 * has reached the end of its life still counts, as it does in Azure.
 */
export function latestVersion<Version extends Pick<Resource, 'name' | 'properties'>>(
  versions: readonly Version[],
  location: string,
): Version | undefined {
  const wanted = findRegion(location)?.name;
  return versions
    .filter(
      version =>
        isReadyIn(version, location) &&
        !isExcluded(version) &&
        !targetRegions(version).some(({ region, excludeFromLatest }) => region === wanted && excludeFromLatest),
    )
    .sort((a, b) => compareVersions(b.name, a.name))[0];
}

/** In all regions. */
export function isExcluded({ properties }: Pick<Resource, 'properties'>): boolean {
  const profile = properties.publishingProfile;
  return isObject(profile) && profile.excludeFromLatest === true;
}
