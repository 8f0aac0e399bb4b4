/**
 * A page blob at an endpoint that speaks Azure's blob protocol (Azure, Azurite, this server), as its URL (untrusted) names it: the few requests that an upload is
 * made of. Each is tried again while the trouble is the network's or the service's, and says plainly what was refused. Plain HTTP of node: what a connection may
 * lead to is judged where it is made, which a library for storage does not let in; and of that library these six requests would be all.
 */
import { createHash } from 'node:crypto';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../arm/errors.ts';
import { publicUrl } from '../catalogue/download.ts';
import { outwardLookup, UPLOADING } from '../catalogue/outward-fetch.ts';
import { doorOptions, isOwn, type OwnDoor } from '../catalogue/own-door.ts';
import type { Span } from './page-plan.ts';
import { refusal, STORAGE_CODE } from './refusal.ts';

/** Where uploads of a template may lead, and in whose name. */
export interface Outward {
  /** Whether this host's loopback and link-local addresses may be written to: never for a URL of the API, unless its operator said so. */
  readonly allowLocal: boolean;
  /** The server's own door, whose accounts are written to in the name of the principal `as` (an object id) where the URL has no signature. */
  readonly own?: OwnDoor | undefined;
  readonly as?: string | undefined;
}

export interface RemoteOptions extends Outward {
  readonly signal: AbortSignal;
  /** Milliseconds without a byte in either direction after which a request counts as lost. Default: 60 s. */
  readonly idleTimeout?: number;
  /** How often a request is made, at most. */
  readonly attempts?: number;
  /** Milliseconds before the second attempt; each further one waits twice as long, 30 s at most. */
  readonly pause?: number;
}

export interface BlobFacts {
  readonly type: string;
  readonly size: number;
  /** Names in lower case. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface RemoteBlob extends AsyncDisposable {
  /** For people: without the signature. */
  readonly name: string;
  /** Whether it is in an account of this server, whose files can be linked. */
  readonly own: boolean;
  /** `hidden`: whoever may write there need not be allowed to read. */
  facts(): Promise<BlobFacts | 'hidden' | undefined>;
  /** An empty page blob in the place of whatever is there. @returns its tag */
  create(size: number, metadata: Readonly<Record<string, string>>): Promise<string>;
  /** Whether it could be created, without doing it. Rejects as `create` would. */
  probe(): Promise<void>;
  /** @returns the blob's new tag */
  put(start: number, bytes: Buffer): Promise<string>;
  /** What was written of it. */
  ranges(): Promise<Span[]>;
  read(span: Span): Promise<Buffer>;
  describe(metadata: Readonly<Record<string, string>>): Promise<void>;
  /** Of a blob that is `own`, by its tag of a moment ago. At least one span. */
  link(path: string, spans: readonly Span[], etag: string): Promise<void>;
}

/** Of the protocol; with it services check MD5 and answer lists in parts. Old enough for every emulator. */
const VERSION = '2021-12-02';
const ATTEMPTS = 9;
const LONGEST_PAUSE = 30_000;
/** A list of ranges is the longest answer. */
const MOST_ANSWER = 64 * 1024 * 1024;

/** A failure that another attempt may not meet. */
class Interrupted extends Error {
  readonly after: number | undefined;
  constructor(message: string, after?: number) {
    super(message);
    this.after = after;
  }
}

