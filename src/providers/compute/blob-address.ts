/** The blob that a URL names: `https://HOST/ACCOUNT/CONTAINER/BLOB` or `https://ACCOUNT.blob.HOST/CONTAINER/BLOB`, whatever this server is called. */

import { KilnError } from '../../arm/errors.ts';
import { isObject } from '../../arm/shape.ts';

export interface BlobAddress {
  /** In lower case. */
  readonly account: string;
  readonly container: string;
  readonly blob: string;
  /** Without query: a signature in it is nobody else's business. */
  readonly uri: string;
}

const HOST_STYLE = /^([a-z0-9]{3,24})\.blob\./;

/** Reads untrusted text. Errors: InvalidParameter, in Compute's words. `path`: where it stands. */
export function parseBlobAddress(text: string, path: string): BlobAddress {
  const found = tryParseBlobAddress(text);
  if (found) return found;
  const shown = text.split('?')[0]!;
  throw new KilnError('InvalidParameter', `The URI ${shown} does not look to be correct blob URI.`, { target: path });
}

function tryParseBlobAddress(text: string): BlobAddress | undefined {
  const url = URL.parse(text);
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:') || url.username !== '') return undefined;
  const segments: string[] = [];
  for (const part of url.pathname.split('/').slice(1)) {
    const segment = decoded(part);
    if (segment === undefined) return undefined;
    segments.push(segment);
  }
  const host = HOST_STYLE.exec(url.hostname)?.[1];
  const [account = '', container = '', ...rest] = host === undefined ? segments : [host, ...segments];
  const blob = rest.join('/');
  if (!/^[a-z0-9]{3,24}$/i.test(account) || container === '' || blob === '') return undefined;
  return { account: account.toLowerCase(), container, blob, uri: `${url.origin}${url.pathname}` };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** A URL with a signature lets everybody read the blob: what is kept, and shown, has none. `member`: what bodies call the URL. */
export function withoutSignatures<Value>(value: Value, member: 'blobUri' | 'uri'): Value {
  if (Array.isArray(value)) return value.map(one => withoutSignatures(one, member)) as Value;
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [
      name,
      name === member && typeof part === 'string' ? part.split('?')[0] : withoutSignatures(part, member),
    ]),
  ) as Value;
}
