/** The rule for names that all of Microsoft.Network's types share, and its words for a body that cannot be read. */
import { formatPath } from '../../arm/json-path.ts';
import type { Violation } from '../../arm/resource-type.ts';
import type { Finding } from '../../arm/shape.ts';

export const VIRTUAL_NETWORK_TYPE = 'Microsoft.Network/virtualNetworks';
export const SUBNET_TYPE = 'Microsoft.Network/virtualNetworks/subnets';
export const NETWORK_SECURITY_GROUP_TYPE = 'Microsoft.Network/networkSecurityGroups';
export const SECURITY_RULE_TYPE = 'Microsoft.Network/networkSecurityGroups/securityRules';

export function checkNetworkName(name: string, path = 'name'): Violation | undefined {
  if (/^[A-Za-z0-9]([\w.-]{0,78}\w)?$/.test(name)) return undefined;
  return {
    path,
    code: 'InvalidResourceName',
    message: `Resource name ${name} is invalid. The name can be up to 80 characters long. It must begin with a word character, and it must end with a word character or with '_'. The name may contain word characters or '.', '-', '_'.`,
  };
}

/** Of what the schema finds; unknown properties are ignored. */
export function unreadable(findings: readonly Finding[]): Violation[] {
  return findings
    .filter(({ kind }) => kind !== 'unknown')
    .map(({ kind, path, reason }) => {
      const where = formatPath(path);
      const what = kind === 'missing' ? 'is missing' : `cannot be read: ${reason ?? 'It is of the wrong kind.'}`;
      return { path: where, code: 'InvalidRequestFormat', message: `Cannot parse the request. '${where}' ${what}` };
    });
}

/** Children are told apart by their names, in any case. */
export function twice(names: readonly (string | undefined)[], path: string): Violation[] {
  const seen = new Set<string>();
  return names.flatMap((name, index): Violation[] => {
    if (name === undefined) return [];
    const key = name.toLowerCase();
    if (!seen.has(key)) {
      seen.add(key);
      return [];
    }
    const message = `Cannot parse the request. There are two with the name '${name}' in '${path}'.`;
    return [{ path: `${path}[${index}].name`, code: 'InvalidRequestFormat', message }];
  });
}
