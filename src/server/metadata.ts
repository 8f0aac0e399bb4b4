/** Where everything is: the documents by which `az cloud register`, Terraform and PowerShell come to know a cloud (az-wire 1.3). */
import type { FastifyInstance } from 'fastify';
import { checkApiVersion } from '../arm/api-versions.ts';
import { KilnError } from '../arm/errors.ts';
import { MANAGEMENT_RESOURCE } from '../directory/audiences.ts';
import { ALIASES, type CatalogueEntry, ENTRIES } from '../images/catalogue/entries.ts';
import type { SignInOptions } from './sign-in.ts';

/** What clients call this cloud. */
export const CLOUD_NAME = 'Kiln';

/** Newest first; the first three give one object, the next two a list of it, the oldest a form of its own. */
const VERSIONS = ['2023-12-01', '2023-11-01', '2022-09-01', '2020-06-01', '2019-05-01', '2015-01-01'];

export async function metadataRoutes(app: FastifyInstance, { directory, origin }: SignInOptions): Promise<void> {
  app.get('/metadata/endpoints', async request => {
    const asked = (request.query as Record<string, unknown>)['api-version'];
    if (typeof asked !== 'string' || asked === '')
      throw new KilnError(
        'MissingApiVersionParameter',
        'The api-version query parameter (?api-version=) is required for all requests.',
      );
    const version = checkApiVersion(asked, VERSIONS, 'Microsoft.Resources/endpoints');
    if (version === '2015-01-01') return oldEndpoints(origin());
    const cloud = endpoints(origin(), directory.tenantId);
    return version < '2022' ? [cloud] : cloud;
  });
  app.get('/metadata/az-cloud-config', async () => azCloudConfig(origin()));
  app.get('/aliases.json', async () => aliasDocument());
}

/** Names below which accounts and vaults would be found: an IP address has none, so its loopback name stands in. */
function suffixHost(origin: string): string {
  const { hostname, port } = new URL(origin);
  const host = /^127\.|^\[::1\]$/.test(hostname) ? 'localhost' : hostname;
  return port === '' ? host : `${host}:${port}`;
}

/** Libraries know the account of a host, and that its path begins with a container, by `.blob.core.` alone; `ACCOUNT.blob.localhost` is answered as well. */
const storageSuffix = (origin: string): string => `core.${suffixHost(origin)}`;

/** The authority ends in /adfs: no library then looks for Azure's own list of clouds (az-wire 1.2). */
const authority = (origin: string) => `${origin}/adfs`;

function oldEndpoints(origin: string) {
  return {
    galleryEndpoint: `${origin}/`,
    graphEndpoint: `${origin}/`,
    portalEndpoint: `${origin}/`,
    authentication: { loginEndpoint: authority(origin), audiences: [MANAGEMENT_RESOURCE] },
  };
}

function endpoints(origin: string, tenantId: string) {
  const host = suffixHost(origin);
  const { hostname } = new URL(`https://${host}`);
  return {
    name: CLOUD_NAME,
    portal: origin,
    authentication: {
      loginEndpoint: authority(origin),
      audiences: [MANAGEMENT_RESOURCE, origin],
      tenant: tenantId,
      identityProvider: 'ADFS',
    },
    resourceManager: `${origin}/`,
    graphAudience: `${origin}/`,
    graph: `${origin}/`,
    microsoftGraphResourceId: `${origin}/`,
    vmImageAliasDoc: `${origin}/aliases.json`,
    gallery: `${origin}/`,
    batch: origin,
    media: origin,
    sqlManagement: origin,
    activeDirectoryDataLake: origin,
    logAnalyticsResourceId: origin,
    appInsightsResourceId: origin,
    attestationResourceId: origin,
    synapseAnalyticsResourceId: origin,
    suffixes: {
      storage: storageSuffix(origin),
      keyVaultDns: `vault.${hostname}`,
      sqlServerHostname: `database.${hostname}`,
      acrLoginServer: `azurecr.${hostname}`,
    },
  };
}

/** What `az cloud register --cloud-config` takes, in every version of az. */
export function azCloudConfig(origin: string) {
  const host = suffixHost(origin);
  return {
    endpoints: {
      management: `${origin}/`,
      resourceManager: origin,
      activeDirectory: authority(origin),
      activeDirectoryResourceId: MANAGEMENT_RESOURCE,
      activeDirectoryGraphResourceId: `${origin}/`,
      microsoftGraphResourceId: `${origin}/`,
      vmImageAliasDoc: `${origin}/aliases.json`,
      gallery: `${origin}/`,
    },
    suffixes: { storageEndpoint: storageSuffix(origin), keyvaultDns: `.vault.${new URL(`https://${host}`).hostname}` },
  };
}

/** Short names of images (`az vm create --image Ubuntu2204`), of what the catalogue has. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  Ubuntu2204: 'Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2',
  Ubuntu2404: 'Canonical:ubuntu-24_04-lts:server',
  Debian11: 'Debian:debian-11:11-gen2',
  Debian12: 'Debian:debian-12:12-gen2',
  UbuntuLTS: 'Canonical:UbuntuServer:18.04-LTS',
  CentOS85Gen2: 'OpenLogic:CentOS:8_5-gen2',
};

function aliasDocument() {
  const known = ({ publisher, offer, sku }: Pick<CatalogueEntry, 'publisher' | 'offer' | 'sku'>) =>
    [...ENTRIES, ...ALIASES].some(
      one => one.publisher === publisher && one.offer === offer && (one.sku === sku || one.sku === '*'),
    );
  const linux = Object.entries(SHORT_NAMES).flatMap(([name, image]) => {
    const [publisher = '', offer = '', sku = ''] = image.split(':');
    return known({ publisher, offer, sku })
      ? [[name, { publisher, offer, sku, version: 'latest', architecture: 'x64' }] as const]
      : [];
  });
  return {
    $schema: 'http://schema.management.azure.com/schemas/2015-01-01/deploymentTemplate.json',
    contentVersion: '1.0.0.0',
    parameters: {},
    variables: {},
    resources: [],
    outputs: { aliases: { type: 'object', value: { Linux: Object.fromEntries(linux) } } },
  };
}
