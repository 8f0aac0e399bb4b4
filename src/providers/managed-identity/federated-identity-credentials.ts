/**
 * Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials: whose tokens from elsewhere an identity would trust. They are kept and
 * validated for the solutions that deploy them; nobody signs in with them here.
 */
import { Type } from '@sinclair/typebox';
import { formatPath } from '../../arm/json-path.ts';
import type { ResourceType, ValidationContext, Violation } from '../../arm/resource-type.ts';
import { isObject, shape } from '../../arm/shape.ts';
import type { ResourceProvider } from '../provider.ts';
import { IDENTITY_TYPE } from './user-assigned-identities.ts';

/** Azure's own limits. */
const MOST = 20;
const LONGEST = 600;

const Schema = Type.Object({
  properties: Type.Object({
    issuer: Type.String({ minLength: 1, maxLength: LONGEST }),
    subject: Type.String({ minLength: 1, maxLength: LONGEST }),
    audiences: Type.Array(Type.String({ minLength: 1, maxLength: LONGEST }), { minItems: 1 }),
  }),
});

export const federatedIdentityCredentials: ResourceType = Object.freeze({
  type: `${IDENTITY_TYPE}/federatedIdentityCredentials`,
  apiVersions: Object.freeze([
    '2025-05-31-preview',
    '2024-11-30',
    '2023-07-31-preview',
    '2023-01-31',
    '2022-01-31-preview',
  ]),
  kind: 'proxy',
  parent: IDENTITY_TYPE,
  create: 'at once',
  delete: 'at once',
  violationCode: 'InvalidParameter',
  checkName(name) {
    if (/^[A-Za-z0-9][A-Za-z0-9\-_]{2,119}$/.test(name)) return undefined;
    return {
      path: 'name',
      message: `The resource name '${name}' is invalid: 3 to 120 letters, digits, hyphens and underscores, beginning with a letter or digit.`,
    };
  },
  validate(body, context) {
    const given = isObject(body) ? body : {};
    const { value, findings } = shape(
      Schema,
      { properties: given.properties ?? {} },
      { apiVersion: context.apiVersion, caseSensitive: false },
    );
    const known = findings.filter(({ kind }) => kind !== 'unknown');
    const violations = known.map(({ kind, path, reason }): Violation => {
      const at = formatPath(path);
      if (kind === 'missing') return { path: at, message: `The property '${at}' is missing.` };
      return {
        path: at,
        message: `The value of the property '${at}' is invalid.`,
        ...(reason !== undefined && { hint: reason }),
      };
    });
    if (violations.length === 0) violations.push(...brokenRules(value.properties, context));
    return { resource: { properties: value.properties ?? {} }, violations, warnings: [] };
  },
} satisfies ResourceType);

interface Trust {
  readonly issuer: string;
  readonly subject: string;
  readonly audiences: readonly string[];
}

function brokenRules(
  { issuer, subject, audiences }: Trust,
  { siblings, existing }: Pick<ValidationContext, 'siblings' | 'existing'>,
): Violation[] {
  const violations: Violation[] = [];
  if (!URL.canParse(issuer) || new URL(issuer).protocol !== 'https:')
    violations.push({ path: 'properties.issuer', message: `The issuer '${issuer}' must be an https URL.` });
  if (audiences.length !== 1)
    violations.push({ path: 'properties.audiences', message: 'There must be exactly one audience.' });
  const twin = siblings.find(one => one.properties.issuer === issuer && one.properties.subject === subject);
  if (twin)
    violations.push({
      path: 'properties',
      message: `The issuer and subject combination is that of '${twin.name}' already: it must be unique within the identity.`,
      code: 'Conflict',
    });
  if (!existing && siblings.length >= MOST)
    violations.push({ path: '', message: `An identity has at most ${MOST} federated identity credentials.` });
  return violations;
}

export const federatedIdentityCredentialsProvider: ResourceProvider = Object.freeze({
  definition: federatedIdentityCredentials,
  groupSegment: 'resourcegroups',
  untagged: true,
} satisfies ResourceProvider);
