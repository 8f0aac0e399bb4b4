/** GET /providers/NS/operations: the actions that roles can name. */
import { isSince } from '../arm/api-versions.ts';
import { sameText } from '../arm/ids.ts';
import { EXTENSIONS, PROVIDERS } from '../providers/registry.ts';

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
  return types.map(([type, verb]) =>
    entry(namespace, namespace, `${type}/${verb}`, `${WORDS[verb] ?? verb} ${type}`, type),
  );
}

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
