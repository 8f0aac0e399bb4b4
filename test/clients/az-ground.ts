/** What a template needs before it can be made, by az: a group, an identity, and a role for it. */
import { randomUUID } from 'node:crypto';
import { LOCAL_SUBSCRIPTION } from '../../src/arm/ids.ts';
import type { Az } from './az.ts';
import { GROUP, GROUP_ID, IDENTITY, LOCATION } from './templates.ts';

/** Azure's own id of the built-in role. */
export const CONTRIBUTOR = 'b24988ac-6180-42a0-ab88-20f7382dd24c';

/** Group, identity, Contributor of the identity on the group. @returns the identity's principal */
export async function layGround(az: Az): Promise<string> {
  await az.json('group', 'create', '-n', GROUP, '-l', LOCATION);
  const { principalId } = await az.json('identity', 'create', '-g', GROUP, '-n', IDENTITY);
  await assignRole(az, principalId, GROUP_ID);
  return principalId;
}

/** `az role assignment` of Debian's 2.45 fails before it sends anything (its libraries do not fit it): people use `az rest`. */
export async function assignRole(az: Az, principalId: string, scope: string, role = CONTRIBUTOR): Promise<void> {
  const properties = {
    roleDefinitionId: `/subscriptions/${LOCAL_SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${role}`,
    principalId,
    principalType: 'ServicePrincipal',
  };
  const url = `${scope}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}?api-version=2020-04-01-preview`;
  await az.json('rest', '--method', 'put', '--url', url, '--body', JSON.stringify({ properties }));
}
