/** Microsoft.Storage/storageAccounts (contract 2.5): what an account is, with the defaults that the real service shows. */
import { formatPath } from '../../arm/json-path.ts';
import type { ResourceType, ValidationContext, Violation } from '../../arm/resource-type.ts';
import { isObject, type JsonObject, shape } from '../../arm/shape.ts';
import { readTracked } from '../tracked.ts';
import { checkAccountName } from './account-names.ts';
import { accountViolations } from './account-rules.ts';
import { AccountKind, AccountProperties } from './account-schema.ts';

export { randomAccountName } from './account-names.ts';

/** What accounts are that Kiln makes itself: general purpose, one copy. */
export const PLAIN_ACCOUNT = Object.freeze({ sku: Object.freeze({ name: 'Standard_LRS' }), kind: 'StorageV2' });

export const STORAGE_API_VERSIONS = Object.freeze([
  // Of @azure/arm-storage 21.
  '2026-09-01',
  ...['2025-08-01', '2025-06-01', '2025-01-01', '2024-01-01', '2023-05-01', '2023-04-01', '2023-01-01', '2022-09-01'],
  ...['2022-05-01', '2021-09-01', '2021-08-01', '2021-06-01', '2021-04-01', '2021-02-01', '2021-01-01', '2019-06-01'],
]);

export const storageAccounts: ResourceType = Object.freeze({
  type: 'Microsoft.Storage/storageAccounts',
  apiVersions: STORAGE_API_VERSIONS,
  kind: 'tracked',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidParameter',
  checkName: checkAccountName,
  validate(body, context) {
    const read = readTracked(body, AccountProperties, 'storageAccount', context);
    const { location, tags, warnings } = read;
    const { kind, sku, violations } = readKind(body, context);
    const kept = context.existing?.properties ?? {};
    // A PUT of an account that is there changes what it says, and leaves the rest.
    const properties: AccountProperties = { ...(kept as AccountProperties), ...read.properties };
    const all = [...read.violations, ...violations];
    if (all.length === 0) all.push(...accountViolations({ sku: sku.name, kind, properties }, context.existing));
    return {
      resource: {
        location,
        tags,
        kind,
        sku,
        properties: {
          ...withDefaults(properties, { sku: sku.name, kind }, context.now),
          creationTime: kept.creationTime ?? context.now.toISOString(),
          primaryLocation: location,
          statusOfPrimary: 'available',
          provisioningState: 'Succeeded',
        },
      },
      violations: all,
      warnings,
    };
  },
} satisfies ResourceType);

/** Errors: none; what is missing or wrong is a violation. */
function readKind(body: unknown, { apiVersion, existing, local }: ValidationContext) {
  const given = isObject(body) ? body : {};
  const usual: { sku?: unknown; kind?: unknown } = existing?.kind ? existing : local ? PLAIN_ACCOUNT : {};
  const { value, findings } = shape(
    AccountKind,
    { sku: given.sku ?? usual.sku, kind: given.kind ?? usual.kind },
    { apiVersion, caseSensitive: false },
  );
  const violations: Violation[] = findings
    .filter(finding => finding.kind !== 'unknown')
    .map(({ kind, path, reason }) => ({
      path: formatPath(path),
      message:
        kind === 'missing'
          ? `Required parameter 'storageAccount.${formatPath(path)}' is missing (null).`
          : `The value of parameter storageAccount.${formatPath(path)} is invalid.`,
      ...(reason !== undefined && { hint: reason }),
    }));
  const name = value.sku?.name ?? PLAIN_ACCOUNT.sku.name;
  const sku = { name, tier: name.startsWith('Premium_') ? 'Premium' : 'Standard' };
  return { kind: value.kind ?? PLAIN_ACCOUNT.kind, sku, violations };
}

function withDefaults(given: AccountProperties, account: { sku: string; kind: string }, now: Date): JsonObject {
  const { networkAcls, encryption } = given;
  const encrypted = { enabled: true, keyType: 'Account', lastEnabledTime: now.toISOString() };
  const before = isObject(encryption?.services) ? encryption.services : {};
  const premium = account.sku.startsWith('Premium_');
  return {
    ...(account.kind !== 'Storage' && { accessTier: premium ? 'Premium' : 'Hot' }),
    supportsHttpsTrafficOnly: true,
    allowBlobPublicAccess: false,
    allowCrossTenantReplication: false,
    // The server takes no lower one.
    minimumTlsVersion: 'TLS1_2',
    ...given,
    networkAcls: {
      bypass: 'AzureServices',
      ...networkAcls,
      defaultAction: networkAcls?.defaultAction ?? 'Allow',
      ipRules: (networkAcls?.ipRules ?? []).map(rule => ({ ...rule, action: 'Allow' })),
      virtualNetworkRules: (networkAcls?.virtualNetworkRules ?? []).map(rule => ({ ...rule, action: 'Allow' })),
    },
    encryption: {
      ...encryption,
      // Always on, for these two: a body cannot switch it off.
      services: {
        file: { ...encrypted, ...before.file, enabled: true },
        blob: { ...encrypted, ...before.blob, enabled: true },
      },
      keySource: 'Microsoft.Storage',
    },
  };
}
