/** Scripts on a web server of this host's loopback. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FileServer {
  readonly origin: string;
  close(): Promise<void>;
}

/** Serves texts by name, `/a.sh`. */
export async function serveFiles(files: Readonly<Record<string, string>>): Promise<FileServer> {
  const server = createServer((request, response) => {
    const content = files[request.url?.slice(1) ?? ''];
    response.writeHead(content === undefined ? 404 : 200, { 'content-type': 'text/plain' }).end(content);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
