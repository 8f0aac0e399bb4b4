/**
 * How long a client may take to send a request's body. Node has one limit for all; an upload of gigabytes takes longer than any other request may, and is cut off
 * only when it stands still.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { BlobError } from './blob-errors.ts';
import { answerUnreadable } from './unreadable.ts';

const waiting = new WeakMap<IncomingMessage, () => void>();

/** The rule: the whole body in `patience` (ms) from the end of the headers; the connection of one that takes longer ends. */
export function limitBodies(server: Server, patience: number): void {
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { headers } = request;
    if (headers['transfer-encoding'] === undefined && !(Number(headers['content-length']) > 0)) return;
    const timer = setTimeout(() => {
      if (request.complete) return;
      if (response.headersSent) request.socket.destroy();
      else answerUnreadable(Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), request.socket);
    }, patience);
    const end = () => clearTimeout(timer);
    waiting.set(request, end);
    request.once('close', end);
    response.once('close', end);
  });
}

/** What has to arrive for a client not to count as slow: in each span of `patience` that the server waits for it. */
const PROGRESS = 16 * 1024;

/**
 * The exception: a body of any length, as long as it comes along. Only the time counts that the server waits for the client. The request is not destroyed when its
 * reader stops, so that it can be told why. Errors: RequestTimeout.
 */
export async function* patiently(request: IncomingMessage, patience: number): AsyncGenerator<Buffer> {
  waiting.get(request)?.();
  const iterator = request.iterator({ destroyOnReturn: false });
  let waited = 0;
  let arrived = 0;
  try {
    for (;;) {
      const began = performance.now();
      const next = await within(iterator.next(), patience - waited);
      if (next.done) return;
      waited += performance.now() - began;
      arrived += (next.value as Buffer).byteLength;
      if (arrived >= PROGRESS) {
        waited = 0;
        arrived = 0;
      }
      yield next.value as Buffer;
    }
  } finally {
    // Clients listen when they have sent all of it: the rest is taken in as well, for as long as any other body may take.
    if (!request.complete) {
      // A stream flows again only after its iterator has let go of it, which it does a turn later.
      void iterator.return?.().then(() => setImmediate(() => request.resume()));
      setTimeout(() => request.complete || request.socket.destroy(), patience).unref();
    }
  }
}

async function within<T>(work: Promise<T>, milliseconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const text = 'The body of the request did not come along in the time that one may take.';
      reject(new BlobError(408, 'RequestTimeout', text, { connection: 'close' }));
    }, milliseconds);
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
