/** GET /providers/NS/operations, and the same as `az provider operation` reads it: the actions that roles can name. */
import { isSince } from '../arm/api-versions.ts';
import { sameText } from '../arm/ids.ts';
import type { JsonObject } from '../arm/shape.ts';
import { EXTENSIONS, NAMESPACES, PROVIDERS } from '../providers/registry.ts';
import { PROVIDER_OPERATIONS_API_VERSIONS } from '../providers/resources/api-versions.ts';
import type { ArmRequest, Reply } from './dispatch.ts';
import { isWord, requireGet, requireNamespace, requireVersion } from './request-checks.ts';

interface Operation {
  readonly name: string;
  readonly display: {
    readonly provider: string;
    readonly operation: string;
    readonly resource?: string;
    readonly description: string;
  };
  /** Image Builder says it since 2020-02-14. */
  readonly isDataAction?: boolean;
}

export function operationsOf(namespace: string, apiVersion: string): Operation[] {
  if (sameText(namespace, IMAGE_BUILDER))
    return IMAGE_BUILDER_OPERATIONS.filter(([, , , since]) => since === undefined || isSince(apiVersion, since))
      .map(([name, operation, resource]) => entry(IMAGE_BUILDER, PROVIDER, name, operation, resource))
      .map(({ isDataAction, ...rest }) => ({ ...rest, ...(isSince(apiVersion, STABLE_SINCE) && { isDataAction }) }));
  const types = [
    ...PROVIDERS.filter(({ definition }) => sameText(definition.type.split('/')[0]!, namespace)).flatMap(provider => {
      const { definition, actions = {}, put, remove } = provider;
      const verbs = [
        'read',
        ...(put || definition.create ? ['write'] : []),
        ...(remove || definition.delete ? ['delete'] : []),
        ...Object.values(actions).map(({ permission }) => permission),
      ];
      return verbs.map(verb => [definition.type.split('/').slice(1).join('/'), verb] as const);
    }),
    ...EXTENSIONS.filter(one => sameText(one.namespace, namespace)).flatMap(one => {
      const methods = ['GET', 'PUT', 'DELETE'] as const;
      const verbs = new Set(methods.map(method => one.permission({ method, segments: ['name'] })));
      return [...verbs].map(verb => [one.type, verb] as const);
    }),
  ];
  const core = CORE.filter(([space]) => sameText(space, namespace)).map(([, type, verb]) => [type, verb] as const);
  return [...types, ...core].map(([type, verb]) =>
    entry(namespace, namespace, `${type}/${verb}`, `${WORDS[verb] ?? verb} ${type}`, type),
  );
}

/** What core.ts asks for. */
const CORE: readonly (readonly [namespace: string, type: string, verb: string])[] = Object.freeze([
  ...['read', 'resources/read', 'locations/read', 'providers/read', 'operationresults/read'].map(
    one => ['Microsoft.Resources', 'subscriptions', one] as const,
  ),
  ...['read', 'write', 'delete', 'resources/read', 'moveResources/action', 'validateMoveResources/action'].map(
    one => ['Microsoft.Resources', 'subscriptions/resourceGroups', one] as const,
  ),
  ...['read', 'write', 'delete'].flatMap(one => [
    ['Microsoft.Resources', 'subscriptions/tagNames', one] as const,
    ['Microsoft.Resources', 'subscriptions/tagNames/tagValues', one] as const,
  ]),
  ...['read', 'register/action', 'unregister/action'].map(
    one => ['Microsoft.Features', 'providers/features', one] as const,
  ),
  ['Microsoft.Authorization', 'providerOperations', 'read'],
]);

