/** Accounts by host: `ACCOUNT.blob.localhost:8443/container/blob` is `/ACCOUNT/container/blob`, which all routes are written for. */
import type { IncomingMessage } from 'node:http';

const ACCOUNT_HOST = /^([a-z0-9]{3,24})\.blob\./i;

/**
 * The path-style form of a request's target; as it is for other hosts, and for the server's own, should it be called so. Signatures are made of the client's
 * form: `originalUrl`.
 */
export function pathStyle({ url = '/', headers }: Pick<IncomingMessage, 'url' | 'headers'>, origin: string): string {
  const host = headers.host ?? '';
  const account = ACCOUNT_HOST.exec(host)?.[1];
  if (account === undefined || origin.toLowerCase().endsWith(`//${host.toLowerCase()}`)) return url;
  const target = url.replace(/^https?:\/\/[^/?]*/i, '');
  return `/${account.toLowerCase()}${target.startsWith('/') ? '' : '/'}${target}`;
}
