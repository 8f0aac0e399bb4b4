/** A machine's memory on its way into a file: QEMU can only hand it over through a socket, and may open nothing itself. */
import { createWriteStream } from 'node:fs';
import { chmod, chown, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface MemoryReceiver extends AsyncDisposable {
  /** What QEMU is told to migrate to. */
  readonly uri: string;
  /** Resolves when QEMU has closed its end and the file is whole; rejects when it cannot be written. */
  readonly received: Promise<void>;
}

/**
 * Waits at `socketPath` for QEMU, the user `uid`, and writes what comes to `file`, which only its owner can read. Disposing it closes the socket; the file
 * is the caller's.
 */
export async function receiveMemory(socketPath: string, file: string, uid?: number): Promise<MemoryReceiver> {
  await rm(socketPath, { force: true });
  const server = net.createServer({ pauseOnConnect: true });
  const received = new Promise<void>((resolve, reject) => {
    let connected = false;
    server.once('connection', socket => {
      connected = true;
      server.close();
      pipeline(socket, createWriteStream(file, { flags: 'wx', mode: 0o600 })).then(resolve, reject);
    });
    server.once('error', reject);
    server.once('close', () => connected || reject(new Error('QEMU did not hand over the memory')));
  });
  received.catch(() => {});
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  // The slot's user may pass through the directory, not look into it.
  if (uid !== undefined) {
    await chmod(path.dirname(socketPath), 0o711);
    await chown(socketPath, uid, uid);
  }
  await chmod(socketPath, 0o600);
  return {
    uri: `unix:${socketPath}`,
    received,
    async [Symbol.asyncDispose]() {
      server.close();
      await rm(socketPath, { force: true });
    },
  };
}
