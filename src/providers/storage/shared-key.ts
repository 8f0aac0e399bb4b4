/**
 * Signatures with a key of the account over a whole request (learn.microsoft.com, "Authorize with Shared Key"), in the forms for blobs of 2009-09-19 and later.
 */
import { createHmac } from 'node:crypto';
import { headerOf, type RequestParts } from './request-parts.ts';

export type SharedKeyScheme = 'SharedKey' | 'SharedKeyLite';

export interface SharedKeyHeader {
  readonly scheme: SharedKeyScheme;
  readonly account: string;
  /** base64. */
  readonly signature: string;
}

/** Undefined for other schemes, and for one that is not formed correctly. */
export function readSharedKey(authorization: string): SharedKeyHeader | undefined {
  const found = /^(SharedKey|SharedKeyLite) +([a-z0-9]{3,24}):([A-Za-z0-9+/]{43}=)$/i.exec(authorization.trim());
  if (!found) return undefined;
  const scheme = found[1]!.toLowerCase() === 'sharedkey' ? 'SharedKey' : 'SharedKeyLite';
  return { scheme, account: found[2]!, signature: found[3]! };
}

const SIGNED_HEADERS = [
  'content-encoding',
  'content-language',
  'content-length',
  'content-md5',
  'content-type',
  'date',
  'if-modified-since',
  'if-match',
  'if-none-match',
  'if-unmodified-since',
  'range',
] as const;

/** From this version on a length of zero is left out. */
const EMPTY_LENGTH_SINCE = '2015-02-21';

/**
 * The texts that a client may have signed. They differ in the order of the x-ms- headers alone: documented is the lexicographical one, clients for .NET and
 * JavaScript pass over hyphens when they compare. The first is the documented one.
 */
export function stringsToSign(request: RequestParts, scheme: SharedKeyScheme, account: string): string[] {
  const orders = [...new Set([headerLines(request, plain), headerLines(request, withoutHyphens)])];
  const resource = scheme === 'SharedKey' ? wholeResource(request, account) : liteResource(request, account);
  const header = (name: string): string => {
    const value = headerOf(request, name);
    if (name === 'date' && headerOf(request, 'x-ms-date') !== '') return '';
    const version = headerOf(request, 'x-ms-version');
    if (name === 'content-length' && value === '0' && !(version !== '' && version < EMPTY_LENGTH_SINCE)) return '';
    return value;
  };
  const signed = scheme === 'SharedKey' ? SIGNED_HEADERS : (['content-md5', 'content-type', 'date'] as const);
  const first = [request.method.toUpperCase(), ...signed.map(header)].join('\n');
  return orders.map(lines => `${first}\n${lines}${resource}`);
}

type Order = (a: string, b: string) => number;
const plain: Order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const withoutHyphens: Order = (a, b) => plain(a.replaceAll('-', ''), b.replaceAll('-', '')) || plain(a, b);

function headerLines(request: RequestParts, order: Order): string {
  return Object.keys(request.headers)
    .filter(name => name.startsWith('x-ms-'))
    .sort(order)
    .map(
      name =>
        `${name}:${headerOf(request, name)
          .trim()
          .replaceAll(/\r\n\s+/g, ' ')}\n`,
    )
    .join('');
}

/** The account stands before the path: twice, where the path begins with it. */
function wholeResource({ path, query }: RequestParts, account: string): string {
  const values = new Map<string, string[]>();
  for (const [name, value] of query) {
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), value]);
  }
  const lines = [...values]
    .sort(([a], [b]) => plain(a, b))
    .map(([name, all]) => `\n${name}:${all.sort(plain).join(',')}`);
  return `/${account}${path}${lines.join('')}`;
}

function liteResource({ path, query }: RequestParts, account: string): string {
  const component = query.find(([name]) => name.toLowerCase() === 'comp')?.[1];
  return `/${account}${path}${component === undefined ? '' : `?comp=${component}`}`;
}

/** HMAC-SHA256 as base64. Headers are bytes on the wire, which Node reads as Latin-1; of a signature by text it is the UTF-8. */
export function sign(key: Uint8Array, text: string, encoding: 'latin1' | 'utf8' = 'utf8'): string {
  return createHmac('sha256', key).update(Buffer.from(text, encoding)).digest('base64');
}
