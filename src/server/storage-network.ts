/** From where an account may be reached: its network rules, and the least version of TLS. They hold for everybody, whatever key they have. */
import { isObject } from '../arm/shape.ts';
import { contains, parseAddress, parseCidr } from '../providers/network/cidr.ts';
import type { StorageAccount } from '../providers/storage/find-account.ts';
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

/** An address, or a block of them: `20.1.2.0/24`. A socket that takes both families says `::ffff:1.2.3.4`. */
function inRange(range: string, address: string): boolean {
  const outer = range.includes('/') ? parseCidr(range)?.range : parseAddress(range);
  const inner = parseAddress(address.replace(/^::ffff:/i, ''));
  return outer !== undefined && inner !== undefined && contains(outer, inner);
}
