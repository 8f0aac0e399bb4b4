/** Azure's regions. Names compare without regard to case and spaces: `East US` is `eastus` (contract 2.1). */
import { KilnError } from './errors.ts';

export interface Region {
  readonly name: string;
  readonly displayName: string;
}

const DISPLAY_NAMES = [
  ...[
    'East US',
    'East US 2',
    'South Central US',
    'West US 2',
    'West US 3',
    'Central US',
    'North Central US',
    'West US',
  ],
  ...['West Central US', 'Canada Central', 'Canada East', 'Mexico Central', 'Brazil South', 'Brazil Southeast'],
  ...['Chile Central', 'North Europe', 'West Europe', 'UK South', 'UK West', 'Sweden Central', 'Sweden South'],
  ...['France Central', 'France South', 'Germany West Central', 'Germany North', 'Switzerland North'],
  ...['Switzerland West', 'Norway East', 'Norway West', 'Poland Central', 'Italy North', 'Spain Central'],
  ...['Austria East', 'Belgium Central', 'Denmark East', 'Israel Central', 'Qatar Central', 'UAE North', 'UAE Central'],
  ...['South Africa North', 'South Africa West', 'Central India', 'South India', 'West India', 'Jio India West'],
  ...['Jio India Central', 'East Asia', 'Southeast Asia', 'Japan East', 'Japan West', 'Korea Central', 'Korea South'],
  ...['Malaysia West', 'Indonesia Central', 'Taiwan North', 'Taiwan Northwest', 'Australia East'],
  ...['Australia Southeast', 'Australia Central', 'Australia Central 2', 'New Zealand North'],
  ...['US Gov Virginia', 'US Gov Arizona', 'US Gov Texas', 'China North 3', 'China East 3', 'East US 2 EUAP'],
  ...['Central US EUAP'],
];

export function normaliseLocation(text: string): string {
  return text.replace(/\s/g, '').toLowerCase();
}

export const REGIONS: readonly Region[] = Object.freeze(
  DISPLAY_NAMES.map(displayName => Object.freeze({ name: normaliseLocation(displayName), displayName })),
);

const BY_NAME = new Map(REGIONS.map(region => [region.name, region]));

/** The region that a text names, either way; undefined for an unknown one. */
export function findRegion(text: string): Region | undefined {
  return BY_NAME.get(normaliseLocation(text));
}

/** The sentence of Azure for a location that does not exist, listing those that do. */
export function unknownLocation(text: string, type: string): string {
  return `The provided location '${text}' is not available for resource type '${type}'. List of available regions for the resource type is '${REGIONS.map(region => region.name).join(',')}'.`;
}

/** The region of a resource. Errors: LocationRequired, LocationNotAvailableForResourceType. */
export function requireRegion(text: string | undefined, type: string, path = 'location'): Region {
  if (text === undefined || text.trim() === '')
    throw new KilnError('LocationRequired', 'The location property is required for this definition.', { target: path });
  const region = findRegion(text);
  if (region) return region;
  throw new KilnError('LocationNotAvailableForResourceType', unknownLocation(text, type), { target: path });
}
