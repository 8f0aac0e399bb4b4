/** Which resource, list or action of a type a path names, and the provider that answers for it. */
import { KilnError } from '../arm/errors.ts';
import { type ResourceId, sameText } from '../arm/ids.ts';
import type { ResourceProvider } from '../providers/provider.ts';
import { PROVIDERS } from '../providers/registry.ts';
import { keepableType } from '../providers/unmodelled/known-types.ts';
import { unmodelledAction, unmodelledProvider } from '../providers/unmodelled/provider.ts';
import type { ArmPath } from './request-path.ts';

export type Target =
  | { readonly kind: 'resource'; readonly provider: ResourceProvider; readonly id: ResourceId }
  | { readonly kind: 'collection'; readonly provider: ResourceProvider; readonly scope: string }
  | {
      readonly kind: 'action';
      readonly provider: ResourceProvider;
      readonly id: ResourceId;
      readonly action: string;
    };

/** Errors: InvalidResourceType, and that of unmodelledAction. */
export function findTarget(namespace: string, path: ArmPath, method: string, apiVersion?: string): Target {
  const find = (types: readonly string[]) =>
    PROVIDERS.find(one => sameText(one.definition.type, [namespace, ...types].join('/')));
  const { subscription, resourceGroup, types, names } = path;
  if (subscription !== undefined && path.scope.split('/').length === (resourceGroup === undefined ? 3 : 5)) {
    const idFor = (provider: ResourceProvider): ResourceId => ({
      subscription,
      ...(resourceGroup !== undefined && { resourceGroup }),
      type: provider.definition.type,
      names: names.slice(0, provider.definition.type.split('/').length - 1),
      name: names[provider.definition.type.split('/').length - 2] ?? '',
    });
    const exact = find(types);
    // Resources live in groups; subscriptions only list them.
    if (exact && types.length === names.length && resourceGroup !== undefined)
      return { kind: 'resource', provider: exact, id: idFor(exact) };
    if (exact && types.length === names.length + 1) return { kind: 'collection', provider: exact, scope: path.scope };
    const owner = find(types.slice(0, -1));
    const known = Object.keys(owner?.actions ?? {}).some(one => sameText(one, types.at(-1)!));
    // What no provider answers for may be kept all the same (unmodelled/): resources, their lists, but not what somebody wants done with them.
    const kept = known ? undefined : keepableType(namespace, types);
    if (kept !== undefined && types.length === names.length && resourceGroup !== undefined) {
      const provider = unmodelledProvider(kept, apiVersion);
      return { kind: 'resource', provider, id: idFor(provider) };
    }
    if (kept !== undefined && types.length === names.length + 1 && method === 'GET')
      return { kind: 'collection', provider: unmodelledProvider(kept, apiVersion), scope: path.scope };
    if (owner && types.length === names.length + 1 && types.length > 1 && resourceGroup !== undefined)
      return { kind: 'action', provider: owner, id: idFor(owner), action: types.at(-1)! };
    const keptOwner = owner ? undefined : keepableType(namespace, types.slice(0, -1));
    if (keptOwner !== undefined && types.length === names.length + 1) throw unmodelledAction(keptOwner, types.at(-1)!);
  }
  const versions = PROVIDERS.find(one => one.definition.type.startsWith(`${namespace}/`))?.definition.apiVersions ?? [];
  const type = types.join('/');
  const supported = versions.length > 0 ? ` The supported api-versions are '${versions.join(', ')}'.` : '';
  throw new KilnError(
    'InvalidResourceType',
    `The resource type '${type}' could not be found in the namespace '${namespace}'.${supported}`,
    sameText(`${namespace}/${types[0]}`, 'Microsoft.Resources/deployments')
      ? {
          hint: 'Kiln has no deployments (ARM templates, Bicep) yet: create the resources one by one, with az or by PUT.',
        }
      : {},
  );
}
