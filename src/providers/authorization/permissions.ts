/** Microsoft.Authorization/permissions: what the caller may do at a scope, as portals and SDKs ask for it. */
import { readPermissions } from './grants.ts';
import { namedItems } from './named-items.ts';
import { requireScope } from './scope.ts';

export const permissions = namedItems({
  type: 'permissions',
  apiVersions: Object.freeze([
    ...['2022-05-01-preview', '2022-04-01', '2018-07-01', '2018-01-01-preview', '2015-07-01', '2015-06-01'],
  ]),
  async list({ environment, caller, scope }) {
    await requireScope(environment.database, scope);
    const found = await readPermissions(environment.database, caller.objectId, scope);
    return found.map(one => ({ ...one }));
  },
});
