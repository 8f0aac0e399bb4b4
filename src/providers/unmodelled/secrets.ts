/**
 * What Kiln keeps without knowing it may hold secrets: a machine's adminPassword, an app's connection strings. It has no use for them, so they are not kept at
 * all: as with the real services, a GET does not show them. Found by the names of members, by what stands beside them, and by what they look like. Pure.
 */
import { isObject, type JsonObject } from '../../arm/shape.ts';

export interface Kept {
  readonly value: unknown;
  /** Paths of what was left out: `properties.osProfile.adminPassword`. */
  readonly dropped: readonly string[];
}

/** Of a name without its separators. */
const SECRET =
  /pass(word|wd|phrase|code)|pwd|secret|privatekey|connectionstring|(access|account|shared|primary|secondary|storage|api|client|master|admin|host|function|encryption|symmetric|registration|preshared|auth|authorization)keys?$|^psk$|token|credential|^sas|saskey|pfx(blob|data)?$/i;
/** Names of what only speaks of a secret. */
const ABOUT =
  /(id|ids|name|names|version|versions|polic(y|ies)|type|types|enabled|disabled|expir(y|ation|es)|expirationdate|format|permissions?|ref|reference|identifier|kind|source|state|length|days|seconds|minutes|lifetime|audience|endpoint|issuer|location|rotation|scope|algorithm|thumbprint|uris?|urls?)$/i;
/** Members that are secret as a whole, whatever is in them. */
const WHOLE =
  /^(protectedsettings|protectedparameters|securesettings|securevalue|secureparameters|secureparametervalues|customdata|userdata)$/;
/** What a vault lets somebody do with secrets is a list under that name. */
const PERMISSIONS = new Set(['all', 'get', 'list', 'set', 'delete', 'backup', 'restore', 'recover', 'purge']);

const LOOKS =
  /-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(AccountKey|SharedAccessKey|SharedSecret|SharedAccessSignature|Password|Pwd)\s*=|[?&](sig|code|token|access_token|password)=[^&\s]|^[a-z][a-z0-9+.-]{1,20}:\/\/[^/\s:@]{1,200}:[^/\s@]+@|^(Bearer|Basic|SharedKey) +[\w+/.=:~-]{16,}$|^eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*$/i;

const plain = (name: string): string => name.replaceAll(/[^A-Za-z0-9]/g, '').toLowerCase();
const isSecretName = (name: string): boolean => SECRET.test(plain(name)) && !ABOUT.test(plain(name));

/** A member that was left out. */
const GONE = Symbol('gone');

/** `type`: of the resource. Untrusted JSON, of a depth that was judged. */
export function withoutSecrets(body: JsonObject, type: string, name = ''): Kept {
  const dropped: string[] = [];
  const gone = (path: string): typeof GONE => {
    dropped.push(path);
    return GONE;
  };
  /** `secret`: it stands somewhere below a name that says so. */
  const read = (value: unknown, path: string, secret: boolean): unknown => {
    if (typeof value === 'string') return LOOKS.test(value) ? gone(path) : value;
    if (Array.isArray(value))
      return value.map((item, index) => read(item, `${path}[${index}]`, secret)).filter(isThere);
    if (!isObject(value)) return value;
    const marked = secret || speaksOfSecret(value);
    const members = Object.entries(value).map(([key, member]): [string, unknown] => {
      const at = path === '' ? key : `${path}.${key}`;
      return [key, readMember(key, member, at, marked)];
    });
    return Object.fromEntries(members.filter(([, member]) => isThere(member)));
  };
  const readMember = (key: string, member: unknown, at: string, marked: boolean): unknown => {
    const word = plain(key);
    if (member === null || typeof member === 'boolean') return member;
    if (WHOLE.test(word)) return gone(at);
    const named = isSecretName(key);
    if (isObject(member)) return read(member, at, marked || named);
    if (Array.isArray(member)) {
      if (named && member.some(one => typeof one === 'string' && !PERMISSIONS.has(one.toLowerCase()))) return gone(at);
      return read(member, at, marked || named);
    }
    if (named || (marked && VALUES.test(word))) return member === '' ? member : gone(at);
    return read(member, at, marked);
  };
  const value = read(body, '', false) as JsonObject;
  const { properties } = value;
  if (isObject(properties) && HOLDERS.test(type)) {
    // A vault's secret is its value.
    const { value: held, ...rest } = properties;
    if (held !== undefined) {
      dropped.push('properties.value');
      return { value: { ...value, properties: rest }, dropped };
    }
  }
  if (
    isObject(properties) &&
    SETTINGS.test(type) &&
    /^(connectionstrings|appsettings|authsettings(v2)?)$/i.test(name)
  ) {
    // What an app is set up with is secret as a whole.
    dropped.push(...Object.keys(properties).map(key => `properties.${key}`));
    return { value: { ...value, properties: {} }, dropped };
  }
  return { value, dropped };
}

/** A variable of an environment: `STRIPE_KEY`. */
const ENVIRONMENT_KEY = /^[A-Z][A-Z0-9_]*_KEY$/;

const VALUES = /^(value|data|content|contents|key|text|string)$/;
const HOLDERS = /^microsoft\.keyvault\/vaults\/secrets$|^microsoft\.automation\/automationaccounts\/variables$/i;
const SETTINGS = /^microsoft\.web\/sites(\/slots)?\/config$/i;

const isThere = (value: unknown): boolean => value !== GONE;

/** `{ "name": "DB_PASSWORD", "value": … }`, `{ "type": "SecureString", "value": … }`, `{ "isEncrypted": true, "value": … }`. */
function speaksOfSecret(value: JsonObject): boolean {
  const { name, key, type } = value;
  const named = [name, typeof value.value === 'string' ? key : undefined].some(
    one => typeof one === 'string' && (isSecretName(one) || ENVIRONMENT_KEY.test(one)),
  );
  const typed = typeof type === 'string' && /^(secure|secret)/i.test(type);
  return named || typed || [value.isEncrypted, value.isSecret, value.secure, value.isSecure].includes(true);
}
