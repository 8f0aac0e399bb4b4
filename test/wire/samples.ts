/**
 * The least that makes a resource of each type of the registry: tests of what holds for all types are driven by it. A type that is not here fails them.
 */
import assert from 'node:assert/strict';
import type { ResourceProvider } from '../../src/providers/provider.ts';
import { PROVIDERS } from '../../src/providers/registry.ts';
import type { Answer, RequestOptions, TestServer } from '../server.ts';
import { type Ground, plainTemplate } from './ground.ts';

export interface Sample {
  /** Default: `Sample-1`. */
  readonly name?: string;
  /** Missing: callers cannot make one, Kiln does. */
  readonly body?: (ground: Ground) => object;
  /** There as long as its parent is, and never made or deleted. */
  readonly always?: true;
  /** Of a type whose making takes more than a request: the properties of one that is put into the store as it would be there. */
  readonly stored?: object;
}

const LOCATION = 'westus';
const place = () => ({ location: LOCATION });

export const SAMPLES: Readonly<Record<string, Sample>> = Object.freeze({
  'Microsoft.VirtualMachineImages/imageTemplates': { body: (ground: Ground) => plainTemplate(ground) },
  'Microsoft.VirtualMachineImages/imageTemplates/runOutputs': {},
  'Microsoft.VirtualMachineImages/imageTemplates/triggers': { body: () => ({ properties: { kind: 'SourceImage' } }) },
  'Microsoft.ManagedIdentity/userAssignedIdentities': { body: place },
  'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials': {
    body: () => ({
      properties: { issuer: 'https://issuer.example', subject: 'repo:a/b', audiences: ['api://AzureADTokenExchange'] },
    }),
  },
  'Microsoft.Compute/galleries': { name: 'Sample_1', body: place },
  'Microsoft.Compute/galleries/images': {
    body: () => ({
      location: LOCATION,
      properties: {
        osType: 'Linux',
        osState: 'Generalized',
        identifier: { publisher: 'Samples', offer: 'of', sku: 'types' },
      },
    }),
  },
  'Microsoft.Compute/galleries/images/versions': {
    name: '1.0.0',
    stored: {
      publishingProfile: {
        targetRegions: [{ name: 'West US', regionalReplicaCount: 1, storageAccountType: 'Standard_LRS' }],
        replicaCount: 1,
        excludeFromLatest: false,
        storageAccountType: 'Standard_LRS',
      },
      storageProfile: { source: {}, osDiskImage: { sizeInGB: 1, hostCaching: 'ReadWrite', source: {} } },
      provisioningState: 'Succeeded',
    },
  },
  'Microsoft.Compute/images': {
    stored: {
      storageProfile: { osDisk: { osType: 'Linux', osState: 'Generalized', diskSizeGB: 1 }, dataDisks: [] },
      hyperVGeneration: 'V1',
      provisioningState: 'Succeeded',
    },
  },
  'Microsoft.Network/virtualNetworks': {
    body: () => ({ location: LOCATION, properties: { addressSpace: { addressPrefixes: ['10.0.0.0/16'] } } }),
  },
  'Microsoft.Network/virtualNetworks/subnets': { body: () => ({ properties: { addressPrefix: '10.0.0.0/24' } }) },
  'Microsoft.Network/networkSecurityGroups': { body: place },
  'Microsoft.Network/networkSecurityGroups/securityRules': {
    body: () => ({
      properties: {
        priority: 100,
        direction: 'Inbound',
        access: 'Allow',
        protocol: 'Tcp',
        sourceAddressPrefix: '*',
        sourcePortRange: '*',
        destinationAddressPrefix: '*',
        destinationPortRange: '22',
      },
    }),
  },
  'Microsoft.Storage/storageAccounts': {
    name: 'sample1',
    body: () => ({ location: LOCATION, kind: 'StorageV2', sku: { name: 'Standard_LRS' } }),
  },
  'Microsoft.Storage/storageAccounts/blobServices': { name: 'default', always: true, body: () => ({ properties: {} }) },
  'Microsoft.Storage/storageAccounts/blobServices/containers': { name: 'sample-1', body: () => ({ properties: {} }) },
});

/** Errors: an AssertionError for a type without a sample. */
export function sampleOf({ definition, put }: ResourceProvider): Sample & { readonly writable: boolean } {
  const sample = SAMPLES[definition.type];
  assert.ok(sample, `${definition.type} has no sample in test/wire/samples.ts: add the least body that makes one.`);
  const writable = put !== undefined || definition.create !== undefined;
  assert.ok(
    !writable || sample.body || sample.stored,
    `Callers can make ${definition.type}, but its sample has no body.`,
  );
  return { ...sample, writable: writable && sample.body !== undefined };
}

/** Types that tests can go through; that there is one for each is a test of its own (casing.test.ts). */
export const SAMPLED: readonly ResourceProvider[] = PROVIDERS.filter(({ definition }) => SAMPLES[definition.type]);

export function providerOf(type: string): ResourceProvider {
  const found = PROVIDERS.find(({ definition }) => definition.type === type);
  assert.ok(found, type);
  return found;
}

const nameOf = (type: string): string => SAMPLES[type]?.name ?? 'Sample-1';

/** The id of the sample in a group; its parents are samples, too. `name`: another one beside it. */
export function sampleId(group: string, type: string, name?: string): string {
  const [namespace, ...types] = type.split('/');
  const pairs = types.map((segment, index) => {
    const own = nameOf([namespace, ...types.slice(0, index + 1)].join('/'));
    return `${segment}/${index === types.length - 1 ? (name ?? own) : own}`;
  });
  return `${group}/providers/${namespace}/${pairs.join('/')}`;
}

/** The newest api-version that is no preview. */
export function versionOf({ definition }: ResourceProvider): string {
  return definition.apiVersions.find(version => !/[a-z]$/.test(version)) ?? definition.apiVersions[0]!;
}

/** Makes a sample, and what it is a child of. @returns its id */
export async function makeSample(server: TestServer, ground: Ground, type: string, name?: string): Promise<string> {
  const provider = providerOf(type);
  const { parent } = provider.definition;
  if (parent !== undefined) await makeSample(server, ground, parent);
  const id = sampleId(ground.group, type, name);
  const apiVersion = versionOf(provider);
  if ((await server.request('GET', id, { apiVersion })).status === 200) return id;
  const { body } = sampleOf(provider);
  assert.ok(body, `${type} has no body.`);
  const made = await server.request('PUT', id, { apiVersion, body: body(ground) });
  assert.ok(made.status < 300, `${id}: ${made.status} ${made.text}`);
  await ended(server, made);
  return id;
}

/** Follows an operation to its end, where there is one. Errors: an AssertionError for one that fails. */
export async function ended(server: TestServer, answer: Answer, options?: RequestOptions): Promise<void> {
  const url = answer.headers['azure-asyncoperation'] ?? (answer.status === 202 ? answer.headers.location : undefined);
  if (typeof url !== 'string') return;
  for (let tries = 0; tries < 400; tries += 1) {
    const polled = await server.request('GET', url, options);
    const status = (polled.body as { status?: string } | undefined)?.status;
    if (polled.status !== 202 && (status === undefined || /^(Succeeded|Failed|Canceled)$/.test(status))) {
      assert.ok(polled.status < 300 && (status ?? 'Succeeded') === 'Succeeded', polled.text);
      return;
    }
    await new Promise(resolve => setTimeout(resolve, 25));
  }
  assert.fail(`The operation does not end: ${url}`);
}
