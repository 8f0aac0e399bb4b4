/** What callers may say about a storage account, since which api-version. */
import { type Static, Type } from '@sinclair/typebox';
import { oneOf } from '../../arm/shape.ts';

const optional = Type.Optional;

export const SKUS = Object.freeze([
  'Standard_LRS',
  'Standard_GRS',
  'Standard_RAGRS',
  'Standard_ZRS',
  'Premium_LRS',
  'Premium_ZRS',
  'Standard_GZRS',
  'Standard_RAGZRS',
] as const);

export const KINDS = Object.freeze(['Storage', 'StorageV2', 'BlobStorage', 'FileStorage', 'BlockBlobStorage'] as const);

/** An IPv4 address, or a block of them. */
const ADDRESS = '^(?:(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.(?!/|$)|(?=/|$))){4}(?:/(?:[12]?\\d|3[0-2]))?$';

const NetworkRules = Type.Object({
  bypass: optional(
    Type.String({
      pattern: '^(None|(Logging|Metrics|AzureServices)(, ?(Logging|Metrics|AzureServices))*)$',
      reason: 'It must be None, or some of Logging, Metrics, AzureServices with commas between.',
    }),
  ),
  defaultAction: oneOf(['Allow', 'Deny']),
  ipRules: optional(
    Type.Array(
      Type.Object({
        value: Type.String({ pattern: ADDRESS, reason: 'It must be an IPv4 address, or a block like 20.1.2.0/24.' }),
        action: optional(oneOf(['Allow'])),
      }),
    ),
  ),
  virtualNetworkRules: optional(
    Type.Array(Type.Object({ id: Type.String(), action: optional(oneOf(['Allow'])), state: optional(Type.String()) })),
  ),
  resourceAccessRules: optional(
    Type.Array(Type.Object({ tenantId: optional(Type.String()), resourceId: optional(Type.String()) })),
  ),
});

const EncryptedService = Type.Object({
  enabled: optional(Type.Boolean()),
  keyType: optional(oneOf(['Service', 'Account'])),
  lastEnabledTime: optional(Type.String({ readOnly: true })),
});

const Encryption = Type.Object({
  services: optional(
    Type.Object({
      blob: optional(EncryptedService),
      file: optional(EncryptedService),
      table: optional(EncryptedService),
      queue: optional(EncryptedService),
    }),
  ),
  keySource: optional(oneOf(['Microsoft.Storage', 'Microsoft.Keyvault'])),
  requireInfrastructureEncryption: optional(Type.Boolean()),
  keyvaultproperties: optional(Type.Object({})),
  identity: optional(Type.Object({})),
});

export const AccountProperties = Type.Object({
  accessTier: optional(oneOf(['Hot', 'Cool', 'Premium', 'Cold'])),
  allowBlobPublicAccess: optional(Type.Boolean()),
  allowCrossTenantReplication: optional(Type.Boolean({ since: '2021-04-01' })),
  allowSharedKeyAccess: optional(Type.Boolean({ since: '2021-01-01' })),
  allowedCopyScope: optional(oneOf(['PrivateLink', 'AAD'], { since: '2021-08-01' })),
  customDomain: optional(Type.Object({ name: Type.String(), useSubDomainName: optional(Type.Boolean()) })),
  defaultToOAuthAuthentication: optional(Type.Boolean({ since: '2021-06-01' })),
  dnsEndpointType: optional(oneOf(['Standard', 'AzureDnsZone'], { since: '2021-09-01' })),
  enableExtendedGroups: optional(Type.Boolean({ since: '2023-05-01' })),
  encryption: optional(Encryption),
  immutableStorageWithVersioning: optional(Type.Object({ enabled: optional(Type.Boolean()) }, { since: '2021-06-01' })),
  isHnsEnabled: optional(Type.Boolean()),
  isLocalUserEnabled: optional(Type.Boolean({ since: '2021-08-01' })),
  isNfsV3Enabled: optional(Type.Boolean({ since: '2021-01-01' })),
  isSftpEnabled: optional(Type.Boolean({ since: '2021-08-01' })),
  keyPolicy: optional(Type.Object({ keyExpirationPeriodInDays: Type.Integer() }, { since: '2021-02-01' })),
  largeFileSharesState: optional(oneOf(['Disabled', 'Enabled'])),
  minimumTlsVersion: optional(oneOf(['TLS1_0', 'TLS1_1', 'TLS1_2', 'TLS1_3'])),
  networkAcls: optional(NetworkRules),
  publicNetworkAccess: optional(oneOf(['Enabled', 'Disabled', 'SecuredByPerimeter'], { since: '2021-06-01' })),
  routingPreference: optional(
    Type.Object({
      routingChoice: optional(oneOf(['MicrosoftRouting', 'InternetRouting'])),
      publishMicrosoftEndpoints: optional(Type.Boolean()),
      publishInternetEndpoints: optional(Type.Boolean()),
    }),
  ),
  sasPolicy: optional(
    Type.Object(
      { sasExpirationPeriod: Type.String(), expirationAction: oneOf(['Log', 'Block']) },
      { since: '2021-02-01' },
    ),
  ),
  supportsHttpsTrafficOnly: optional(Type.Boolean()),
});

export type AccountProperties = Static<typeof AccountProperties>;

/** Properties of answers that came with a version: older ones do not show them. */
export const SHOWN_SINCE: Readonly<Record<string, string>> = Object.freeze({
  ...Object.fromEntries(
    Object.entries(AccountProperties.properties).flatMap(([name, { since }]) =>
      typeof since === 'string' ? [[name, since]] : [],
    ),
  ),
  keyCreationTime: '2021-02-01',
  privateEndpointConnections: '2019-06-01',
});

/** What stands beside the properties. */
export const AccountKind = Type.Object({
  sku: Type.Object({ name: oneOf(SKUS), tier: optional(oneOf(['Standard', 'Premium'])) }),
  kind: oneOf(KINDS),
});
