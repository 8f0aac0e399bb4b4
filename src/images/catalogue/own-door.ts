/**
 * The server's own front door, as a place to fetch from: scripts of templates may lie in storage accounts that are here. It is asked as by any stranger, with
 * nothing but what the URL proves (a signature, a public container). The connection is made to the door itself, whatever a name resolves to.
 */
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import type { DetailedPeerCertificate, PeerCertificate } from 'node:tls';

export interface OwnDoor {
  /** What clients call it: `https://127.0.0.1:8443`. */
  readonly origin: string;
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  /** PEM, its own first: no other is trusted there. */
  readonly certificate: string;
}

/** Of the process that serves: open while it does. */
export interface Doorway {
  door?: OwnDoor | undefined;
}

const ACCOUNT = /^[a-z0-9]{3,24}\.blob\.(core\.)?(?=.)/;
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** Whether a URL (untrusted) leads to the door: by what it is called, or by a name that always means this host; an account's name may stand before it. */
export function isOwn(url: URL, door: OwnDoor): boolean {
  const origin = new URL(door.origin);
  if (url.protocol !== 'https:' || url.username !== '' || url.password !== '') return false;
  const host = url.hostname.replace(ACCOUNT, '');
  if (url.port === origin.port && host === origin.hostname) return true;
  return url.port === String(door.port) && LOOPBACK.has(host);
}

/** As outwardFetch, for a URL of its own. */
export async function askOwn(
  url: URL,
  { headers, signal }: { readonly headers: Record<string, string>; readonly signal: AbortSignal },
  { address, port, certificate }: OwnDoor,
): Promise<IncomingMessage> {
  const options = {
    ...{ host: address, port, path: `${url.pathname}${url.search}`, headers: { ...headers, host: url.host }, signal },
    ...{ agent: false, ca: certificate, allowPartialTrustChain: true },
    // By whichever name: it is this very certificate that is asked for.
    checkServerIdentity: (_host: string, _peer: PeerCertificate | DetailedPeerCertificate) => undefined,
  };
  return await new Promise((resolve, reject) => {
    request(options, resolve).on('error', reject).end();
  });
}
