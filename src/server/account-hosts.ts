/** Accounts by host: `ACCOUNT.blob.localhost:8443/container/blob` is `/ACCOUNT/container/blob`, which all routes are written for. */
import type { IncomingMessage } from 'node:http';
import { RESERVED_ACCOUNT_NAMES } from '../blobs/names.ts';

const ACCOUNT_HOST = /^([a-z0-9]{3,24})\.blob\./i;

/**
 * The path-style form of a request's target; as it is for other hosts, and for the server's own, should it be called so. Signatures are made of the client's
 * form: `originalUrl`.
 */
export function pathStyle({ url = '/', headers }: Pick<IncomingMessage, 'url' | 'headers'>, origin: string): string {
  const host = headers.host ?? '';
  const account = ACCOUNT_HOST.exec(host)?.[1];
  // No account is called as the server's own paths begin: such a host reaches nothing by its name.
  if (account === undefined || RESERVED_ACCOUNT_NAMES.has(account.toLowerCase())) return url;
  if (origin.toLowerCase().endsWith(`//${host.toLowerCase()}`)) return url;
  const target = url.replace(/^https?:\/\/[^/?]*/i, '');
  return `/${account.toLowerCase()}${target.startsWith('/') ? '' : '/'}${target}`;
}
