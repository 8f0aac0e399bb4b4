/**
 * A page blob at an endpoint that speaks Azure's blob protocol (Azure, Azurite, this server), as its URL (untrusted) names it: the few requests that an upload is
 * made of. Of a library for storage these six would be all.
 */
import { createHash } from 'node:crypto';
import { publicUrl } from '../catalogue/download.ts';
import { isOwn, type OwnDoor } from '../catalogue/own-door.ts';
import { repeatedly } from './attempts.ts';
import { type Answer, type Asking, openRequests, storageCode } from './blob-request.ts';
import type { Span } from './page-plan.ts';
import { refusal } from './refusal.ts';
import { requireProof } from './write-proof.ts';

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

const IDLE_TIMEOUT = 60_000;

/** Nothing is asked yet. Errors: UploadFailed for an address that is not to be reached, or where nothing proves that anybody may write there. */
export function openRemoteBlob(uri: string, options: RemoteOptions): RemoteBlob {
  const url = new URL(uri);
  const name = publicUrl(url);
  const { allowLocal, as, signal, idleTimeout = IDLE_TIMEOUT, attempts, pause } = options;
  const door = options.own && isOwn(url, options.own) ? options.own : undefined;
  requireProof(url, name, door !== undefined && as !== undefined);
  const requests = openRequests({ url, name, allowLocal, door, as, signal, idleTimeout });
  const ask = (asking: Asking): Promise<Answer> =>
    repeatedly(() => requests.ask(asking), { signal, attempts, pause, name, what: asking.what });

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
      requests[Symbol.dispose]();
    },
  };
}

const RANGE = /<PageRange>\s*<Start>(\d{1,15})<\/Start>\s*<End>(\d{1,15})<\/End>\s*<\/PageRange>/g;

const tagOf = ({ headers }: Answer): string => String(headers.etag ?? '');

const metadataHeaders = (metadata: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(metadata).map(([name, value]) => [`x-ms-meta-${name}`, value]));
