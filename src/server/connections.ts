/**
 * Open connections, for the end of a server. Node closes those that wait for a next request; one that has not shaken hands, or never sent a request,
 * would hold the end up for as long as a client has to send one.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What requests under way may take when the server ends (ms). */
const PATIENCE = 5_000;

export interface Connections {
  /** Closes connections without a request at once, the others after a while; to be called when nothing new is taken. @returns what stops that. */
  end(): () => void;
}

export function watchConnections(server: Server): Connections {
  /** Under TLS: the one that a request has is another object, and has the same ends. */
  const sockets = new Map<string, Socket>();
  const busy = new Map<string, number>();
  const nameOf = ({ remoteAddress, remotePort }: Socket) => `${remoteAddress} ${remotePort}`;
  server.on('connection', (socket: Socket) => {
    const name = nameOf(socket);
    sockets.set(name, socket);
    socket.once('close', () => {
      if (sockets.get(name) === socket) sockets.delete(name);
    });
  });
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const name = nameOf(request.socket);
    busy.set(name, (busy.get(name) ?? 0) + 1);
    response.once('close', () => {
      const left = busy.get(name)! - 1;
      if (left > 0) busy.set(name, left);
      else busy.delete(name);
    });
  });
  return {
    end() {
      for (const [name, socket] of sockets) if (!busy.has(name)) socket.destroy();
      const timer = setTimeout(() => {
        for (const socket of sockets.values()) socket.destroy();
      }, PATIENCE);
      return () => clearTimeout(timer);
    },
  };
}
