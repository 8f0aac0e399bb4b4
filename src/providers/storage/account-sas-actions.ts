/** POST ListAccountSas and ListServiceSas: signatures that Resource Manager makes for those who may not see the keys. */
import { type TSchema, Type } from '@sinclair/typebox';
import { KilnError } from '../../arm/errors.ts';
import { formatId } from '../../arm/ids.ts';
import { formatPath } from '../../arm/json-path.ts';
import { violationError } from '../../arm/resource-type.ts';
import { oneOf, shape } from '../../arm/shape.ts';
import { requireResource } from '../life.ts';
import type { Action, ResourceCall } from '../provider.ts';
import { requireKeys } from './account-keys.ts';
import { type SasParameters, sasParameters, sasStringToSign, sasTime } from './sas.ts';
import { sign } from './shared-key.ts';

/** Of the signatures that are made here. */
const VERSION = '2021-12-02';

const optional = Type.Optional;
const time = { reason: 'It must be a time of ISO 8601 in UTC: 2030-01-31T10:00:00Z.' };
const COMMON = {
  signedPermission: optional(
    Type.String({ pattern: '^[racwdxyltmeopfui]+$', reason: 'It must be letters of permissions.' }),
  ),
  signedIp: optional(
    Type.String({ pattern: '^[\\d.]+(-[\\d.]+)?$', reason: 'It must be an address or a range of them.' }),
  ),
  signedProtocol: optional(oneOf(['https', 'https,http'])),
  signedStart: optional(Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT', ...time })),
  signedExpiry: optional(Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT', ...time })),
  keyToSign: optional(oneOf(['key1', 'key2'])),
};

const AccountSas = Type.Object({
  ...COMMON,
  signedServices: Type.String({ pattern: '^[bqtf]+$', reason: 'It must be some of b, q, t, f.' }),
  signedResourceTypes: Type.String({ pattern: '^[sco]+$', reason: 'It must be some of s, c, o.' }),
});

const ServiceSas = Type.Object({
  ...COMMON,
  canonicalizedResource: Type.String({
    pattern: '^/blob/[^/]+/[^/]+(/.+)?$',
    reason: 'It must be /blob/ACCOUNT/CONTAINER, or that and a blob’s name.',
  }),
  signedResource: optional(oneOf(['b', 'c'])),
  signedIdentifier: optional(Type.String({ maxLength: 64 })),
  rscc: optional(Type.String()),
  rscd: optional(Type.String()),
  rsce: optional(Type.String()),
  rscl: optional(Type.String()),
  rsct: optional(Type.String()),
});

const listAccountSas: Action = {
  permission: 'listAccountSas/action',
  async run(call, body) {
    const value = read(AccountSas, body, call);
    require('signedPermission', value.signedPermission);
    require('signedExpiry', value.signedExpiry);
    const parameters = {
      ...common(value),
      ss: value.signedServices,
      srt: value.signedResourceTypes,
    };
    return { status: 200, body: { accountSasToken: await signed(call, 'account', parameters, value.keyToSign, {}) } };
  },
};

const listServiceSas: Action = {
  permission: 'listServiceSas/action',
  async run(call, body) {
    const value = read(ServiceSas, body, call);
    if (value.signedIdentifier === undefined) {
      require('signedPermission', value.signedPermission);
      require('signedExpiry', value.signedExpiry);
    }
    const [, , account, container = '', ...blob] = value.canonicalizedResource.split('/');
    if (account?.toLowerCase() !== call.id.name.toLowerCase())
      throw bad('canonicalizedResource', 'It must name this account.');
    const sr = value.signedResource ?? (blob.length > 0 ? 'b' : 'c');
    if ((sr === 'b') !== blob.length > 0) throw bad('signedResource', 'b is for a blob, c for a container.');
    const { rscc = '', rscd = '', rsce = '', rscl = '', rsct = '', signedIdentifier: si = '' } = value;
    const parameters = { ...common(value), sr, si, rscc, rscd, rsce, rscl, rsct };
    const on = { container, ...(blob.length > 0 && { blob: blob.join('/') }) };
    return { status: 200, body: { serviceSasToken: await signed(call, 'service', parameters, value.keyToSign, on) } };
  },
};

export const sasActions: Readonly<Record<string, Action>> = Object.freeze({
  listaccountsas: listAccountSas,
  listservicesas: listServiceSas,
});

interface Common {
  readonly signedPermission?: string;
  readonly signedIp?: string;
  readonly signedProtocol?: string;
  readonly signedStart?: string;
  readonly signedExpiry?: string;
}

function common(value: Common): Partial<SasParameters> {
  for (const name of ['signedStart', 'signedExpiry'] as const)
    if (value[name] !== undefined && !sasTime(toSeconds(value[name]))) throw bad(name, time.reason);
  return {
    sv: VERSION,
    sp: value.signedPermission ?? '',
    st: toSeconds(value.signedStart ?? ''),
    se: toSeconds(value.signedExpiry ?? ''),
    sip: value.signedIp ?? '',
    spr: value.signedProtocol ?? '',
  };
}

/** SDKs send `…:00.000Z`, or more digits. */
const toSeconds = (text: string): string => text.replace(/\.\d+Z$/, 'Z');

async function signed(
  call: ResourceCall,
  kind: 'account' | 'service',
  given: Partial<SasParameters>,
  keyName: string | undefined,
  on: { readonly container?: string; readonly blob?: string },
): Promise<string> {
  const { environment, id } = call;
  const account = await requireResource(environment.database, formatId(id));
  const keys = await requireKeys(environment.database, environment.home, account);
  const key = keys.find(({ name }) => name === (keyName ?? 'key1'))!;
  const text = sasStringToSign(kind, sasParameters(given), { account: account.name.toLowerCase(), ...on });
  const query = Object.entries({ ...given, sig: sign(key.value, text) }).filter(([, value]) => value !== '');
  return query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
}

function read<Schema extends TSchema>(schema: Schema, body: unknown, { apiVersion }: ResourceCall) {
  const { value, findings } = shape(schema, body ?? {}, { apiVersion, caseSensitive: false });
  const violations = findings
    .filter(({ kind }) => kind !== 'unknown')
    .map(({ kind, path, reason }) => ({
      path: formatPath(path),
      message:
        kind === 'missing'
          ? `Required parameter '${formatPath(path)}' is missing (null).`
          : `The value of parameter ${formatPath(path)} is invalid.`,
      ...(reason !== undefined && { hint: reason }),
    }));
  if (violations.length > 0) throw violationError('InvalidParameter', violations);
  return value;
}

function require(name: string, value: string | undefined): void {
  if (value === undefined)
    throw new KilnError('InvalidParameter', `Required parameter '${name}' is missing (null).`, { target: name });
}

function bad(name: string, hint: string): KilnError {
  return new KilnError('InvalidParameter', `The value of parameter ${name} is invalid.`, { target: name, hint });
}
