/** What a machine's processors and devices know, on its way into a file: QEMU can only hand it over through a socket, and may open nothing itself. */
import { createWriteStream } from 'node:fs';
import { chmod, chown, type FileHandle, open, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface DevicesReceiver extends AsyncDisposable {
  /** What QEMU is told to migrate to. */
  readonly uri: string;
  /** Resolves when QEMU has closed its end and the file is whole; rejects when it cannot be written. */
  readonly received: Promise<void>;
}

/**
 * Waits at `socketPath` for QEMU, the user `uid`, and lets what comes be written to `file`, which must not exist and only its owner can read. Disposing it closes
 * the socket; the file is the caller's.
 */
export async function receiveDevices(socketPath: string, file: string, uid?: number): Promise<DevicesReceiver> {
  await rm(socketPath, { force: true });
  const address = await addressOf(socketPath);
  const server = net.createServer();
  const received = new Promise<void>((resolve, reject) => {
    let connected = false;
    server.once('connection', socket => {
      connected = true;
      server.close();
      pipeline(socket, createWriteStream(file, { flags: 'wx', mode: 0o600 })).then(resolve, reject);
    });
    server.once('error', reject);
    server.once('close', () => connected || reject(new Error('QEMU did not hand over its devices')));
  });
  received.catch(() => {});
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address.path, resolve);
    });
  } catch (error) {
    await address.directory?.close();
    throw error;
  }
  // The slot's user may pass through the directory, not look into it.
  if (uid !== undefined) {
    await chmod(path.dirname(socketPath), 0o711);
    await chown(socketPath, uid, uid);
  }
  await chmod(socketPath, 0o600);
  return {
    uri: `unix:${address.path}`,
    received,
    async [Symbol.asyncDispose]() {
      server.close();
      await rm(socketPath, { force: true });
      await address.directory?.close();
    },
  };
}

/** sun_path holds 108 bytes with the final NUL. */
const LONGEST_PATH = 107;

/** A path that the system takes for a socket's: a longer one goes by way of the directory's descriptor, which QEMU may pass through as it is of the same user. */
async function addressOf(socketPath: string): Promise<{ readonly path: string; readonly directory?: FileHandle }> {
  if (Buffer.byteLength(socketPath) <= LONGEST_PATH) return { path: socketPath };
  const directory = await open(path.dirname(socketPath), 'r');
  return { path: `/proc/${process.pid}/fd/${directory.fd}/${path.basename(socketPath)}`, directory };
}
