/** The roles that every directory has, with Azure's ids and permissions (contract 2.5; learn.microsoft.com, "Azure built-in roles"). */
import { CONTRIBUTOR, OWNER, READER, USER_ACCESS_ADMINISTRATOR } from '../../arm/role-ids.ts';
import { RESOURCE_ROLES } from './resource-roles.ts';
import { type RoleDefinition, roleOf } from './role.ts';

export type { RoleDefinition } from './role.ts';

export const BUILT_IN_ROLES: readonly RoleDefinition[] = Object.freeze([
  roleOf(
    OWNER,
    'Owner',
    'Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.',
    { actions: ['*'] },
  ),
  roleOf(
    CONTRIBUTOR,
    'Contributor',
    'Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC, manage assignments in Azure Blueprints, or share image galleries.',
    {
      actions: ['*'],
      notActions: [
        'Microsoft.Authorization/*/Delete',
        'Microsoft.Authorization/*/Write',
        'Microsoft.Authorization/elevateAccess/Action',
        'Microsoft.Blueprint/blueprintAssignments/write',
        'Microsoft.Blueprint/blueprintAssignments/delete',
        'Microsoft.Compute/galleries/share/action',
        'Microsoft.Purview/consents/write',
        'Microsoft.Purview/consents/delete',
        'Microsoft.Resources/deploymentStacks/manageDenySetting/action',
        'Microsoft.Subscription/cancel/action',
        'Microsoft.Subscription/enable/action',
      ],
    },
  ),
  roleOf(READER, 'Reader', 'View all resources, but does not allow you to make any changes.', { actions: ['*/read'] }),
  roleOf(USER_ACCESS_ADMINISTRATOR, 'User Access Administrator', 'Lets you manage user access to Azure resources.', {
    actions: ['*/read', 'Microsoft.Authorization/*', 'Microsoft.Support/*'],
  }),
  roleOf(
    'f58310d9-a9f6-439a-9e8d-f62e7b41a168',
    'Role Based Access Control Administrator',
    'Manage access to Azure resources by assigning roles using Azure RBAC. This role does not allow you to manage access using other ways, such as Azure Policy.',
    {
      actions: [
        'Microsoft.Authorization/roleAssignments/write',
        'Microsoft.Authorization/roleAssignments/delete',
        '*/read',
        'Microsoft.Support/*',
      ],
    },
  ),
  roleOf(
    '4a9ae827-6dc8-4573-8ac7-8239d42aa03f',
    'Tag Contributor',
    'Lets you manage tags on entities, without providing access to the entities themselves.',
    {
      actions: [
        'Microsoft.Authorization/*/read',
        'Microsoft.Insights/alertRules/*',
        'Microsoft.Resources/deployments/*',
        'Microsoft.Resources/subscriptions/resourceGroups/read',
        'Microsoft.Resources/subscriptions/resourceGroups/resources/read',
        'Microsoft.Resources/subscriptions/resources/read',
        'Microsoft.Resources/tags/*',
        'Microsoft.Support/*',
      ],
    },
  ),
  roleOf('28bf596f-4eb7-45ce-b5bc-6cf482fec137', 'Locks Contributor', 'Can Manage Locks Operations.', {
    actions: [
      'Microsoft.Authorization/locks/read',
      'Microsoft.Authorization/locks/write',
      'Microsoft.Authorization/locks/delete',
    ],
  }),
  ...RESOURCE_ROLES,
]);

export function builtInRole(id: string): RoleDefinition | undefined {
  return BUILT_IN_ROLES.find(one => one.id === id.toLowerCase());
}
