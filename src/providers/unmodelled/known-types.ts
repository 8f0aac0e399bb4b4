/**
 * Types that solutions deploy beside image templates, and that Kiln keeps without knowing them. They are in provider documents, for clients that look an
 * api-version up there (`az resource`); any other type of these namespaces, and any well-formed api-version, is taken as well.
 */

interface Known {
  /** Azure's newest stable ones, newest first. */
  readonly apiVersions: readonly string[];
  readonly types: readonly string[];
}

export const KNOWN_TYPES: Readonly<Record<string, Known>> = Object.freeze({
  'Microsoft.App': {
    apiVersions: ['2025-01-01', '2024-03-01', '2023-05-01'],
    types: ['containerApps', 'jobs', 'managedEnvironments'],
  },
  'Microsoft.AppConfiguration': {
    apiVersions: ['2024-06-01', '2023-03-01'],
    types: ['configurationStores', 'configurationStores/keyValues'],
  },
  'Microsoft.Automation': {
    apiVersions: ['2023-11-01', '2022-08-08', '2020-01-13-preview'],
    types: [
      'automationAccounts',
      ...['credentials', 'jobSchedules', 'modules', 'runbooks', 'schedules', 'variables', 'webhooks'].map(
        type => `automationAccounts/${type}`,
      ),
    ],
  },
  'Microsoft.Batch': { apiVersions: ['2024-07-01', '2023-11-01'], types: ['batchAccounts', 'batchAccounts/pools'] },
  'Microsoft.Cdn': { apiVersions: ['2024-02-01', '2023-05-01'], types: ['profiles', 'profiles/endpoints'] },
  'Microsoft.Compute': {
    apiVersions: ['2024-11-01', '2024-07-01', '2024-03-01', '2023-09-01', '2023-03-01', '2022-11-01', '2021-07-01'],
    types: [
      ...['availabilitySets', 'capacityReservationGroups', 'diskEncryptionSets', 'disks', 'hostGroups'],
      ...['hostGroups/hosts', 'proximityPlacementGroups', 'snapshots', 'sshPublicKeys', 'virtualMachines'],
      ...['virtualMachines/extensions', 'virtualMachines/runCommands', 'virtualMachineScaleSets'],
      ...['virtualMachineScaleSets/extensions', 'virtualMachineScaleSets/virtualMachines'],
      ...['galleries/applications', 'galleries/applications/versions'],
    ],
  },
  'Microsoft.ContainerInstance': {
    apiVersions: ['2023-05-01', '2022-09-01', '2021-10-01'],
    types: ['containerGroups'],
  },
  'Microsoft.ContainerRegistry': {
    apiVersions: ['2023-07-01', '2022-12-01'],
    types: ['registries', 'registries/replications', 'registries/tasks', 'registries/webhooks'],
  },
  'Microsoft.ContainerService': {
    apiVersions: ['2025-01-01', '2024-09-01', '2023-10-01'],
    types: ['managedClusters', 'managedClusters/agentPools'],
  },
  'Microsoft.DesktopVirtualization': {
    apiVersions: ['2024-04-03', '2023-09-05', '2022-09-09'],
    types: [
      ...['applicationGroups', 'applicationGroups/applications', 'hostPools', 'hostPools/sessionHosts'],
      ...['scalingPlans', 'workspaces'],
    ],
  },
  'Microsoft.DevCenter': {
    apiVersions: ['2024-02-01', '2023-04-01'],
    types: [
      ...['devcenters', 'devcenters/attachednetworks', 'devcenters/devboxdefinitions', 'devcenters/galleries'],
      ...['networkConnections', 'projects', 'projects/pools'],
    ],
  },
  'Microsoft.DevTestLab': {
    apiVersions: ['2018-09-15'],
    types: ['labs', 'labs/costs', 'labs/schedules', 'labs/virtualmachines', 'labs/virtualnetworks', 'schedules'],
  },
  'Microsoft.DocumentDB': {
    apiVersions: ['2024-11-15', '2024-05-15', '2023-11-15'],
    types: ['databaseAccounts', 'databaseAccounts/sqlDatabases', 'databaseAccounts/sqlDatabases/containers'],
  },
  'Microsoft.EventGrid': {
    apiVersions: ['2025-02-15', '2022-06-15', '2021-12-01'],
    types: [
      ...['domains', 'systemTopics', 'systemTopics/eventSubscriptions', 'topics', 'topics/eventSubscriptions'],
      ...['namespaces'],
    ],
  },
  'Microsoft.EventHub': {
    apiVersions: ['2024-01-01', '2021-11-01'],
    types: ['namespaces', 'namespaces/authorizationRules', 'namespaces/eventhubs'],
  },
  'Microsoft.Insights': {
    apiVersions: ['2023-06-01', '2022-10-01', '2021-05-01', '2020-02-02', '2018-03-01'],
    types: [
      ...['actionGroups', 'activityLogAlerts', 'autoscaleSettings', 'components', 'dataCollectionEndpoints'],
      ...['dataCollectionRules', 'metricAlerts', 'scheduledQueryRules', 'webtests', 'workbooks'],
    ],
  },
  'Microsoft.KeyVault': {
    apiVersions: ['2024-11-01', '2023-07-01', '2022-07-01', '2021-10-01', '2019-09-01'],
    types: ['vaults', 'vaults/accessPolicies', 'vaults/keys', 'vaults/secrets', 'managedHSMs'],
  },
  'Microsoft.Logic': {
    apiVersions: ['2019-05-01', '2016-06-01'],
    types: ['integrationAccounts', 'workflows'],
  },
  'Microsoft.Maintenance': {
    apiVersions: ['2023-04-01', '2021-09-01'],
    types: ['maintenanceConfigurations'],
  },
  'Microsoft.Network': {
    apiVersions: ['2024-05-01', '2024-01-01', '2023-09-01', '2022-07-01', '2021-08-01', '2020-11-01'],
    types: [
      ...['applicationGateways', 'applicationSecurityGroups', 'azureFirewalls', 'bastionHosts', 'ddosProtectionPlans'],
      ...['firewallPolicies', 'loadBalancers', 'natGateways', 'networkInterfaces', 'networkWatchers'],
      ...['privateDnsZones', 'privateDnsZones/virtualNetworkLinks', 'privateEndpoints'],
      ...['privateEndpoints/privateDnsZoneGroups', 'privateLinkServices', 'publicIPAddresses', 'publicIPPrefixes'],
      ...['routeTables', 'routeTables/routes', 'serviceEndpointPolicies', 'virtualNetworkGateways'],
      ...['virtualNetworks/virtualNetworkPeerings'],
    ],
  },
  'Microsoft.OperationalInsights': {
    apiVersions: ['2025-02-01', '2023-09-01', '2022-10-01', '2021-06-01', '2020-08-01'],
    types: ['workspaces', 'workspaces/dataSources', 'workspaces/savedSearches', 'workspaces/tables'],
  },
  'Microsoft.OperationsManagement': { apiVersions: ['2015-11-01-preview'], types: ['solutions'] },
  'Microsoft.Portal': { apiVersions: ['2020-09-01-preview'], types: ['dashboards'] },
  'Microsoft.RecoveryServices': {
    apiVersions: ['2024-04-01', '2023-06-01'],
    types: ['vaults', 'vaults/backupPolicies'],
  },
  'Microsoft.ServiceBus': {
    apiVersions: ['2024-01-01', '2022-10-01', '2021-11-01'],
    types: ['namespaces', 'namespaces/authorizationRules', 'namespaces/queues', 'namespaces/topics'],
  },
  'Microsoft.Sql': {
    apiVersions: ['2023-08-01', '2021-11-01'],
    types: ['servers', 'servers/databases', 'servers/firewallRules'],
  },
  'Microsoft.Storage': {
    apiVersions: ['2024-01-01', '2023-05-01', '2023-01-01', '2022-09-01', '2021-09-01'],
    types: [
      ...['fileServices', 'fileServices/shares', 'managementPolicies', 'queueServices', 'tableServices'].map(
        type => `storageAccounts/${type}`,
      ),
    ],
  },
  'Microsoft.Web': {
    apiVersions: ['2024-04-01', '2023-12-01', '2022-09-01', '2022-03-01', '2021-03-01'],
    types: [
      ...['certificates', 'connections', 'hostingEnvironments', 'serverfarms', 'sites', 'sites/config'],
      ...['sites/extensions', 'sites/slots', 'sites/sourcecontrols', 'staticSites'],
    ],
  },
});

/** Segments that no resource has as its type: providers answer questions there. */
const QUESTIONS = /^(locations|operations|skus|usages?|check\w+|deleted\w+|list\w*|providers)$/i;
/** And below a resource: what is computed when it is asked for. */
const COMPUTED = /^(check\w+|instanceView|list\w+|metrics|usages)$/i;
const SEGMENT = /^[A-Za-z][\w.-]{0,79}$/;

/**
 * The type in its usual casing, where resources of it may be kept; undefined for what is no type of resources, and for namespaces that Kiln knows all of.
 * `types`: untrusted.
 */
export function keepableType(namespace: string, types: readonly string[]): string | undefined {
  const known = Object.entries(KNOWN_TYPES).find(([name]) => name.toLowerCase() === namespace.toLowerCase());
  if (!known || types.length === 0) return undefined;
  if (types.some(one => !SEGMENT.test(one)) || QUESTIONS.test(types[0]!)) return undefined;
  if (types.length > 1 && COMPUTED.test(types.at(-1)!)) return undefined;
  const text = types.join('/');
  const usual = known[1].types.find(one => one.toLowerCase() === text.toLowerCase()) ?? text;
  return `${known[0]}/${usual}`;
}
