/** Features of providers, as `az feature` registers and shows them. Nothing in Kiln waits for one: all that it has is on. */
import { KilnError } from '../arm/errors.ts';
import { sameText } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import { unlocked } from '../providers/authorization/locked-scopes.ts';
import { NAMESPACES } from '../providers/registry.ts';
import { FEATURES_API_VERSIONS } from '../providers/resources/api-versions.ts';
import { featureOf, type Registration, register, subscriptionId } from '../providers/resources/subscriptions.ts';
import { getResource } from '../providers/store.ts';
import type { ArmRequest, Dispatcher, Reply } from './dispatch.ts';
import { isWord, notAllowed, requireGet, requireNamespace, requireVersion } from './request-checks.ts';

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

function featureDocument(subscription: Subscription, namespace: string, name: string): JsonObject {
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
function featureDocuments(subscription: Subscription, namespace?: string): JsonObject[] {
  const registered = Object.keys((subscription.properties.features as object | undefined) ?? {});
  const all = [...KNOWN, ...registered.filter(name => !KNOWN.some(one => one.toLowerCase() === name))];
  return all.flatMap(feature => {
    const [given, name] = feature.split('/');
    const space = NAMESPACES.find(one => one.toLowerCase() === given!.toLowerCase());
    if (!space || (namespace !== undefined && space !== namespace)) return [];
    return [featureDocument(subscription, space, name!)];
  });
}

interface FeaturePath {
  /** Missing: of all providers. */
  readonly namespace?: string;
  /** Missing: all. */
  readonly name?: string;
  readonly verb?: 'register' | 'unregister';
}

/** `…/Microsoft.Features/providers/NS/features[/F[/register]]` and `…/Microsoft.Features/features`. */
export function featurePath({ path }: ArmRequest, namespace: string): FeaturePath | undefined {
  const [first, verb, ...more] = path.types;
  if (!isWord(first, 'features') || more.length > 0) return undefined;
  const outer = path.scope.split('/').slice(3);
  if (outer.length === 0 && sameText(namespace, 'Microsoft.Features') && path.names.length === 0) return {};
  if (outer.length !== 2 || !sameText(outer.join('/'), 'providers/Microsoft.Features')) return undefined;
  const of = requireNamespace(namespace);
  const name = path.names[0];
  if (name === undefined) return { namespace: of };
  if (verb === undefined) return { namespace: of, name };
  if (isWord(verb, 'register')) return { namespace: of, name, verb: 'register' };
  if (isWord(verb, 'unregister')) return { namespace: of, name, verb: 'unregister' };
  return undefined;
}

export async function feature(
  { environment, roles }: Dispatcher,
  request: ArmRequest,
  { namespace, name, verb }: FeaturePath,
): Promise<Reply> {
  const { database } = environment;
  const id = subscriptionId(request.path.subscription!);
  requireVersion(request, FEATURES_API_VERSIONS);
  const permission = verb === undefined ? 'read' : `${verb}/action`;
  await roles.require(request.caller, `Microsoft.Features/providers/features/${permission}`, id);
  const subscription = (await getResource(database, id))!;
  if (name === undefined || verb === undefined) {
    requireGet(request);
    if (name === undefined) return { status: 200, body: { value: featureDocuments(subscription, namespace) } };
    return { status: 200, body: featureDocument(subscription, namespace!, name) };
  }
  if (request.method !== 'POST') throw notAllowed(request);
  if (!/^[\w.-]{1,100}$/.test(name))
    throw new KilnError('InvalidParameter', `'${name}' is no name of a feature.`, { target: 'featureName' });
  const state = verb === 'register' ? 'Registered' : 'Unregistered';
  const held = await unlocked(environment, id, 'write');
  const changed = await register(held.database, request.path.subscription!, 'features', `${namespace}/${name}`, state);
  return { status: 200, body: featureDocument(changed, namespace!, name) };
}
