/** All resource types that the front door answers for. Adding one is adding its file and a line here. */

import { locks } from './authorization/locks.ts';
import { classicAdministrators, denyAssignments } from './authorization/nobody.ts';
import { permissions } from './authorization/permissions.ts';
import { roleAssignments } from './authorization/role-assignments.ts';
import { roleDefinitions } from './authorization/role-definitions.ts';
import { runsExtension } from './builds/runs.ts';
import { galleriesProvider } from './compute/galleries-provider.ts';
import { galleryImageVersionsProvider } from './compute/gallery-image-versions-provider.ts';
import { galleryImagesProvider } from './compute/gallery-images.ts';
import { imagesProvider } from './compute/images-provider.ts';
import { platformImageReads } from './compute/platform-images.ts';
import { sharedGalleryReads } from './compute/shared-gallery-reads.ts';
import type { ExtensionProvider } from './extension.ts';
import { imageTemplatesProvider } from './image-builder/provider.ts';
import { runOutputsProvider } from './image-builder/run-outputs-provider.ts';
import { triggersProvider } from './image-builder/triggers.ts';
import type { LocationRead } from './location-read.ts';
import { federatedIdentityCredentialsProvider } from './managed-identity/federated-identity-credentials.ts';
import { userAssignedIdentitiesProvider } from './managed-identity/provider.ts';
import { networkSecurityGroupsProvider } from './network/network-security-groups.ts';
import { securityRulesProvider } from './network/security-rules.ts';
import { subnetsProvider } from './network/subnets.ts';
import { virtualNetworksProvider } from './network/virtual-networks.ts';
import type { ResourceProvider } from './provider.ts';
import { tags } from './resources/tags.ts';
import { storageAccountsProvider } from './storage/accounts-provider.ts';
import { blobContainersProvider } from './storage/blob-containers.ts';
import { blobServicesProvider } from './storage/blob-services.ts';
import { checkNameAvailability } from './storage/check-name.ts';
import type { SubscriptionAction } from './subscription-action.ts';
import { KNOWN_TYPES } from './unmodelled/known-types.ts';

export const PROVIDERS: readonly ResourceProvider[] = Object.freeze([
  imageTemplatesProvider,
  runOutputsProvider,
  triggersProvider,
  userAssignedIdentitiesProvider,
  federatedIdentityCredentialsProvider,
  galleriesProvider,
  galleryImagesProvider,
  galleryImageVersionsProvider,
  imagesProvider,
  storageAccountsProvider,
  blobServicesProvider,
  blobContainersProvider,
  virtualNetworksProvider,
  subnetsProvider,
  networkSecurityGroupsProvider,
  securityRulesProvider,
]);

export const EXTENSIONS: readonly ExtensionProvider[] = Object.freeze([
  roleAssignments,
  roleDefinitions,
  permissions,
  denyAssignments,
  classicAdministrators,
  locks,
  tags,
  runsExtension,
]);

/** What a subscription reads in a region, beside resources. */
export const LOCATION_READS: readonly LocationRead[] = Object.freeze([...platformImageReads, ...sharedGalleryReads]);

/** What a subscription is asked to do, beside resources. */
export const SUBSCRIPTION_ACTIONS: readonly SubscriptionAction[] = Object.freeze([checkNameAvailability]);

/** Namespaces in Azure's casing, those without types of their own here included. */
export const NAMESPACES: readonly string[] = Object.freeze([
  ...new Set([
    ...PROVIDERS.map(({ definition }) => definition.type.split('/')[0]!),
    ...EXTENSIONS.map(({ namespace }) => namespace),
    'Microsoft.Resources',
    'Microsoft.Features',
    ...Object.keys(KNOWN_TYPES),
  ]),
]);

/** The usual casing of a namespace; undefined for one that nobody answers for. */
export function findNamespace(text: string): string | undefined {
  return NAMESPACES.find(one => one.toLowerCase() === text.toLowerCase());
}
