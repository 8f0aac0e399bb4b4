/**
 * fetch(), and connections, for URLs that strangers name (scripts and VHDs of templates that came through the API): to no address by which they could reach what
 * only this host may see: its own addresses, its links (169.254.169.254 is a cloud's metadata), multicast. What counts is the address that a connection is really made to,
 * not the name in the URL: a name may resolve to anything, and to something else a moment later. Private ranges are allowed: file servers of one's own.
 */
import { lookup as resolve } from 'node:dns';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import os from 'node:os';
import { Readable } from 'node:stream';
import { KilnError } from '../../arm/errors.ts';
import { embedded } from './embedded-address.ts';

const INNER = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['224.0.0.0', 4],
  ['255.255.255.255', 32],
  // Where clouds tell a machine of itself, and are no link: Azure, Alibaba.
  ['168.63.129.16', 32],
  ['100.100.100.200', 32],
] as const)
  INNER.addSubnet(network, bits, 'ipv4');
for (const [network, bits] of [
  ['::', 128],
  ['::1', 128],
  ['fe80::', 10],
  ['ff00::', 8],
  // The same of Amazon and Google.
  ['fd00:ec2::254', 128],
  ['fd20:ce::254', 128],
] as const)
  INNER.addSubnet(network, bits, 'ipv6');

/** Whether an address (no name) leads nowhere but to any host itself, its links or its cloud's metadata. */
export function isInnerAddress(address: string): boolean {
  return isIn(INNER, address);
}

/** Whether it is one of this host's, as they are now: what listens there for its own network is not for those who write templates. */
function isOwnAddress(address: string): boolean {
  const own = new BlockList();
  for (const one of Object.values(os.networkInterfaces()).flat())
    if (one) own.addAddress(withoutZone(one.address), one.family === 'IPv6' ? 'ipv6' : 'ipv4');
  return isIn(own, address);
}

function isIn(list: BlockList, address: string): boolean {
  const plain = withoutZone(address);
  const family = isIP(plain);
  if (family === 4) return list.check(plain, 'ipv4');
  if (family !== 6) return false;
  return list.check(plain, 'ipv6') || embedded(plain).some(one => list.check(one, 'ipv4'));
}

/** The zone of a link-local address (`fe80::1%eth0`) is no part of it. */
const withoutZone = (address: string): string => address.replace(/%.*$/, '');

const isRefused = (address: string): boolean => isInnerAddress(address) || isOwnAddress(address);

/** What somebody wanted of a host that is not to be reached. */
interface Purpose {
  readonly code: 'DownloadFailed' | 'UploadFailed';
  readonly clause: string;
  readonly instead: string;
}

const FETCHING: Purpose = Object.freeze({
  code: 'DownloadFailed',
  clause: 'from where templates may not fetch',
  instead: 'Serve the file from another host',
});
export const UPLOADING: Purpose = Object.freeze({
  code: 'UploadFailed',
  clause: 'to where templates may not upload',
  instead: 'Name a storage account elsewhere, or one of this server by the address that clients know',
});

/**
 * How connections to the host of a URL are to look its name up, so that they lead outward.
 * Errors: the purpose's, at once for an address that is not to be reached, and from the lookup for a name that means no other.
 */
export function outwardLookup({ hostname }: URL, purpose: Purpose): LookupFunction {
  const host = hostname.replace(/^\[|\]$/g, '');
  if (isRefused(host)) throw refused(host, host, purpose);
  return (name, options, done) => lookUp(name, options, done, purpose);
}

/** As fetch() with `redirect: 'manual'`. Rejects with DownloadFailed for an address that is not to be reached, otherwise as node:http does. */
export async function outwardFetch(
  url: URL,
  { headers, signal }: { readonly headers: Record<string, string>; readonly signal: AbortSignal },
): Promise<Response> {
  const lookup = outwardLookup(url, FETCHING);
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const message = await new Promise<IncomingMessage>((resolve, reject) => {
    request(url, { headers, signal, lookup, agent: false }, resolve).on('error', reject).end();
  });
  return asResponse(message);
}

/** Only the addresses of a name that lead outward; an error where none does. */
function lookUp(
  hostname: string,
  options: Parameters<LookupFunction>[1],
  done: Parameters<LookupFunction>[2],
  purpose: Purpose,
): void {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return done(error, '');
    const outward = addresses.filter(({ address }) => !isRefused(address));
    const [first] = outward;
    if (!first) return done(refused(hostname, addresses.map(({ address }) => address).join(', '), purpose), '');
    if (options.all) done(null, outward);
    else done(null, first.address, first.family);
  });
}

function refused(host: string, address: string, { code, clause, instead }: Purpose): KilnError {
  return new KilnError(
    code,
    `${host === address ? address : `${host} (${address})`} is an address of this host itself, of its links or of its cloud's metadata, ${clause}.`,
    { target: host, hint: `${instead}; or start the server with \`kiln serve --allow-local-downloads\`.` },
  );
}

/** Of node's own to what fetch() gives. */
export function asResponse(message: IncomingMessage): Response {
  const headers = new Headers();
  for (const [name, values] of Object.entries(message.headersDistinct))
    for (const value of values ?? []) headers.append(name, value);
  const status = message.statusCode!;
  const init = { status, statusText: message.statusMessage ?? '', headers };
  // The statuses that Response allows no body.
  if ([101, 204, 205, 304].includes(status)) {
    message.resume();
    return new Response(null, { ...init, status: status === 101 ? 502 : status });
  }
  return new Response(Readable.toWeb(message) as ReadableStream<Uint8Array>, init);
}
