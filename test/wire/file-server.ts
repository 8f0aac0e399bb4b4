/** Files for templates' scripts, over HTTP on the loopback: what the internet would serve. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FileServer {
  readonly origin: string;
  /** SHA-256 in hex of what is served at a path. */
  sha256(path: string): string;
  close(): Promise<void>;
}

/** Serves a small text of its own at every path; 404 for those with `missing` in them. */
export async function serveFiles(): Promise<FileServer> {
  const textOf = (path: string) => `# ${path}\necho "This is ${path}."\n`;
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    if (path.includes('missing')) response.writeHead(404).end();
    else response.writeHead(200, { 'content-type': 'text/plain' }).end(textOf(path));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sha256: path => createHash('sha256').update(textOf(path)).digest('hex'),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
