/** From where an account may be reached: its network rules, and the least version of TLS. They hold for everybody, whatever key they have. */
import { isObject } from '../arm/shape.ts';
import type { StorageAccount } from '../providers/storage/find-account.ts';
import { sasAddressAllowed } from '../providers/storage/sas.ts';
import { BlobError } from './blob-errors.ts';

/** @param tls as Node names it: `TLSv1.3`; undefined without TLS. Errors: AuthorizationFailure, TlsVersionNotPermitted. */
export function requireReachable({ resource }: StorageAccount, address: string, tls: string | undefined): void {
  const { publicNetworkAccess, networkAcls, minimumTlsVersion } = resource.properties;
  if (publicNetworkAccess === 'Disabled' || (networkAcls !== undefined && !isLetIn(networkAcls, address)))
    throw new BlobError(403, 'AuthorizationFailure', 'This request is not authorized to perform this operation.');
  // The server takes none below 1.2.
  if (minimumTlsVersion === 'TLS1_3' && tls !== undefined && tls !== 'TLSv1.3')
    throw new BlobError(
      400,
      'TlsVersionNotPermitted',
      'The TLS version of the connection is not permitted on this storage account.',
    );
}

function isLetIn(rules: unknown, address: string): boolean {
  if (!isObject(rules) || rules.defaultAction !== 'Deny') return true;
  const ranges = Array.isArray(rules.ipRules) ? rules.ipRules : [];
  return ranges.some(rule => isObject(rule) && typeof rule.value === 'string' && inRange(rule.value, address));
}

/** An address, or a block of them: `20.1.2.0/24`. */
function inRange(range: string, address: string): boolean {
  const [from = '', bits] = range.split('/');
  if (bits === undefined) return sasAddressAllowed(from, address);
  const size = 2 ** (32 - Number(bits));
  const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const first = Math.floor(number(from) / size) * size;
  const text = (value: number) => [24, 16, 8, 0].map(shift => Math.floor(value / 2 ** shift) % 256).join('.');
  return sasAddressAllowed(`${text(first)}-${text(first + size - 1)}`, address);
}
