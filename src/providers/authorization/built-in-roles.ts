/** The roles that every directory has, with Azure's ids and permissions (contract 2.5; learn.microsoft.com, "Azure built-in roles"). */
import {
  CONTRIBUTOR,
  MANAGED_IDENTITY_OPERATOR,
  OWNER,
  READER,
  STORAGE_BLOB_DATA_CONTRIBUTOR,
  STORAGE_BLOB_DATA_READER,
  USER_ACCESS_ADMINISTRATOR,
} from '../../arm/role-ids.ts';
import type { Permission } from '../../database/schema.ts';

export interface RoleDefinition {
  /** A GUID in lower case. */
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly permissions: readonly Permission[];
}

const role = (id: string, name: string, description: string, permission: Partial<Permission>): RoleDefinition =>
  Object.freeze({
    id,
    name,
    description,
    permissions: [{ actions: [], notActions: [], dataActions: [], notDataActions: [], ...permission }],
  });

const BLOBS = 'Microsoft.Storage/storageAccounts/blobServices/containers';

export const BUILT_IN_ROLES: readonly RoleDefinition[] = Object.freeze([
  role(
    OWNER,
    'Owner',
    'Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.',
    { actions: ['*'] },
  ),
  role(
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
  role(READER, 'Reader', 'View all resources, but does not allow you to make any changes.', { actions: ['*/read'] }),
  role(USER_ACCESS_ADMINISTRATOR, 'User Access Administrator', 'Lets you manage user access to Azure resources.', {
    actions: ['*/read', 'Microsoft.Authorization/*', 'Microsoft.Support/*'],
  }),
  role(MANAGED_IDENTITY_OPERATOR, 'Managed Identity Operator', 'Read and Assign User Assigned Identity', {
    actions: [
      'Microsoft.ManagedIdentity/userAssignedIdentities/*/read',
      'Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action',
      'Microsoft.Authorization/*/read',
      'Microsoft.Insights/alertRules/*',
      'Microsoft.Resources/subscriptions/resourceGroups/read',
      'Microsoft.Resources/deployments/*',
      'Microsoft.Support/*',
    ],
  }),
  role(
    STORAGE_BLOB_DATA_READER,
    'Storage Blob Data Reader',
    'Allows for read access to Azure Storage blob containers and data',
    {
      actions: [`${BLOBS}/read`, 'Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action'],
      dataActions: [`${BLOBS}/blobs/read`],
    },
  ),
  role(
    STORAGE_BLOB_DATA_CONTRIBUTOR,
    'Storage Blob Data Contributor',
    'Allows for read, write and delete access to Azure Storage blob containers and data',
    {
      actions: [
        `${BLOBS}/delete`,
        `${BLOBS}/read`,
        `${BLOBS}/write`,
        'Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action',
      ],
      dataActions: [
        `${BLOBS}/blobs/delete`,
        `${BLOBS}/blobs/read`,
        `${BLOBS}/blobs/write`,
        `${BLOBS}/blobs/move/action`,
        `${BLOBS}/blobs/add/action`,
      ],
    },
  ),
]);

export function builtInRole(id: string): RoleDefinition | undefined {
  return BUILT_IN_ROLES.find(one => one.id === id.toLowerCase());
}
