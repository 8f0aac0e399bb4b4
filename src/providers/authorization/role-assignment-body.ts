/** What a PUT of a role assignment asks for. */
import { KilnError } from '../../arm/errors.ts';
import { isObject, type JsonObject } from '../../arm/shape.ts';
import { text } from '../../database/json.ts';
import { GUID } from './scope.ts';

const PRINCIPAL_TYPES = ['ServicePrincipal', 'User', 'Group', 'ForeignGroup', 'Device'];

export interface WantedAssignment {
  /** Of the role: its GUID in lower case. */
  readonly role: string;
  /** An object id in lower case. */
  readonly principal: string;
  readonly principalType: string | undefined;
  readonly description: string | null;
}

/** Untrusted. Errors: InvalidRequestContent, InvalidParameter, NotSupported. */
export function readAssignment(body: unknown): WantedAssignment {
  // Older clients send the properties without their envelope.
  const given = isObject(body) ? (isObject(body.properties) ? body.properties : body) : {};
  const role = required(given, 'roleDefinitionId');
  const [, id] =
    /\/providers\/Microsoft\.Authorization\/roleDefinitions\/([^/]+)\/?$/i.exec(role) ??
    (GUID.test(role) ? [role, role] : []);
  if (id === undefined || !GUID.test(id))
    throw new KilnError('InvalidParameter', `The role definition ID '${role}' is not valid.`, {
      target: 'properties.roleDefinitionId',
    });
  const principal = required(given, 'principalId');
  if (!GUID.test(principal))
    throw new KilnError('InvalidParameter', `The principal ID '${principal}' is not valid. It must be a GUID.`, {
      target: 'properties.principalId',
    });
  const type = given.principalType ?? undefined;
  const principalType = PRINCIPAL_TYPES.find(one => one.toLowerCase() === String(type).toLowerCase());
  if (type !== undefined && principalType === undefined)
    throw new KilnError('InvalidParameter', `The principal type '${String(type)}' is not valid.`, {
      target: 'properties.principalType',
      hint: `It is one of ${PRINCIPAL_TYPES.join(', ')}.`,
    });
  // One that is kept and not obeyed would allow more than whoever wrote it believes.
  if ((given.condition ?? '') !== '')
    throw new KilnError('NotSupported', 'Conditions of role assignments are not supported.', {
      target: 'properties.condition',
    });
  const description = given.description ?? null;
  if (description !== null && (typeof description !== 'string' || description.length > 1024))
    throw new KilnError('InvalidParameter', 'The description is a text of at most 1024 characters.', {
      target: 'properties.description',
    });
  return {
    role: id.toLowerCase(),
    principal: principal.toLowerCase(),
    principalType,
    description: description === null ? null : text(description),
  };
}

function required(given: JsonObject, name: string): string {
  const value = given[name];
  if (typeof value === 'string' && value !== '') return value;
  throw new KilnError('InvalidRequestContent', `The request content was invalid: properties.${name} is missing.`, {
    target: `properties.${name}`,
  });
}
