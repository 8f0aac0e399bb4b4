/** A subnet as it goes over the wire: on its own and in its network the same. */
import { isSince } from '../../arm/api-versions.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import type { StoredResource } from '../store.ts';
import { weakTag } from './changes.ts';

/** What a service that a subnet is delegated to may do there. */
const ACTIONS = Object.freeze(['Microsoft.Network/virtualNetworks/subnets/action']);

export function shownSubnet(subnet: StoredResource, apiVersion: string): JsonObject {
  const { delegations, defaultOutboundAccess, sharingScope, ...properties } = subnet.properties;
  const etag = weakTag(subnet);
  return {
    etag,
    properties: {
      ...properties,
      delegations: (Array.isArray(delegations) ? delegations : []).filter(isObject).map(({ name, serviceName }) => ({
        name,
        id: `${subnet.id}/delegations/${name}`,
        etag,
        type: `${subnet.type}/delegations`,
        properties: { provisioningState: 'Succeeded', serviceName, actions: ACTIONS },
      })),
      ...(isSince(apiVersion, NEW_SINCE) && {
        ...(defaultOutboundAccess !== undefined && { defaultOutboundAccess }),
        ...(sharingScope !== undefined && { sharingScope }),
      }),
    },
  };
}

const NEW_SINCE = '2023-09-01';