interface Asking {
  readonly method: 'PUT' | 'GET' | 'HEAD';
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** For people: `writing pages`. */
  readonly what: string;
  /** Statuses that are answers, not refusals. */
  readonly also?: readonly number[];
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

/** Nothing is asked yet. Errors: UploadFailed for an address that is not to be reached, or where nothing proves that anybody may write there. */
export function openRemoteBlob(uri: string, options: RemoteOptions): RemoteBlob {
  const url = new URL(uri);
  const name = publicUrl(url);
  const door = options.own && isOwn(url, options.own) ? options.own : undefined;
  const signed = url.searchParams.has('sig');
  requireProof(url, name, door !== undefined && options.as !== undefined);
  const secure = url.protocol === 'https:';
  const agent = new (secure ? HttpsAgent : HttpAgent)({ keepAlive: true, maxSockets: 32 });
  const connection: RequestOptions = door
    ? doorOptions(door)
    : {
        // An address as it stands in a URL has its brackets; a connection has none.
        ...{ host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || (secure ? 443 : 80) },
        ...(!options.allowLocal && { lookup: outwardLookup(url, UPLOADING) }),
      };

  async function bearer(): Promise<Record<string, string>> {
    if (signed || !door || options.as === undefined) return {};
    const token = await door.storageToken(options.as);
    if (token !== undefined) return { authorization: `Bearer ${token}` };
    throw new KilnError('UploadFailed', `${name} cannot be written to: the template's identity does not exist.`, {
      target: name,
    });
  }

  async function attempt({ method, query, headers, body, what, also = [] }: Asking): Promise<Answer> {
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
        ...(await bearer()),
        ...(method === 'PUT' && { 'content-length': String(body?.byteLength ?? 0) }),
        ...headers,
      },
      signal: options.signal,
    });
    const idle = options.idleTimeout ?? 60_000;
    request.setTimeout(idle, () => void request.destroy(new Interrupted(`nothing came for ${idle / 1000} s`)));
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
      options.signal.throwIfAborted();
      if (error instanceof KilnError || error instanceof Interrupted) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== undefined && UNTRUSTED.test(code)) throw untrusted(name, code, error);
      throw new Interrupted(message || code || 'the connection failed');
    }
  }

  async function ask(asking: Asking): Promise<Answer> {
    const attempts = options.attempts ?? ATTEMPTS;
    for (let number = 1; ; number++) {
      options.signal.throwIfAborted();
      try {
        return await attempt(asking);
      } catch (error) {
        options.signal.throwIfAborted();
        if (!(error instanceof Interrupted)) throw error;
        if (number === attempts)
          throw new KilnError(
            'UploadFailed',
            `${name}: ${asking.what} failed ${number === 1 ? 'once' : `${number} times`}, at last because ${error.message}.`,
            { target: name, cause: error },
          );
        const pause = Math.min((options.pause ?? 500) * 2 ** (number - 1), LONGEST_PAUSE);
        // Several requests that failed at once are not to come again at once.
        const wait = error.after === undefined ? pause * (0.75 + Math.random() / 2) : Math.min(error.after, 60_000);
        await sleep(wait, undefined, { signal: options.signal }).catch(() => options.signal.throwIfAborted());
      }
    }
  }

  const creation = (size: number, metadata: Readonly<Record<string, string>>): Asking => ({
    method: 'PUT',
    what: 'making the blob',
    headers: {
      'x-ms-blob-type': 'PageBlob',
      'x-ms-blob-content-length': String(size),
      'x-ms-blob-content-type': 'application/octet-stream',
      ...metadataHeaders(metadata),
    },
  });

  return {
    name,
    own: door?.linkPages !== undefined,
    async facts() {
      const { status, headers } = await ask({
        ...{ method: 'HEAD', what: 'looking for the blob', also: [401, 403, 404, 409] },
      });
      if (status === 404) return undefined;
      if (status >= 400) return 'hidden';
      const metadata = Object.entries(headers).flatMap(([header, value]) =>
        header.startsWith('x-ms-meta-') ? [[header.slice('x-ms-meta-'.length), String(value)]] : [],
      );
      return {
        type: String(headers['x-ms-blob-type'] ?? ''),
        size: Number(headers['content-length']),
        metadata: Object.fromEntries(metadata),
      };
    },
    create: async (size, metadata) => tagOf(await ask(creation(size, metadata))),
    async probe() {
      // Of no blob is this the tag: whoever may write is told that the condition is not met.
      const { headers, ...made } = creation(0, {});
      const answer = await ask({ ...made, headers: { ...headers, 'if-match': '"0x0"' }, also: [412] });
      const code = storageCode(answer);
      if (answer.status === 412 && code !== 'ConditionNotMet')
        throw refusal({ name, what: 'making the blob', status: 412, code });
    },
    async put(start, bytes) {
      const answer = await ask({
        ...{ method: 'PUT', query: 'comp=page', what: 'writing pages', body: bytes },
        headers: {
          'x-ms-page-write': 'update',
          'x-ms-range': `bytes=${start}-${start + bytes.byteLength - 1}`,
          // The service compares it with what has come.
          'content-md5': createHash('md5').update(bytes).digest('base64'),
        },
      });
      return tagOf(answer);
    },
    async ranges() {
      const found: Span[] = [];
      for (let marker: string | undefined; ; ) {
        const query = `comp=pagelist${marker === undefined ? '' : `&marker=${encodeURIComponent(marker)}`}`;
        const { body } = await ask({ method: 'GET', query, what: 'asking what was written' });
        const text = body.toString('utf8');
        for (const [, start, end] of text.matchAll(RANGE)) found.push({ start: Number(start), end: Number(end) + 1 });
        const next = /<NextMarker>([^<]+)<\/NextMarker>/.exec(text)?.[1]?.replaceAll('&amp;', '&');
        // An emulator that knows no parts gives the same list again.
        if (next === undefined || next === marker) return found;
        marker = next;
      }
    },
    async read({ start, end }) {
      const headers = { 'x-ms-range': `bytes=${start}-${end - 1}` };
      const { body } = await ask({ method: 'GET', what: 'reading back', headers });
      return body;
    },
    async describe(metadata) {
      const headers = metadataHeaders(metadata);
      await ask({ method: 'PUT', query: 'comp=metadata', what: 'describing the blob', headers });
    },
    async link(path, spans, etag) {
      await door!.linkPages!(url, { path, spans }, etag).catch(error => {
        const { status, code } = error as { status?: unknown; code?: unknown };
        if (typeof status !== 'number') throw error;
        throw refusal({ name, what: 'linking the file', status, code: String(code) });
      });
    },
    async [Symbol.asyncDispose]() {
      agent.destroy();
    },
  };
}

const RANGE = /<PageRange>\s*<Start>(\d{1,15})<\/Start>\s*<End>(\d{1,15})<\/End>\s*<\/PageRange>/g;

/** A token of this server's is for this server alone; for all others a signature speaks. Errors: UploadFailed. */
function requireProof(url: URL, name: string, identified: boolean): void {
  const expiry = url.searchParams.get('se');
  if (url.searchParams.has('sig')) {
    const ends = new Date(expiry ?? Number.NaN);
    if (ends < new Date())
      throw new KilnError(
        'UploadFailed',
        `${name} cannot be written to: its signature expired at ${ends.toISOString()}.`,
        { target: name, hint: 'Put a signature into the uri that lasts longer than the build (se).' },
      );
    return;
  }
  if (identified) return;
  throw new KilnError('UploadFailed', `${name} cannot be written to: its uri has no signature.`, {
    target: name,
    hint: 'Add a shared access signature that may create and write (sp=cw, better rcw). Without one, only accounts of the server that runs the build can be written to, in the name of the template’s identity.',
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

const tagOf = ({ headers }: Answer): string => String(headers.etag ?? '');

const metadataHeaders = (metadata: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`x-ms-meta-${name}`, value]));

/** What the service calls it; untrusted, and shown. Its sentence is not: it may repeat what was sent. */
function storageCode({ headers, body }: Answer): string {
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
