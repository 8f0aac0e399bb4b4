/** Features of providers, as `az feature` registers and shows them. Nothing in Kiln waits for one: all that it has is on. */
import type { JsonObject } from '../arm/shape.ts';
import { NAMESPACES } from '../providers/registry.ts';
import { featureOf, type Registration } from '../providers/resources/subscriptions.ts';

/** Those that scripts about image templates ask for. */
const KNOWN: readonly string[] = Object.freeze([
  'Microsoft.VirtualMachineImages/Triggers',
  'Microsoft.VirtualMachineImages/VirtualMachineTemplatePreview',
  'Microsoft.VirtualMachineImages/FairfaxPublicPreview',
  'Microsoft.VirtualMachineImages/MooncakePublicPreview',
]);

interface Subscription {
  readonly id: string;
  readonly properties: JsonObject;
}

export function featureDocument(subscription: Subscription, namespace: string, name: string): JsonObject {
  const feature =
    KNOWN.find(one => one.toLowerCase() === `${namespace}/${name}`.toLowerCase()) ?? `${namespace}/${name}`;
  const state: Registration = featureOf(subscription.properties, feature);
  return {
    properties: { state },
    id: `${subscription.id}/providers/Microsoft.Features/providers/${namespace}/features/${feature.split('/')[1]}`,
    type: 'Microsoft.Features/providers/features',
    name: feature,
  };
}

/** The known ones and those that somebody has registered; of one provider, or of all. */
export function featureDocuments(subscription: Subscription, namespace?: string): JsonObject[] {
  const registered = Object.keys((subscription.properties.features as object | undefined) ?? {});
  const all = [...KNOWN, ...registered.filter(name => !KNOWN.some(one => one.toLowerCase() === name))];
  return all.flatMap(feature => {
    const [given, name] = feature.split('/');
    const space = NAMESPACES.find(one => one.toLowerCase() === given!.toLowerCase());
    if (!space || (namespace !== undefined && space !== namespace)) return [];
    return [featureDocument(subscription, space, name!)];
  });
}
