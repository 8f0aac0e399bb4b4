/** Microsoft.Resources/resourceGroups: a name and a location for what belongs together (contract 2.2). */
import { Type } from '@sinclair/typebox';
import { RESOURCE_GROUP_TYPE } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import { isObject } from '../../arm/shape.ts';
import { readTracked } from '../tracked.ts';
import { RESOURCES_API_VERSIONS } from './api-versions.ts';

export const resourceGroups: ResourceType = Object.freeze({
  type: RESOURCE_GROUP_TYPE,
  apiVersions: RESOURCES_API_VERSIONS,
  kind: 'tracked',
  create: 'at once',
  delete: 'operation',
  violationCode: 'InvalidParameter',
  checkName(name) {
    const bad = /[^-\w.()]/u.exec(name)?.[0];
    if (bad !== undefined)
      return {
        path: 'name',
        message: `The provided resource group name '${name}' has these invalid characters: '${bad}'. The name can only be a letter, digit, '-', '.', '(', ')' or '_'.`,
      };
    if (name.endsWith('.'))
      return {
        path: 'name',
        message: `The provided resource name '${name}' has these invalid trailing characters: '.'. The name can not end with characters: '.'`,
      };
    if (name.length > 90)
      return {
        path: 'name',
        message: `The provided resource group name '${name}' has ${name.length} characters; it can have 90.`,
      };
    return undefined;
  },
  validate(body, context) {
    const { location, tags, violations, warnings } = readTracked(body, Type.Object({}), 'resourceGroup', context);
    const managedBy = isObject(body) && typeof body.managedBy === 'string' ? { managedBy: body.managedBy } : {};
    const properties = { provisioningState: 'Succeeded', ...managedBy };
    return { resource: { location, tags, properties }, violations, warnings };
  },
} satisfies ResourceType);
