/** One security rule, on its own or in the body of its group: read and checked. Pure. */
import { type Static, Type } from '@sinclair/typebox';
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import type { Violation } from '../../arm/resource-type.ts';
import { type JsonObject, shape } from '../../arm/shape.ts';
import { parseAddress, parseCidr } from './cidr.ts';
import { unreadable } from './names.ts';

/** Of a group, as in Azure. */
export const MOST_RULES = 1000;

const Text = Type.Optional(Type.String());
const Texts = Type.Optional(Type.Array(Type.String()));
const References = Type.Optional(Type.Array(Type.Object({ id: Type.String() })));

const RuleSchema = Type.Object({
  description: Type.Optional(Type.String({ maxLength: 140 })),
  protocol: Type.String(),
  sourcePortRange: Text,
  sourcePortRanges: Texts,
  destinationPortRange: Text,
  destinationPortRanges: Texts,
  sourceAddressPrefix: Text,
  sourceAddressPrefixes: Texts,
  destinationAddressPrefix: Text,
  destinationAddressPrefixes: Texts,
  sourceApplicationSecurityGroups: References,
  destinationApplicationSecurityGroups: References,
  access: Type.String(),
  priority: Type.Integer(),
  direction: Type.String(),
});

/** Azure takes these in any case, and answers in this one. */
const WORDS = Object.freeze({
  protocol: ['*', 'Tcp', 'Udp', 'Icmp', 'Esp', 'Ah'],
  access: ['Allow', 'Deny'],
  direction: ['Inbound', 'Outbound'],
});

export interface RuleBody {
  /** As they are stored. */
  readonly properties: JsonObject;
  readonly violations: readonly Violation[];
}

/** Untrusted `properties`. `id`: of the rule. */
export function readRule(given: unknown, at: JsonPath, id: string): RuleBody {
  const { value, findings } = shape(RuleSchema, given ?? {}, { apiVersion: '', caseSensitive: false }, at);
  const bad = unreadable(findings);
  if (bad.length > 0) return { properties: {}, violations: bad };
  const rule = value as Static<typeof RuleSchema>;
  const path = (name: string) => formatPath([...at, name]);
  const violations: Violation[] = [];
  const refuse = (name: string, code: Violation['code'], message: string): void =>
    void violations.push({ path: path(name), message, ...(code && { code }) });

  const words: Record<string, string> = {};
  for (const [name, known] of Object.entries(WORDS)) {
    const text = String(rule[name as keyof typeof WORDS]);
    const word = known.find(one => one.toLowerCase() === text.toLowerCase());
    if (word !== undefined) words[name] = word;
    else
      refuse(
        name,
        'InvalidRequestFormat',
        `Cannot parse the request. '${path(name)}' is '${text}'; it must be one of ${known.join(', ')}.`,
      );
  }
  if (rule.priority < 100 || rule.priority > 4096)
    refuse(
      'priority',
      'SecurityRuleInvalidPriority',
      `Security rule has invalid Priority. Value provided: ${rule.priority} Allowed range 100-4096.`,
    );
  for (const side of ['source', 'destination'] as const) {
    const ports = [rule[`${side}PortRange`], ...(rule[`${side}PortRanges`] ?? [])].filter(one => one !== undefined);
    const prefixes = [rule[`${side}AddressPrefix`], ...(rule[`${side}AddressPrefixes`] ?? [])].filter(
      one => one !== undefined && one !== '',
    );
    const Side = side === 'source' ? 'Source' : 'Destination';
    const missing = (name: string, what: string): void =>
      refuse(
        name,
        'InvalidRequestFormat',
        `Required security rule parameters are missing for security rule with Id: ${id}. Security rule must specify ${what}.`,
      );
    if (ports.length === 0) missing(`${side}PortRange`, `${Side}PortRanges or ${Side}PortRange`);
    if (prefixes.length === 0 && (rule[`${side}ApplicationSecurityGroups`] ?? []).length === 0)
      missing(
        `${side}AddressPrefix`,
        `${Side}AddressPrefixes, ${Side}AddressPrefix, or ${Side}ApplicationSecurityGroups`,
      );
    const port = ports.find(one => !isPortRange(one));
    if (port !== undefined)
      refuse(
        `${side}PortRange`,
        'SecurityRuleInvalidPortRange',
        `Security rule has invalid Port range. Value provided: ${port}. Value should be an integer OR integer range with '-' delimiter. Valid range 0-65535.`,
      );
    const prefix = prefixes.find(one => !isPrefix(one!));
    if (prefix !== undefined)
      refuse(
        `${side}AddressPrefix`,
        'SecurityRuleInvalidAddressPrefix',
        `Security rule has invalid Address prefix. Value provided: ${prefix}`,
      );
  }
  return { properties: { provisioningState: 'Succeeded', ...rule, ...words }, violations };
}

function isPortRange(text: string): boolean {
  if (text === '*') return true;
  const found = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!found) return false;
  const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
  return first <= last && last <= 65_535;
}

/** `*`, a range, an address, or a service tag (`Storage.WestEurope`). */
function isPrefix(text: string): boolean {
  if (text === '*' || /^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z0-9]+)?$/.test(text)) return true;
  return parseAddress(text) !== undefined || parseCidr(text) !== undefined;
}

/** No two rules of a group have one priority and direction. The second is complained of. */
export function ruleConflicts(
  rules: readonly { readonly name: string; readonly properties: JsonObject; readonly path: string }[],
): Violation[] {
  const seen = new Map<string, string>();
  return rules.flatMap(({ name, properties, path }): Violation[] => {
    const key = `${properties.priority} ${properties.direction}`;
    const other = seen.get(key);
    if (other === undefined) {
      seen.set(key, name);
      return [];
    }
    const message = `Security rule ${name} conflicts with rule ${other}. Rules cannot have the same Priority and Direction. To learn more, see aka.ms/nsgrules.`;
    return [{ path, code: 'SecurityRuleConflict', message }];
  });
}
