/** Findings in the sentences of the real service (contract 3.2), plain words as hints. */
import { formatPath, type JsonPath } from '../../arm/json-path.ts';
import type { Violation } from '../../arm/resource-type.ts';
import type { Finding } from '../../arm/shape.ts';

const REFERENCE = 'http://aka.ms/azvmimagebuildertmplref';
const FIELDS_REQUIRED = `Please review ${REFERENCE} for details on fields required in the Image Builder Template.`;
const FIELD_REQUIREMENTS = `Please review ${REFERENCE} for details on fields requirements in the Image Builder Template.`;
const SYNTAX = `There is an issue with the syntax with the JSON template you are submitting. Please check the JSON template for syntax and grammar. For more information on the syntax and grammar of the JSON template, visit ${REFERENCE}.`;

const typePath = (entity: string, path: JsonPath): string => formatPath([entity, ...path]);

/** Long values are cut: a message is for reading. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** Keys of a stranger's object are as long as he likes, and stand in several sentences of each finding below them. */
const LONGEST_SEGMENT = 1000;
const shortened = (path: JsonPath): JsonPath =>
  path.map(segment =>
    typeof segment === 'string' && segment.length > LONGEST_SEGMENT ? `${segment.slice(0, LONGEST_SEGMENT)}…` : segment,
  );

/** A bad discriminator is told of from outside: `'ImageTemplate.properties': Field 'distribute[0].type'`. */
function fieldOf(finding: Finding): { owner: JsonPath; field: JsonPath } {
  const { path } = finding;
  let start = path.length - 1;
  if (finding.kind === 'discriminator') start -= 1;
  while (start > 0 && typeof path[start] === 'number') start -= 1;
  return { owner: path.slice(0, start), field: path.slice(start) };
}

/** `entity`: what the path in the message begins with. */
export function violationOf(given: Finding, apiVersion: string, entity = 'ImageTemplate'): Violation {
  const finding = { ...given, path: shortened(given.path) };
  const path = formatPath(finding.path);
  const hint = finding.reason === undefined ? {} : { hint: finding.reason };
  const { owner, field } = fieldOf(finding);
  switch (finding.kind) {
    case 'missing':
      return {
        path,
        message: `Validation failed: '${typePath(entity, owner)}': Missing field '${formatPath(field)}'. ${FIELDS_REQUIRED}`,
        ...hint,
      };
    case 'value':
    case 'discriminator':
      return {
        path,
        message: `Validation failed: '${typePath(entity, owner)}': Field '${formatPath(field)}' has a bad value: '${shown(finding.value)}'. ${FIELD_REQUIREMENTS}`,
        ...hint,
      };
    case 'rule':
      return {
        path,
        message: `Validation failed: '${typePath(entity, finding.path)}': ${finding.reason} ${FIELD_REQUIREMENTS}`,
      };
    case 'unknown':
      return {
        path,
        message: unmarshalling(finding, apiVersion),
        hint: `No property of this place has the name '${finding.path.at(-1)}' in api-version ${apiVersion}.`,
      };
  }
}

/** The chain of Go types that the real service prints for a property it does not know; the last type stands twice. */
function unmarshalling(finding: Finding, apiVersion: string): string {
  const name = (type: string): string => `*v${apiVersion.replaceAll('-', '_')}.${type}`;
  const fields = finding.path.filter(segment => typeof segment === 'string');
  const types = finding.types ?? ['ImageTemplate'];
  const chain = types.map((type, index) =>
    index < types.length - 1
      ? `unmarshalling type ${name(type)}: struct field ${capitalised(fields[index] ?? '')}`
      : `unmarshalling type ${name(type)}`,
  );
  if (types.length > 1) chain.push(`unmarshalling type ${name(types.at(-1)!)}`);
  return `Unmarshalling entity encountered error: ${chain.join(': ')}, unknown field "${fields.at(-1)}". ${SYNTAX}`;
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
