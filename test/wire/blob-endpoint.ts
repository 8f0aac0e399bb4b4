/** A small page blob service over plain HTTP, in memory: enough for an upload, and for everything that can go wrong with one on the way. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { joined } from '../../src/images/upload/page-plan.ts';

export interface EndpointBlob {
  readonly content: Buffer;
  readonly metadata: Record<string, string>;
  /** Starts of the 512-byte pages that were written. */
  readonly pages: Set<number>;
}

export interface Trouble {
  /** The connection breaks when so many bytes of the body have come. */
  readonly breakAfter?: number;
  /** The work is done, and the answer never arrives. */
  readonly forgetAnswer?: boolean;
  readonly status?: number;
  readonly code?: string;
  readonly headers?: Record<string, string>;
}

export interface BlobEndpoint {
  /** Signed: `http://127.0.0.1:PORT/acct/box/NAME?…sig=…`. */
  uri(name: string, permissions?: string): string;
  readonly blobs: Map<string, EndpointBlob>;
  /** `PUT page bytes=0-511`, in their order; also those that were refused. */
  readonly seen: string[];
  /** Asked of every request, by what `seen` says of it. */
  trouble: (request: string) => Trouble | undefined;
  close(): Promise<void>;
}

export const SIGNATURE = 'c2VjcmV0LXNpZ25hdHVyZQ==';
const PAGE = 512;

export async function blobEndpoint(): Promise<BlobEndpoint> {
  const blobs = new Map<string, EndpointBlob>();
  const seen: string[] = [];
  const server = createServer((request, response) => {
    // A request that is read to its end, or not, may have let go of it.
    const { socket } = request;
    handle(request, response, () => socket.destroy()).catch(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const endpoint: BlobEndpoint = {
    uri: (name, permissions = 'rcw') =>
      `http://127.0.0.1:${port}/acct/box/${name}?sv=2021-12-02&sp=${permissions}&se=2999-01-01T00%3A00%3A00Z&sig=${encodeURIComponent(SIGNATURE)}`,
    blobs,
    seen,
    trouble: () => undefined,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return endpoint;

  async function handle(request: IncomingMessage, response: ServerResponse, hangUp: () => void): Promise<void> {
    const url = new URL(request.url!, 'http://127.0.0.1');
    const comp = url.searchParams.get('comp') ?? 'blob';
    const range = String(request.headers['x-ms-range'] ?? '');
    const what = `${request.method} ${comp}${range === '' ? '' : ` ${range}`}`;
    seen.push(what);
    const trouble = endpoint.trouble(what) ?? {};
    const body = await received(request, trouble.breakAfter);
    const say = (status: number, code?: string, headers: Record<string, string> = {}, content?: Buffer | string) => {
      if (trouble.forgetAnswer) return hangUp();
      response.writeHead(status, { etag: '"0x1"', ...(code && { 'x-ms-error-code': code }), ...headers });
      return response.end(request.method === 'HEAD' ? undefined : content);
    };
    if (trouble.status) return void say(trouble.status, trouble.code, trouble.headers, `sent was ${request.url}`);
    const permissions = url.searchParams.get('sp') ?? '';
    const wanted = request.method === 'PUT' ? 'w' : 'r';
    if (url.searchParams.get('sig') !== SIGNATURE) return void say(403, 'AuthenticationFailed');
    if (!permissions.includes(wanted)) return void say(403, 'AuthorizationPermissionMismatch');
    const [, , container = '', name = ''] = url.pathname.split('/');
    if (container !== 'box') return void say(404, 'ContainerNotFound');
    answer(request, { name, comp, range, body, say });
  }

  interface Asked {
    readonly name: string;
    readonly comp: string;
    readonly range: string;
    readonly body: Buffer;
    say(status: number, code?: string, headers?: Record<string, string>, content?: Buffer | string): unknown;
  }

  function answer({ method, headers }: IncomingMessage, { name, comp, range, body, say }: Asked): unknown {
    const blob = blobs.get(name);
    const [start = 0, last = 0] = range.replace('bytes=', '').split('-').map(Number);
    if (method === 'PUT' && comp === 'blob') {
      if (headers['if-match'] !== undefined) return say(412, 'ConditionNotMet');
      const content = Buffer.alloc(Number(headers['x-ms-blob-content-length']));
      blobs.set(name, { content, metadata: metadataOf(headers), pages: new Set() });
      return say(201);
    }
    if (!blob) return say(404, 'BlobNotFound');
    if (method === 'PUT' && comp === 'metadata') {
      blobs.set(name, { ...blob, metadata: metadataOf(headers) });
      return say(200);
    }
    if (method === 'PUT' && comp === 'page') {
      const fits = body.length === last + 1 - start && start % PAGE === 0 && body.length % PAGE === 0;
      if (!fits || last >= blob.content.length || body.length > 4 * 1024 * 1024) return say(416, 'InvalidPageRange');
      if (createHash('md5').update(body).digest('base64') !== headers['content-md5']) return say(400, 'Md5Mismatch');
      body.copy(blob.content, start);
      for (let at = start; at < last; at += PAGE) blob.pages.add(at);
      return say(201);
    }
    if (method === 'GET' && comp === 'pagelist') {
      const pages = [...blob.pages].map(at => ({ start: at, end: at + PAGE }));
      const ranges = joined(pages).map(
        one => `<PageRange><Start>${one.start}</Start><End>${one.end - 1}</End></PageRange>`,
      );
      return say(200, undefined, {}, `<?xml version="1.0" encoding="utf-8"?><PageList>${ranges.join('')}</PageList>`);
    }
    const about = Object.entries(blob.metadata).map(([key, value]) => [`x-ms-meta-${key}`, value]);
    if (method === 'HEAD') {
      const size = { 'content-length': String(blob.content.length), 'x-ms-blob-type': 'PageBlob' };
      return say(200, undefined, { ...size, ...Object.fromEntries(about) });
    }
    return say(206, undefined, {}, blob.content.subarray(start, last + 1));
  }
}

async function received(request: IncomingMessage, breakAfter: number | undefined): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (breakAfter !== undefined && size >= breakAfter) throw new Error('broken');
    chunks.push(chunk);
  }
  if (breakAfter !== undefined) throw new Error('broken');
  return Buffer.concat(chunks);
}

const metadataOf = (headers: IncomingMessage['headers']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      name.startsWith('x-ms-meta-') ? [[name.slice('x-ms-meta-'.length), String(value)]] : [],
    ),
  );
