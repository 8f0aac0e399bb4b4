/**
 * One request to an endpoint that speaks Azure's blob protocol, at a URL that is untrusted: where the connection may lead, what it proves itself with, and whether what
 * comes of it is an answer, a refusal, or something that another attempt may not meet. Plain HTTP of node: what a connection may lead to is judged where it is made, which
 * a library for storage does not let in.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { KilnError } from '../../arm/errors.ts';
import { outwardLookup, UPLOADING } from '../catalogue/outward-fetch.ts';
import { doorOptions, type OwnDoor } from '../catalogue/own-door.ts';
import { Interrupted } from './attempts.ts';
import { refusal, STORAGE_CODE } from './refusal.ts';
import { isSigned } from './write-proof.ts';

export interface BlobPlace {
  readonly url: URL;
  /** For people: without the signature. */
  readonly name: string;
  /** Whether this host's loopback and link-local addresses may be written to. */
  readonly allowLocal: boolean;
  /** The server's own door, where it leads there. */
  readonly door: OwnDoor | undefined;
  /** The principal (an object id) in whose name requests go through that door, where the URL has no signature. */
  readonly as: string | undefined;
  readonly signal: AbortSignal;
  /** Milliseconds without a byte in either direction after which a request counts as lost. */
  readonly idleTimeout: number;
}

export interface Asking {
  readonly method: 'PUT' | 'GET' | 'HEAD';
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** For people: `writing pages`. */
  readonly what: string;
  /** Statuses that are answers, not refusals. */
  readonly also?: readonly number[];
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export interface BlobRequests extends Disposable {
  /** Errors: UploadFailed for what is refused; Interrupted; the signal's reason. */
  ask(asking: Asking): Promise<Answer>;
}

/** Of the protocol; with it services check MD5 and answer lists in parts. Old enough for every emulator. */
const VERSION = '2021-12-02';
/** A list of ranges is the longest answer. */
const MOST_ANSWER = 64 * 1024 * 1024;

/** Nothing is asked yet. */
export function openRequests(place: BlobPlace): BlobRequests {
  const { url, name, allowLocal, door, signal, idleTimeout } = place;
  const secure = url.protocol === 'https:';
  const agent = new (secure ? HttpsAgent : HttpAgent)({ keepAlive: true, maxSockets: 32 });
  const connection: RequestOptions = door
    ? doorOptions(door)
    : {
        // An address as it stands in a URL has its brackets; a connection has none.
        ...{ host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || (secure ? 443 : 80) },
        ...(!allowLocal && { lookup: outwardLookup(url, UPLOADING) }),
      };

  async function ask({ method, query, headers, body, what, also = [] }: Asking): Promise<Answer> {
    const search = query === undefined ? url.search : `${url.search}${url.search === '' ? '?' : '&'}${query}`;
    const request = (secure ? httpsRequest : httpRequest)({
      ...connection,
      agent,
      method,
      path: `${url.pathname}${search}`,
      headers: {
        host: url.host,
        'user-agent': 'kiln',
        'x-ms-version': VERSION,
        'x-ms-date': new Date().toUTCString(),
        ...(await bearer(place)),
        ...(method === 'PUT' && { 'content-length': String(body?.byteLength ?? 0) }),
        ...headers,
      },
      signal,
    });
    request.setTimeout(
      idleTimeout,
      () => void request.destroy(new Interrupted(`nothing came for ${idleTimeout / 1000} s`)),
    );
    try {
      const answer = await new Promise<Answer>((resolve, reject) => {
        request.once('error', reject).once('response', message => {
          collect(message).then(
            content => resolve({ status: message.statusCode!, headers: message.headers, body: content }),
            reject,
          );
        });
        request.end(body);
      });
      const { status } = answer;
      if ((status >= 200 && status < 300) || also.includes(status)) return answer;
      const code = storageCode(answer);
      if (status === 408 || status === 429 || status >= 500) {
        const after = Number(answer.headers['retry-after']);
        throw new Interrupted(`the server answered ${status} ${code}`.trim(), after > 0 ? after * 1000 : undefined);
      }
      // Spoilt on the way.
      if (code === 'Md5Mismatch') throw new Interrupted(`the server answered ${status} ${code}`);
      throw refusal({ name, what, status, code });
    } catch (error) {
      request.destroy();
      signal.throwIfAborted();
      if (error instanceof KilnError || error instanceof Interrupted) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== undefined && UNTRUSTED.test(code)) throw untrusted(name, code, error);
      throw new Interrupted(message || code || 'the connection failed');
    }
  }

  return { ask, [Symbol.dispose]: () => agent.destroy() };
}

async function bearer({ url, name, door, as }: BlobPlace): Promise<Record<string, string>> {
  if (isSigned(url) || !door || as === undefined) return {};
  const token = await door.storageToken(as);
  if (token !== undefined) return { authorization: `Bearer ${token}` };
  throw new KilnError('UploadFailed', `${name} cannot be written to: the template's identity does not exist.`, {
    target: name,
  });
}

/** Certificates that do not fit will not fit the next time either. */
const UNTRUSTED = /^(ERR_TLS_|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_)/;

const untrusted = (name: string, code: string, cause: unknown) =>
  new KilnError('UploadFailed', `${name} cannot be written to: its certificate is not trusted (${code}).`, {
    target: name,
    hint: 'Name the authority that signed it in NODE_EXTRA_CA_CERTS.',
    cause,
  });

/** What the service calls it; untrusted, and shown. Its sentence is not: it may repeat what was sent. */
export function storageCode({ headers, body }: Answer): string {
  const said = headers['x-ms-error-code'] ?? /<Code>([^<]*)<\/Code>/.exec(body.toString('utf8'))?.[1] ?? '';
  return STORAGE_CODE.test(String(said)) ? String(said) : '';
}

async function collect(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > MOST_ANSWER) throw new Interrupted('the answer has no end');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
