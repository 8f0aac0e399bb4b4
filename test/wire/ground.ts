/** What templates of the wire tests stand on: a group, an identity that may write into it, a gallery with a definition. All made over HTTP. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CONTRIBUTOR } from '../../src/arm/role-ids.ts';
import { SUBSCRIPTION, type TestServer } from '../server.ts';

export interface Ground {
  /** `/subscriptions/S/resourceGroups/G`. */
  readonly group: string;
  readonly identityId: string;
  readonly definitionId: string;
  /** The path of a template. */
  template(name: string): string;
}

export const TEMPLATES = 'providers/Microsoft.VirtualMachineImages/imageTemplates';
export const NEWEST = '2025-10-01';

export async function makeGround(server: TestServer, name: string): Promise<Ground> {
  const group = `/subscriptions/${SUBSCRIPTION}/resourceGroups/${name}`;
  const put = async (path: string, apiVersion: string, body: object) => {
    const answer = await server.request('PUT', path, { apiVersion, body });
    assert.ok(answer.status === 200 || answer.status === 201, `${path}: ${answer.status} ${answer.text}`);
    return answer.body as { properties: Record<string, string> };
  };
  const location = 'westus';
  await put(group, '2021-04-01', { location });
  const identityId = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder`;
  const identity = await put(identityId, '2023-01-31', { location });
  const roleDefinitionId = `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/${CONTRIBUTOR}`;
  await put(`${group}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`, '2022-04-01', {
    properties: {
      roleDefinitionId,
      principalId: identity.properties.principalId,
      principalType: 'ServicePrincipal',
    },
  });
  const gallery = `${group}/providers/Microsoft.Compute/galleries/gallery`;
  await put(gallery, '2023-07-03', { location });
  const definitionId = `${gallery}/images/definition`;
  await put(definitionId, '2023-07-03', {
    location,
    properties: {
      osType: 'Linux',
      osState: 'Generalized',
      hyperVGeneration: 'V1',
      identifier: { publisher: 'p', offer: 'o', sku: name },
    },
  });
  return { group, identityId, definitionId, template: template => `${group}/${TEMPLATES}/${template}` };
}

/** A template without scripts, which is provisioned in no time. */
export function plainTemplate({ group, identityId }: Ground, more: object = {}): object {
  return {
    location: 'westus',
    identity: { type: 'UserAssigned', userAssignedIdentities: { [identityId]: {} } },
    properties: {
      source: {
        type: 'PlatformImage',
        publisher: 'Canonical',
        offer: 'UbuntuServer',
        sku: '18.04-LTS',
        version: 'latest',
      },
      customize: [{ type: 'Shell', name: 'hello', inline: ['echo hello'] }],
      distribute: [
        {
          type: 'ManagedImage',
          runOutputName: 'out',
          imageId: `${group}/providers/Microsoft.Compute/images/out`,
          location: 'westus',
        },
      ],
    },
    ...more,
  };
}
