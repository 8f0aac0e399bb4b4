/**
 * The server's own front door, as a place to fetch from, and to put VHDs: what templates name may lie in storage accounts that are here. It is asked as by any
 * stranger, with what the URL proves (a signature, a public container); where that is not enough, in the name of the template's identity, whose roles then decide.
 * The connection is made to the door itself, whatever a name resolves to.
 */
import type { IncomingMessage } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import type { DetailedPeerCertificate, PeerCertificate } from 'node:tls';

export interface OwnDoor {
  /** What clients call it: `https://127.0.0.1:8443`. */
  readonly origin: string;
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  /** PEM, its own first: no other is trusted there. */
  readonly certificate: string;
  /** An access token of a principal, by its object id, for storage; undefined when it was deleted. */
  readonly storageToken: (objectId: string) => Promise<string | undefined>;
  /**
   * Gives a page blob the bytes of a file without moving any: of these spans, all else from the first to the last of them being zeros. The file never changes again.
   * Whoever asks has changed the blob through the door before, and was answered with its tag: another one's is refused (ConditionNotMet).
   */
  readonly linkPages?: (
    url: URL,
    file: { readonly path: string; readonly spans: readonly { readonly start: number; readonly end: number }[] },
    etag: string,
  ) => Promise<void>;
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

interface Asking {
  readonly headers: Record<string, string>;
  readonly signal: AbortSignal;
}

/** What the door says to those who may not read, or who are not to know that there is something. */
const CLOSED = [401, 403, 404];

/** As outwardFetch, for a URL of its own. @param as object id of the principal in whose name it is asked where the URL alone proves too little */
export async function askOwn(url: URL, asking: Asking, door: OwnDoor, as?: string): Promise<IncomingMessage> {
  const answer = await ask(url, asking, door);
  if (as === undefined || url.searchParams.has('sig') || !CLOSED.includes(answer.statusCode!)) return answer;
  const token = await door.storageToken(as);
  if (token === undefined) return answer;
  answer.resume();
  return await ask(url, { ...asking, headers: { ...asking.headers, authorization: `Bearer ${token}` } }, door);
}

async function ask(url: URL, { headers, signal }: Asking, door: OwnDoor): Promise<IncomingMessage> {
  const options = { ...doorOptions(door), path: `${url.pathname}${url.search}`, agent: false } as const;
  return await new Promise((resolve, reject) => {
    request({ ...options, headers: { ...headers, host: url.host }, signal }, resolve)
      .on('error', reject)
      .end();
  });
}

/** What connects to it. The Host header is to be that of the URL. */
export function doorOptions({ address, port, certificate }: OwnDoor): RequestOptions {
  return {
    ...{ host: address, port, ca: certificate, allowPartialTrustChain: true },
    // By whichever name: it is this very certificate that is asked for.
    checkServerIdentity: (_host: string, _peer: PeerCertificate | DetailedPeerCertificate) => undefined,
  };
}
