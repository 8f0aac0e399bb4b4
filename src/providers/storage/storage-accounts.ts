/**
 * Microsoft.Storage/storageAccounts (contract 2.5), as far as staging resource groups need it: Kiln makes one in each, where a template's logs lie. Callers
 * read and list them; they make none yet.
 */
import { randomInt } from 'node:crypto';
import { Type } from '@sinclair/typebox';
import type { Resource, ResourceType } from '../../arm/resource-type.ts';
import { type JsonObject, oneOf } from '../../arm/shape.ts';
import type { Call, ResourceProvider } from '../provider.ts';
import { readTracked } from '../tracked.ts';

const AccountSchema = Type.Object({
  accessTier: Type.Optional(oneOf(['Hot', 'Cool', 'Premium', 'Cold'])),
  supportsHttpsTrafficOnly: Type.Optional(Type.Boolean()),
  allowBlobPublicAccess: Type.Optional(Type.Boolean()),
  minimumTlsVersion: Type.Optional(oneOf(['TLS1_0', 'TLS1_1', 'TLS1_2', 'TLS1_3'])),
});

/** What every account of Kiln's is: general purpose, one copy. */
const KIND = 'StorageV2';
const SKU = Object.freeze({ name: 'Standard_LRS', tier: 'Standard' });

export const storageAccounts: ResourceType = Object.freeze({
  type: 'Microsoft.Storage/storageAccounts',
  apiVersions: Object.freeze(['2025-08-01', '2024-01-01', '2023-05-01', '2022-09-01', '2021-09-01', '2019-06-01']),
  kind: 'tracked',
  violationCode: 'InvalidParameter',
  checkName(name) {
    if (/^[a-z0-9]{3,24}$/.test(name)) return undefined;
    return {
      path: 'name',
      message: `${name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only.`,
    };
  },
  validate(body, context) {
    const { location, tags, properties, violations, warnings } = readTracked(
      body,
      AccountSchema,
      'storageAccount',
      context,
    );
    const creationTime = context.existing?.properties.creationTime ?? context.now.toISOString();
    const defaults = { accessTier: 'Hot', supportsHttpsTrafficOnly: true, allowBlobPublicAccess: false };
    return {
      resource: {
        location,
        tags,
        properties: {
          ...defaults,
          minimumTlsVersion: 'TLS1_2',
          ...properties,
          creationTime,
          primaryLocation: location,
          statusOfPrimary: 'available',
          provisioningState: 'Succeeded',
        },
      },
      violations,
      warnings,
    };
  },
} satisfies ResourceType);

export const storageAccountsProvider: ResourceProvider = Object.freeze({
  definition: storageAccounts,
  show(resource: Resource, call: Call): JsonObject {
    return {
      sku: SKU,
      kind: KIND,
      id: resource.id,
      name: resource.name,
      type: resource.type,
      location: resource.location,
      tags: resource.tags ?? {},
      properties: {
        ...resource.properties,
        // Path style: the account is the first segment, on the one host that the server has.
        primaryEndpoints: { blob: `${call.origin}/${resource.name}/` },
      },
    };
  },
});

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A name that nobody has: 24 characters, as the real service gives its staging accounts (contract 3.4). */
export function randomAccountName(): string {
  return Array.from({ length: 24 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
}
