/**
 * Built-in roles for one kind of resource, as far as image builders meet them (learn.microsoft.com, "Azure built-in roles"). Of Virtual Machine Contributor the
 * actions of backup services, which Kiln does not have, are left out.
 */
import {
  MANAGED_IDENTITY_OPERATOR,
  STORAGE_BLOB_DATA_CONTRIBUTOR,
  STORAGE_BLOB_DATA_READER,
} from '../../arm/role-ids.ts';
import { type RoleDefinition, roleOf } from './role.ts';

const IDENTITIES = 'Microsoft.ManagedIdentity/userAssignedIdentities';
const ACCOUNTS = 'Microsoft.Storage/storageAccounts';
const CONTAINERS = `${ACCOUNTS}/blobServices/containers`;
const BLOBS = `${CONTAINERS}/blobs`;
const DELEGATION_KEY = `${ACCOUNTS}/blobServices/generateUserDelegationKey/action`;
const GROUP_READ = 'Microsoft.Resources/subscriptions/resourceGroups/read';
/** What the roles for one kind of resource have in common. */
const AROUND = [
  'Microsoft.Authorization/*/read',
  'Microsoft.Insights/alertRules/*',
  'Microsoft.Resources/deployments/*',
  GROUP_READ,
];
const SUPPORT = 'Microsoft.Support/*';
const HEALTH = 'Microsoft.ResourceHealth/availabilityStatuses/read';

const IDENTITY_ROLES = [
  roleOf(MANAGED_IDENTITY_OPERATOR, 'Managed Identity Operator', 'Read and Assign User Assigned Identity', {
    actions: [`${IDENTITIES}/*/read`, `${IDENTITIES}/*/assign/action`, ...AROUND, SUPPORT],
  }),
  roleOf(
    'e40ec5ca-96e0-45a2-b4ff-59039f2c2b59',
    'Managed Identity Contributor',
    'Create, Read, Update, and Delete User Assigned Identity',
    {
      actions: [
        ...['read', 'write', 'delete'].flatMap(verb => [
          `${IDENTITIES}/${verb}`,
          `${IDENTITIES}/federatedIdentityCredentials/${verb}`,
        ]),
        `${IDENTITIES}/revokeTokens/action`,
        ...AROUND,
        SUPPORT,
      ],
    },
  ),
];

const STORAGE_ROLES = [
  roleOf(
    '17d1049b-9a84-46fb-8f53-869881c3d3ab',
    'Storage Account Contributor',
    'Lets you manage storage accounts, including accessing storage account keys which provide full access to storage account data.',
    {
      actions: [
        ...AROUND,
        'Microsoft.Insights/diagnosticSettings/*',
        'Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action',
        HEALTH,
        `${ACCOUNTS}/*`,
        SUPPORT,
      ],
    },
  ),
  roleOf(
    '81a9662b-bebf-436f-a333-f67b29880f12',
    'Storage Account Key Operator Service Role',
    'Storage Account Key Operators are allowed to list and regenerate keys on Storage Accounts',
    { actions: [`${ACCOUNTS}/listkeys/action`, `${ACCOUNTS}/regeneratekey/action`] },
  ),
  roleOf(
    'c12c1c16-33a1-487b-954d-41c89c60f349',
    'Reader and Data Access',
    'Lets you view everything but will not let you delete or create a storage account or contained resource. It will also allow read/write access to all data contained in a storage account via access to storage account keys.',
    { actions: [`${ACCOUNTS}/listKeys/action`, `${ACCOUNTS}/ListAccountSas/action`, `${ACCOUNTS}/read`] },
  ),
  roleOf(
    'b7e6dc6d-f1e8-4753-8033-0f276bb0955b',
    'Storage Blob Data Owner',
    'Allows for full access to Azure Storage blob containers and data, including assigning POSIX access control.',
    { actions: [`${CONTAINERS}/*`, DELEGATION_KEY], dataActions: [`${BLOBS}/*`] },
  ),
  roleOf(
    STORAGE_BLOB_DATA_CONTRIBUTOR,
    'Storage Blob Data Contributor',
    'Allows for read, write and delete access to Azure Storage blob containers and data',
    {
      actions: [`${CONTAINERS}/delete`, `${CONTAINERS}/read`, `${CONTAINERS}/write`, DELEGATION_KEY],
      dataActions: [
        `${BLOBS}/delete`,
        `${BLOBS}/read`,
        `${BLOBS}/write`,
        `${BLOBS}/move/action`,
        `${BLOBS}/add/action`,
      ],
    },
  ),
  roleOf(
    STORAGE_BLOB_DATA_READER,
    'Storage Blob Data Reader',
    'Allows for read access to Azure Storage blob containers and data',
    { actions: [`${CONTAINERS}/read`, DELEGATION_KEY], dataActions: [`${BLOBS}/read`] },
  ),
  roleOf(
    'db58b8e5-c6ad-4a2a-8342-4190687cbf4a',
    'Storage Blob Delegator',
    'Allows for generation of a user delegation key which can be used to sign SAS tokens',
    { actions: [DELEGATION_KEY] },
  ),
];