/** GET /providers/Microsoft.Authorization/providerOperations[/NS]; undefined for any other path. */
export function providerOperations(request: ArmRequest): Reply | undefined {
  const { types, names, namespace = '', scope } = request.path;
  if (scope !== '' || !sameText(namespace, 'Microsoft.Authorization') || types.length !== 1) return undefined;
  if (!isWord(types[0], 'provideroperations')) return undefined;
  requireGet(request);
  const apiVersion = requireVersion(request, PROVIDER_OPERATIONS_API_VERSIONS);
  const [name] = names;
  if (name !== undefined) return { status: 200, body: operationsDocument(requireNamespace(name), apiVersion) };
  return { status: 200, body: { value: NAMESPACES.map(one => operationsDocument(one, apiVersion)) } };
}

function operationsDocument(namespace: string, apiVersion: string): JsonObject {
  const types = new Map<string, JsonObject[]>();
  const own: JsonObject[] = [];
  // Of today: this list has api-versions of its own.
  const operations = operationsOf(namespace, NOW);
  for (const { name, display, isDataAction = false } of operations) {
    const words = name.split('/').slice(1);
    const verb = words.at(-1)!.toLowerCase() === 'action' ? 2 : 1;
    const type = words.slice(0, -verb).join('/');
    const shown = {
      name,
      displayName: display.operation,
      description: display.description,
      ...(isSince(apiVersion, '2017-05-01') && { isDataAction }),
    };
    if (type === '') own.push(shown);
    else types.set(type, [...(types.get(type) ?? []), shown]);
  }
  return {
    id: `/providers/Microsoft.Authorization/providerOperations/${namespace}`,
    name: namespace,
    type: 'Microsoft.Authorization/providerOperations',
    displayName: operations[0]?.display.provider ?? namespace,
    resourceTypes: [...types].map(([name, list]) => ({ name, displayName: name, operations: list })),
    operations: own,
  };
}

const NOW = '9999-12-31';

const WORDS: Readonly<Record<string, string>> = Object.freeze({
  read: 'Read',
  write: 'Create or update',
  delete: 'Delete',
});

function entry(namespace: string, provider: string, name: string, operation: string, resource?: string): Operation {
  return {
    name: `${namespace}/${name}`,
    display: { provider, operation, ...(resource !== undefined && { resource }), description: operation },
    isDataAction: false,
  };
}

const IMAGE_BUILDER = 'Microsoft.VirtualMachineImages';
const PROVIDER = 'Virtual Machine Image Builder';
const STABLE_SINCE = '2020-02-14';
const TEMPLATE = 'VM Image template';

/** Name, what it does, on what, since when: the list of the real provider (contract 1.4), in its words. */
const IMAGE_BUILDER_OPERATIONS: readonly (readonly [
  name: string,
  operation: string,
  resource?: string,
  since?: string,
])[] = Object.freeze([
  ['register/action', `Register ${PROVIDER} RP`],
  ['unregister/action', `Unregister ${PROVIDER} RP`],
  ['imageTemplates/read', 'Get a VM image template instance resource', TEMPLATE],
  ['imageTemplates/write', 'Create or update a VM image template instance resource', TEMPLATE],
  ['imageTemplates/delete', 'Delete a VM image template instance resource', TEMPLATE],
  ['imageTemplates/run/action', 'Execute a VM image template to produce its outputs', TEMPLATE],
  ['imageTemplates/cancel/action', 'Cancel a running image build', TEMPLATE, STABLE_SINCE],
  ['imageTemplates/runOutputs/read', 'Get a VM image template run output resource', 'VM Image template run output'],
  ['imageTemplates/triggers/read', 'Get a trigger for a VM image template resource', 'Trigger', '2022-07-01'],
  [
    'imageTemplates/triggers/write',
    'Create or update a trigger for a VM image template resource',
    'Trigger',
    '2022-07-01',
  ],
  ['imageTemplates/triggers/delete', 'Delete a trigger for a VM image template resource', 'Trigger', '2022-07-01'],
  ['operations/read', 'List available Virtual Machine Image Builder Operations', 'Operation'],
  ['locations/operations/read', 'Get the status of an asynchronous operation', 'Asynchronous Operation'],
]);
