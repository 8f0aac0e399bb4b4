/** What goes together in a storage account, what may change, and what Kiln does not have. */
import type { Resource, Violation } from '../../arm/resource-type.ts';
import type { AccountProperties } from './account-schema.ts';

export interface AccountParts {
  readonly sku: string;
  readonly kind: string;
  readonly properties: AccountProperties;
}

export function accountViolations(account: AccountParts, existing: Resource | undefined): Violation[] {
  return [...combination(account), ...change(account, existing), ...unsupported(account)];
}

const isPremium = (sku: string): boolean => sku.startsWith('Premium_');

function combination({ sku, kind, properties }: AccountParts): Violation[] {
  const violations: Violation[] = [];
  const bad = (path: string, message: string, hint?: string) =>
    violations.push({ path, message, ...(hint !== undefined && { hint }) });
  if (kind === 'BlockBlobStorage' && !isPremium(sku))
    bad('sku.name', `The SKU ${sku} is not valid for accounts of kind ${kind}.`, 'Take Premium_LRS or Premium_ZRS.');
  if (['Storage', 'BlobStorage'].includes(kind) && (isPremium(sku) ? kind === 'BlobStorage' : sku.includes('ZRS')))
    bad('sku.name', `The SKU ${sku} is not valid for accounts of kind ${kind}.`, 'Take kind StorageV2.');
  const { accessTier } = properties;
  if (kind === 'BlobStorage' && accessTier === undefined)
    bad('properties.accessTier', "Required parameter 'storageAccount.properties.accessTier' is missing (null).");
  if (accessTier !== undefined && kind === 'Storage')
    bad('properties.accessTier', 'Accounts of kind Storage have no access tier.', 'Take kind StorageV2.');
  if (accessTier !== undefined && (accessTier === 'Premium') !== isPremium(sku))
    bad('properties.accessTier', `The access tier ${accessTier} is not valid for the SKU ${sku}.`);
  const { keyPolicy, sasPolicy } = properties;
  if (keyPolicy && (keyPolicy.keyExpirationPeriodInDays < 0 || keyPolicy.keyExpirationPeriodInDays > 36500))
    bad('properties.keyPolicy.keyExpirationPeriodInDays', 'It must be between 0 and 36500.');
  if (sasPolicy && !/^\d{1,4}\.([01]\d|2[0-3]):[0-5]\d:[0-5]\d$/.test(sasPolicy.sasExpirationPeriod))
    bad('properties.sasPolicy.sasExpirationPeriod', 'It must have the form DD.HH:MM:SS.');
  return violations;
}

/** Older kinds can be upgraded; nothing goes back, and nothing between Standard and Premium. */
function change({ sku, kind }: AccountParts, existing: Resource | undefined): Violation[] {
  if (!existing?.kind) return [];
  const old = String(existing.sku?.name);
  const fixed = (path: string, message: string): Violation => ({ path, message, code: 'PropertyChangeNotAllowed' });
  return [
    ...(kind === existing.kind || (kind === 'StorageV2' && ['Storage', 'BlobStorage'].includes(existing.kind))
      ? []
      : [fixed('kind', `Changing the kind of a storage account from ${existing.kind} to ${kind} is not allowed.`)]),
    ...(isPremium(sku) === isPremium(old)
      ? []
      : [fixed('sku.name', `Changing the SKU of a storage account from ${old} to ${sku} is not allowed.`)]),
  ];
}

/** An account that says it has what it has not would be found out late. */
function unsupported({ kind, properties }: AccountParts): Violation[] {
  const { encryption, routingPreference, sasPolicy } = properties;
  const wanted: readonly (readonly [path: string, isWanted: boolean | undefined, what: string])[] = [
    ['kind', kind === 'FileStorage', 'file shares'],
    ['properties.isHnsEnabled', properties.isHnsEnabled, 'hierarchical namespaces'],
    ['properties.isNfsV3Enabled', properties.isNfsV3Enabled, 'NFS'],
    ['properties.isSftpEnabled', properties.isSftpEnabled, 'SFTP'],
    ['properties.customDomain', (properties.customDomain?.name ?? '') !== '', 'custom domains'],
    ['properties.dnsEndpointType', properties.dnsEndpointType === 'AzureDnsZone', 'DNS zones of accounts'],
    ['properties.encryption.keySource', encryption?.keySource === 'Microsoft.Keyvault', 'customers’ keys'],
    [
      'properties.encryption.requireInfrastructureEncryption',
      encryption?.requireInfrastructureEncryption,
      'second encryption',
    ],
    [
      'properties.immutableStorageWithVersioning',
      properties.immutableStorageWithVersioning?.enabled,
      'immutable storage',
    ],
    ['properties.allowedCopyScope', properties.allowedCopyScope === 'PrivateLink', 'private links'],
    [
      'properties.publicNetworkAccess',
      properties.publicNetworkAccess === 'SecuredByPerimeter',
      'network security perimeters',
    ],
    [
      'properties.routingPreference',
      routingPreference?.publishMicrosoftEndpoints || routingPreference?.publishInternetEndpoints,
      'endpoints by routing',
    ],
    ['properties.sasPolicy.expirationAction', sasPolicy?.expirationAction === 'Block', 'block of long signatures'],
  ];
  return wanted
    .filter(([, isWanted]) => isWanted === true)
    .map(([path, , what]) => ({ path, message: `Storage accounts of Kiln have no ${what}.`, code: 'NotSupported' }));
}
