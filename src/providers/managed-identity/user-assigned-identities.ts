/** Microsoft.ManagedIdentity/userAssignedIdentities: who a template acts as (contract 2.5). */
import { Type } from '@sinclair/typebox';
import { LOCAL_TENANT } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import { readTracked } from '../tracked.ts';

export const IDENTITY_TYPE = 'Microsoft.ManagedIdentity/userAssignedIdentities';

export const userAssignedIdentities: ResourceType = Object.freeze({
  type: IDENTITY_TYPE,
  apiVersions: Object.freeze([
    '2025-05-31-preview',
    '2024-11-30',
    '2023-07-31-preview',
    '2023-01-31',
    '2022-01-31-preview',
    '2021-09-30-preview',
    '2018-11-30',
    '2015-08-31-preview',
  ]),
  kind: 'tracked',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidParameter',
  checkName(name) {
    if (/^[A-Za-z0-9][A-Za-z0-9\-_]{2,127}$/.test(name)) return undefined;
    return {
      path: 'name',
      message: `The resource name '${name}' is invalid: 3 to 128 letters, digits, hyphens and underscores, beginning with a letter or digit.`,
    };
  },
  validate(body, context) {
    const { location, tags, violations, warnings } = readTracked(body, Type.Object({}), 'identity', context);
    const properties = context.existing?.properties ?? {
      tenantId: LOCAL_TENANT,
      principalId: context.newGuid(),
      clientId: context.newGuid(),
    };
    return { resource: { location, tags, properties }, violations, warnings };
  },
} satisfies ResourceType);
