/** Resources as they go over the wire: in the order of the real service, in its casing of ids. */
import type { Resource } from '../arm/resource-type.ts';
import type { JsonObject } from '../arm/shape.ts';
import type { Call, ResourceProvider } from '../providers/provider.ts';

/** What a client sends back in If-Match. */
export const taggedBy = (resource: { readonly etag?: string }, weak = false): Record<string, string> =>
  resource.etag === undefined ? {} : { etag: `${weak ? 'W/' : ''}"${resource.etag}"` };

export async function shown(provider: ResourceProvider, resource: Resource, call: Call): Promise<JsonObject> {
  const body: JsonObject = provider.show
    ? await provider.show(resource, call)
    : {
        ...(resource.identity && { identity: resource.identity }),
        ...(resource.location !== undefined && { location: resource.location }),
        ...(provider.definition.kind === 'tracked' && { tags: resource.tags ?? {} }),
        properties: resource.properties,
      };
  const id =
    provider.groupSegment === 'resourcegroups'
      ? resource.id.replace('/resourceGroups/', '/resourcegroups/')
      : resource.id;
  return { ...body, id, name: resource.name, type: resource.type };
}
