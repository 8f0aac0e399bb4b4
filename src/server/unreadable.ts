/** Answers to what never becomes a request: bytes that are no HTTP, headers without end, a client that stops sending. Node gives the bare connection. */
import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { KilnError } from '../arm/errors.ts';
import { errorAnswer } from './envelope.ts';

/** As `clientErrorHandler`. The connection ends: where the next request would begin nobody knows. */
export function answerUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  if (socket.writable) {
    const { status, body } = errorAnswer(refusal(error));
    const text = JSON.stringify(body);
    const id = randomUUID();
    socket.write(
      [
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
        'Content-Type: application/json; charset=utf-8',
        `Content-Length: ${Buffer.byteLength(text)}`,
        `x-ms-request-id: ${id}`,
        `x-ms-correlation-request-id: ${id}`,
        'x-ms-failure-cause: gateway',
        'Connection: close',
        '',
        text,
      ].join('\r\n'),
    );
  }
  socket.destroy(error);
}

/** The parser's own words name what it stopped at; nothing of the request is repeated. */
function refusal({ code, message }: NodeJS.ErrnoException): KilnError {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new KilnError('RequestTimeout', 'The request did not arrive in the time that one may take.');
  if (code === 'HPE_HEADER_OVERFLOW')
    return new KilnError('RequestHeaderFieldsTooLarge', 'The headers of the request are larger than 16 KiB.');
  return new KilnError('InvalidRequestContent', `The request cannot be read as HTTP: ${message}.`);
}
