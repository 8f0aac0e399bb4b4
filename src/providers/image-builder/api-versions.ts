/** The api-versions of Microsoft.VirtualMachineImages, newest first, and what changed in behaviour with some of them (contract 1.1). */

export const IMAGE_BUILDER_API_VERSIONS = Object.freeze([
  '2025-10-01',
  '2024-02-01',
  '2023-07-01',
  '2022-07-01',
  '2022-02-14',
  '2021-10-01',
  '2020-02-14',
  '2019-05-01-preview',
] as const);

export const NEWEST_API_VERSION = IMAGE_BUILDER_API_VERSIONS[0];

/** From here on property names are case-sensitive and unknown ones are refused. */
export const STRICT_SINCE = '2024-02-01';
/** From here on a template must say which identity it uses. */
export const IDENTITY_REQUIRED_SINCE = '2020-02-14';
/** From here on `targetRegions` and `versioning` exist, and `replicationRegions` may be missing. */
export const TARGET_REGIONS_SINCE = '2022-07-01';
/** From here on the members of a template come in another order than that of the alphabet (recorded in 2019-05-01-preview and 2022-02-14). */
export const ORDER_SINCE = '2020-02-14';
/** From here on templates have a staging resource group that one sees. */
export const STAGING_SINCE = '2022-02-14';
/** From here on a PATCH may carry these. */
export const PATCH_DISTRIBUTE_SINCE = '2023-07-01';
export const PATCH_PROFILE_SINCE = '2024-02-01';
