/** Microsoft.Network/networkSecurityGroups: rules, and the subnets that have them. */
import { Type } from '@sinclair/typebox';
import { formatId, idKey } from '../../arm/ids.ts';
import type { Resource, ResourceType, ValidationContext, Violation } from '../../arm/resource-type.ts';
import type { JsonObject } from '../../arm/shape.ts';
import { putValidated } from '../life.ts';
import type { Answer, ListCall, ResourceCall, ResourceProvider } from '../provider.ts';
import { getResource, listResources, type Store, type StoredResource } from '../store.ts';
import { readTracked } from '../tracked.ts';
import { tooMany } from './address-space.ts';
import { NETWORK_API_VERSIONS } from './api-versions.ts';
import { operationOf, patchTagsOf, removeUnused, weakTag } from './changes.ts';
import { type Child, childrenOf, replaceChildren } from './children.ts';
import { defaultRules } from './default-rules.ts';
import { checkNetworkName, NETWORK_SECURITY_GROUP_TYPE, SECURITY_RULE_TYPE, twice } from './names.ts';
import { MOST_RULES, readRule, ruleConflicts } from './security-rule-body.ts';
import { shownRule } from './security-rules.ts';
import { requireUnusedGroup, subnetsWith } from './use.ts';

const GroupSchema = Type.Object({
  flushConnection: Type.Optional(Type.Boolean()),
  securityRules: Type.Optional(
    Type.Array(Type.Object({ name: Type.String(), properties: Type.Optional(Type.Unknown()) })),
  ),
});

interface GroupBody {
  readonly resource: Omit<Resource, 'id' | 'name' | 'type'>;
  readonly rules: readonly Child[];
  readonly violations: readonly Violation[];
  readonly warnings: readonly string[];
}

function readGroup(
  body: unknown,
  context: Pick<ValidationContext, 'id' | 'apiVersion' | 'newGuid' | 'existing'>,
): GroupBody {
  const { location, tags, properties, violations, warnings } = readTracked(
    body,
    GroupSchema,
    'networkSecurityGroup',
    context as ValidationContext,
  );
  const { securityRules = [], ...rest } = properties ?? {};
  const owner = formatId(context.id);
  const crowd = securityRules.length > MOST_RULES;
  const rules = (crowd ? [] : securityRules).map((rule, index) => {
    const path = `properties.securityRules[${index}]`;
    const name = String(rule?.name);
    const named = checkNetworkName(name, `${path}.name`);
    const id = `${owner}/securityRules/${name}`;
    const found = readRule(rule?.properties, ['properties', 'securityRules', index, 'properties'], id);
    return { name, path, ...found, violations: [...(named ? [named] : []), ...found.violations] };
  });
  const written = [
    ...violations.map((one): Violation => ({ ...one, code: 'InvalidRequestFormat' })),
    ...(crowd ? [tooMany('properties.securityRules', securityRules.length, MOST_RULES)] : []),
    ...(violations.length > 0 ? [] : rules.flatMap(one => one.violations)),
    ...twice(
      rules.map(one => one.name),
      'properties.securityRules',
    ),
  ];
  const before = context.existing?.properties.resourceGuid;
  return {
    resource: {
      location,
      tags,
      properties: {
        provisioningState: 'Succeeded',
        resourceGuid: typeof before === 'string' ? before : context.newGuid(),
        ...rest,
      },
    },
    rules: rules.map(({ name, properties }) => ({ name, properties })),
    violations: written.length > 0 ? written : ruleConflicts(rules),
    warnings,
  };
}

const definition: ResourceType = Object.freeze({
  type: NETWORK_SECURITY_GROUP_TYPE,
  apiVersions: NETWORK_API_VERSIONS,
  kind: 'tracked',
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidRequestFormat',
  checkName: checkNetworkName,
  validate(body, context) {
    const { resource, violations, warnings } = readGroup(body, context);
    return { resource, violations, warnings };
  },
} satisfies ResourceType);

/** A group with what is shown of it, read together. */
interface Whole extends StoredResource {
  readonly rules?: readonly StoredResource[];
  readonly subnets?: readonly string[];
}

async function withParts(store: Store, groups: readonly StoredResource[]): Promise<Whole[]> {
  const rules = await childrenOf(store, groups, SECURITY_RULE_TYPE);
  const subnets = await subnetsWith(
    store,
    groups.map(({ id }) => idKey(id)),
  );
  return groups.map(group => ({
    ...group,
    rules: rules.get(idKey(group.id)) ?? [],
    subnets: subnets.get(idKey(group.id)) ?? [],
  }));
}

async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const { apiVersion, conditions } = call;
  return await call.environment.database.transaction().execute(async trx => {
    const id = formatId(call.id);
    const { resource, created } = await putValidated(trx, definition, { id, body, apiVersion, conditions });
    const { rules } = readGroup(body, { id: call.id, apiVersion, newGuid: () => '' });
    const existing = await listResources(trx, { type: SECURITY_RULE_TYPE, parent: resource.id });
    await replaceChildren(trx, resource, 'securityRules', existing, rules, apiVersion);
    const operation = await operationOf(trx, call, NETWORK_SECURITY_GROUP_TYPE, 'write', resource.location!);
    const [whole] = await withParts(trx, [resource]);
    return { status: created ? 201 : 200, resource: whole!, operation };
  });
}

/** Errors: InUseNetworkSecurityGroupCannotBeDeleted. */
const remove = (call: ResourceCall): Promise<Answer> =>
  removeUnused(call, NETWORK_SECURITY_GROUP_TYPE, (trx, { id }) => requireUnusedGroup(trx, id));

async function read({ environment: { database }, id }: ResourceCall): Promise<Whole | undefined> {
  const group = await getResource(database, id);
  return group && (await withParts(database, [group]))[0];
}

async function list({ environment: { database }, scope, window }: ListCall): Promise<readonly Whole[]> {
  const { subscription, resourceGroup } = scope;
  const groups = await listResources(database, {
    type: NETWORK_SECURITY_GROUP_TYPE,
    subscription,
    ...(resourceGroup !== undefined && { resourceGroup }),
    ...window,
  });
  return await withParts(database, groups);
}

export const networkSecurityGroupsProvider: ResourceProvider = Object.freeze({
  definition,
  weakTags: true,
  read,
  list,
  put,
  patch: patchTagsOf(read),
  remove,
  show(resource: Resource | Whole): JsonObject {
    const { provisioningState, resourceGuid, ...rest } = resource.properties;
    const { rules = [], subnets = [], etag } = 'etag' in resource ? (resource as Whole) : {};
    const tag = etag === undefined ? {} : { etag: weakTag({ etag }) };
    return {
      location: resource.location,
      tags: resource.tags ?? {},
      ...tag,
      properties: {
        provisioningState,
        resourceGuid,
        securityRules: rules.map(rule => ({ name: rule.name, id: rule.id, type: rule.type, ...shownRule(rule) })),
        defaultSecurityRules: defaultRules(resource.id).map(rule => ({ ...rule, ...tag })),
        ...(subnets.length > 0 && { subnets: subnets.map(id => ({ id })) }),
        ...rest,
      },
    };
  },
} satisfies ResourceProvider);
