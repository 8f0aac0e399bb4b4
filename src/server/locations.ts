/** GET {subscription}/locations: the regions, with what clients show of them. */
import { isSince } from '../arm/api-versions.ts';
import { REGIONS } from '../arm/locations.ts';

/** Azure's groups of regions, by the beginnings and ends of their display names; the others are in the Asia Pacific. */
const GROUPS: readonly (readonly [group: string, names: RegExp])[] = [
  ['US', /US\b/],
  ['Canada', /^Canada/],
  ['Mexico', /^Mexico/],
  ['South America', /^(Brazil|Chile)/],
  ['Middle East', /^(Israel|Qatar|UAE)/],
  ['Africa', /^South Africa/],
  ['Europe', /(Europe$|^(UK|Sweden|France|Germany|Switzerland|Norway|Poland|Italy|Spain|Austria|Belgium|Denmark)\b)/],
];

/** As `az account list-locations` prints them. The physical facts about Azure's data centres are none of Kiln's regions. */
export function locationList(subscription: string, apiVersion: string) {
  return {
    value: REGIONS.map(({ name, displayName }) => {
      const group = GROUPS.find(([, names]) => names.test(displayName))?.[0] ?? 'Asia Pacific';
      return {
        id: `/subscriptions/${subscription}/locations/${name}`,
        name,
        ...(isSince(apiVersion, '2021-01-01') && { type: 'Region' }),
        displayName,
        ...(isSince(apiVersion, '2019-11-01') && {
          regionalDisplayName: `(${group}) ${displayName}`,
          metadata: { regionType: 'Physical', regionCategory: 'Recommended', geographyGroup: group },
        }),
      };
    }),
  };
}
