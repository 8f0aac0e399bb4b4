/** Microsoft.Network/networkSecurityGroups/securityRules. Kept and judged, not enforced: builds run in a network namespace of their own. */
import { formatId } from '../../arm/ids.ts';
import type { ResourceType } from '../../arm/resource-type.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { requireConditions } from '../conditions.ts';
import { beginChange, putValidated } from '../life.ts';
import type { Answer, ResourceCall, ResourceProvider } from '../provider.ts';
import { removeResource, type StoredResource } from '../store.ts';
import { tooMany } from './address-space.ts';
import { NETWORK_API_VERSIONS } from './api-versions.ts';
import { operationOf, weakTag } from './changes.ts';
import { touch } from './children.ts';
import { checkNetworkName, NETWORK_SECURITY_GROUP_TYPE, SECURITY_RULE_TYPE } from './names.ts';
import { MOST_RULES, readRule, ruleConflicts } from './security-rule-body.ts';

const definition: ResourceType = Object.freeze({
  type: SECURITY_RULE_TYPE,
  apiVersions: NETWORK_API_VERSIONS,
  kind: 'proxy',
  parent: NETWORK_SECURITY_GROUP_TYPE,
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidRequestFormat',
  checkName: checkNetworkName,
  validate(body, { id, siblings }) {
    const read = readRule(isObject(body) ? body.properties : undefined, ['properties'], formatId(id));
    const path = 'properties.priority';
    const all = [...siblings, { name: id.name, properties: read.properties }].map(one => ({ ...one, path }));
    const crowd = all.length > MOST_RULES ? [tooMany('properties.securityRules', all.length, MOST_RULES)] : [];
    const violations = [...crowd, ...(read.violations.length > 0 ? read.violations : ruleConflicts(all))];
    return { resource: { properties: read.properties }, violations, warnings: [] };
  },
} satisfies ResourceType);

async function put(call: ResourceCall, body: JsonObject): Promise<Answer> {
  const { apiVersion, conditions } = call;
  return await call.environment.database.transaction().execute(async trx => {
    const { parent } = await beginChange(trx, call.id);
    const id = formatId(call.id);
    const { resource, created } = await putValidated(trx, definition, { id, body, apiVersion, conditions });
    await touch(trx, parent!.id);
    const operation = await operationOf(trx, call, SECURITY_RULE_TYPE, 'write', parent!.location!);
    return { status: created ? 201 : 200, resource, operation };
  });
}

async function remove(call: ResourceCall): Promise<Answer> {
  return await call.environment.database.transaction().execute(async trx => {
    const { existing, parent } = await beginChange(trx, call.id);
    if (!existing || !parent) return { status: 204 };
    requireConditions(call.conditions, call.id, existing);
    await removeResource(trx, existing.id);
    await touch(trx, parent.id);
    const operation = await operationOf(trx, call, SECURITY_RULE_TYPE, 'delete', parent.location!);
    return { status: 202, operation };
  });
}

export const shownRule = (rule: StoredResource): JsonObject => ({ etag: weakTag(rule), properties: rule.properties });

export const securityRulesProvider: ResourceProvider = Object.freeze({
  definition,
  weakTags: true,
  put,
  remove,
  show: resource => shownRule(resource as StoredResource),
} satisfies ResourceProvider);