const COMPUTE_ROLES = [
  roleOf(
    '85a2d0d9-2eba-4c9c-b355-11c2cc0788ab',
    'Compute Gallery Artifacts Publisher',
    'This is the role for publishing gallery artifacts.',
    {
      actions: [
        'Microsoft.Compute/galleries/*',
        'Microsoft.Compute/locations/capsOperations/read',
        'Microsoft.Compute/locations/communityGalleries/*',
        'Microsoft.Compute/locations/sharedGalleries/*',
        'Microsoft.Compute/images/*',
        'Microsoft.Compute/virtualMachines/write',
        'Microsoft.Compute/disks/write',
        ...AROUND,
      ],
      notActions: ['Microsoft.Compute/galleries/share/action'],
    },
  ),
  roleOf(
    'cf7c76d2-98a3-4358-a134-615aa78bf44d',
    'Compute Gallery Image Reader',
    'This is the role for reading gallery images.',
    { actions: ['Microsoft.Compute/galleries/images/read', 'Microsoft.Compute/galleries/images/versions/read'] },
  ),
  roleOf(
    '1ef6a3be-d0ac-425d-8c01-acb62866290b',
    'Compute Gallery Sharing Admin',
    'This role allows user to share gallery to another subscription/tenant or share it to the public.',
    { actions: ['Microsoft.Compute/galleries/share/action'] },
  ),
  roleOf(
    '9980e02c-c2be-4d73-94e8-173b1dc7cf3c',
    'Virtual Machine Contributor',
    "Lets you manage virtual machines, but not access to them, and not the virtual network or storage account they're connected to.",
    {
      actions: [
        ...AROUND,
        ...['availabilitySets', 'locations', 'virtualMachines', 'virtualMachineScaleSets'].map(
          type => `Microsoft.Compute/${type}/*`,
        ),
        ...['write', 'read', 'delete'].map(verb => `Microsoft.Compute/disks/${verb}`),
        'Microsoft.DevTestLab/schedules/*',
        'Microsoft.Network/applicationGateways/backendAddressPools/join/action',
        ...['backendAddressPools', 'inboundNatPools', 'inboundNatRules', 'probes'].map(
          part => `Microsoft.Network/loadBalancers/${part}/join/action`,
        ),
        'Microsoft.Network/loadBalancers/read',
        'Microsoft.Network/locations/*',
        'Microsoft.Network/networkInterfaces/*',
        'Microsoft.Network/networkSecurityGroups/join/action',
        'Microsoft.Network/networkSecurityGroups/read',
        'Microsoft.Network/publicIPAddresses/join/action',
        'Microsoft.Network/publicIPAddresses/read',
        'Microsoft.Network/virtualNetworks/read',
        'Microsoft.Network/virtualNetworks/subnets/join/action',
        HEALTH,
        'Microsoft.SqlVirtualMachine/*',
        `${ACCOUNTS}/listKeys/action`,
        `${ACCOUNTS}/read`,
        SUPPORT,
      ],
    },
  ),
];

const NETWORK_ROLES = [
  roleOf(
    '4d97b98b-1d4f-4787-a291-c67834d212e7',
    'Network Contributor',
    'Lets you manage networks, but not access to them.',
    { actions: [...AROUND, 'Microsoft.Network/*', HEALTH, SUPPORT] },
  ),
];

export const RESOURCE_ROLES: readonly RoleDefinition[] = Object.freeze([
  ...IDENTITY_ROLES,
  ...STORAGE_ROLES,
  ...COMPUTE_ROLES,
  ...NETWORK_ROLES,
]);
