/** A file that is far away, as QEMU sees it: read-only over NBD, with a reader in front that fetches a block from afar when it is first needed, and keeps it. */
import { type FileHandle, open } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { COLD_BLOCK } from '../../src/disks/access-order.ts';

export interface Line {
  /** Until the first byte of an answer is there (ms). */
  readonly latency: number;
  /** Bytes a second. */
  readonly bandwidth: number;
}

export interface Remote extends AsyncDisposable {
  /** Requests that were made of the far side, and how long some read waited for it (ms). */
  readonly figures: { readonly requests: number; readonly waited: number };
}

/** @param path of the Unix socket */
export async function serveRemote(file: string, path: string, line: Line): Promise<Remote> {
  const handle = await open(file, 'r');
  const { size } = await handle.stat();
  const perBlock = (COLD_BLOCK / line.bandwidth) * 1000;
  const blocks = new Map<number, Promise<unknown>>();
  const figures = { requests: 0, waited: 0 };
  let waiting = 0;
  let since = 0;

  const arrival = (): Promise<unknown> => {
    figures.requests += 1;
    return sleep(line.latency + perBlock);
  };

  async function fetched(offset: number, length: number): Promise<void> {
    if (waiting++ === 0) since = performance.now();
    for (let block = Math.floor(offset / COLD_BLOCK); block * COLD_BLOCK < offset + length; block++) {
      if (!blocks.has(block)) blocks.set(block, arrival());
      await blocks.get(block);
    }
    if (--waiting === 0) figures.waited += performance.now() - since;
  }

  const read = async (offset: number, length: number) => {
    await fetched(offset, length);
    const bytes = Buffer.alloc(length);
    await readAt(handle, bytes, offset);
    return bytes;
  };
  const server = createServer(socket => void speak(socket, size, read).catch(() => socket.destroy())).listen(path);
  return {
    figures,
    async [Symbol.asyncDispose]() {
      server.close();
      await handle.close();
    },
  };
}

/** Beyond the end there are zeros. */
async function readAt(handle: FileHandle, into: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await handle.read(into, at, into.length - at, offset + at);
    if (bytesRead === 0) return;
    at += bytesRead;
  }
}

const OPTION_MAGIC = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
const GO = 7;
const ACK = 1;
const INFO = 3;
const UNSUPPORTED = 0x80000001;
/** HAS_FLAGS, READ_ONLY. */
const EXPORT_FLAGS = 3;

/** The server's side of NBD (doc/proto.md of the protocol), as far as QEMU needs it: fixed newstyle, one export, simple replies. */
async function speak(
  socket: Socket,
  size: number,
  read: (offset: number, length: number) => Promise<Buffer>,
): Promise<void> {
  const take = reader(socket);
  socket.write(Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), number16(3)]));
  await take(4);
  for (let agreed = false; !agreed; ) {
    const head = await take(16);
    const option = head.readUInt32BE(8);
    await take(head.readUInt32BE(12));
    const reply = (type: number, data = Buffer.alloc(0)) =>
      socket.write(
        Buffer.concat([number64(OPTION_REPLY_MAGIC), number32(option), number32(type), number32(data.length), data]),
      );
    agreed = option === GO && head.readBigUInt64BE(0) === OPTION_MAGIC;
    if (!agreed) reply(UNSUPPORTED);
    else {
      reply(INFO, Buffer.concat([number16(0), number64(BigInt(size)), number16(EXPORT_FLAGS)]));
      reply(ACK);
    }
  }
  for (;;) {
    const request = await take(28);
    const type = request.readUInt16BE(6);
    if (type !== 0) return void socket.end();
    const handle = request.subarray(8, 16);
    void read(Number(request.readBigUInt64BE(16)), request.readUInt32BE(24)).then(bytes =>
      socket.write(Buffer.concat([number32(0x67446698), number32(0), handle, bytes])),
    );
  }
}

function reader(socket: Socket): (length: number) => Promise<Buffer> {
  const chunks = socket[Symbol.asyncIterator]();
  let kept: Buffer = Buffer.alloc(0);
  return async length => {
    while (kept.length < length) {
      const { value, done } = await chunks.next();
      if (done) throw new Error('the client went away');
      kept = Buffer.concat([kept, value as Buffer]);
    }
    const taken = kept.subarray(0, length);
    kept = kept.subarray(length);
    return taken;
  };
}

const bytesOf = (length: number, write: (into: Buffer) => void) => {
  const into = Buffer.alloc(length);
  write(into);
  return into;
};
const number16 = (value: number) => bytesOf(2, into => into.writeUInt16BE(value));
const number32 = (value: number) => bytesOf(4, into => into.writeUInt32BE(value));
const number64 = (value: bigint) => bytesOf(8, into => into.writeBigUInt64BE(value));
