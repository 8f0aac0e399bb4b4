/** How long a client may leave an answer unread. One that reads nothing would hold its connection, of which there are not many, for as long as it likes. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';

/** Of a request's patience: what is read slowly is seen to be read only when systems' own buffers, some megabytes, have room again. */
const TIMES = 10;

/** The rule: while an answer waits to be read, some of it is, in each ten times `patience` (ms); else the connection ends. One that has nothing to say may stay. */
export function limitReading(server: Server, patience: number): void {
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    let read: number | undefined;
    const timer = setInterval(() => {
      const waiting = socket.writableLength;
      const now = waiting > 0 ? socket.bytesWritten - waiting : undefined;
      if (now !== undefined && now === read) socket.destroy();
      read = now;
    }, TIMES * patience).unref();
    response.once('close', () => clearInterval(timer));
  });
}
