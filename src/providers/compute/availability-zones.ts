/** Regions that have availability zones: zone-redundant storage (`Standard_ZRS`) is only there. */

const WITH_ZONES: ReadonlySet<string> = new Set([
  ...['eastus', 'eastus2', 'southcentralus', 'westus2', 'westus3', 'centralus', 'canadacentral', 'mexicocentral'],
  ...['brazilsouth', 'chilecentral', 'northeurope', 'westeurope', 'uksouth', 'swedencentral', 'francecentral'],
  ...['germanywestcentral', 'switzerlandnorth', 'norwayeast', 'polandcentral', 'italynorth', 'spaincentral'],
  ...['austriaeast', 'belgiumcentral', 'denmarkeast', 'israelcentral', 'qatarcentral', 'uaenorth', 'southafricanorth'],
  ...['centralindia', 'eastasia', 'southeastasia', 'japaneast', 'japanwest', 'koreacentral', 'malaysiawest'],
  ...['indonesiacentral', 'taiwannorth', 'newzealandnorth', 'australiaeast', 'usgovvirginia', 'usgovarizona'],
  ...['chinanorth3', 'eastus2euap'],
]);

/** @param region a region's name: `westus2` */
export const hasZones = (region: string): boolean => WITH_ZONES.has(region);
