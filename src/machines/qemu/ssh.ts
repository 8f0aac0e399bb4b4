/** The one SSH connection to a guest: handshakes are the slow part, so every command is a channel of the same connection. */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientChannel } from 'ssh2';
import type { ExecOptions, ExecResult } from '../machine.ts';
import { attend, ConnectionLost } from './command-channel.ts';
import { type MachineIdentity, wireForm } from './identity.ts';
import { ssh2 } from './ssh2.ts';

export interface SshTarget {
  readonly address: string;
  readonly port: number;
  readonly identity: MachineIdentity;
}

export interface ConnectOptions {
  readonly signal: AbortSignal;
  readonly handshakeMs: number;
  /** How long output may pause after a command's end until what holds it open is left alone. */
  readonly lastOutputMs: number;
}

/** Between two attempts: where nobody listens yet, and where somebody did and it came to nothing. */
const TICK_MS = { refused: 25, failed: 500 };
/** A server that has accepted may need this long for its first words when emulated; attempts grow towards it. */
const BANNER_MS = { first: 4000, last: 30_000 };
/** Answers that the guest does not take pile up in memory: far more than any window of a channel is an attack. */
const MOST_UNSENT = 256 * 1024 * 1024;
const KEEPALIVE = { keepaliveInterval: 15_000, keepaliveCountMax: 20 };

/**
 * Connects as soon as the guest answers: tries again and again until the signal aborts, then rejects with its reason. `onFailure` hears why each
 * attempt failed; attempts that nobody answers are silent.
 */
export async function connect(
  target: SshTarget,
  options: ConnectOptions & { readonly onFailure?: (error: Error) => void },
): Promise<SshConnection> {
  let patience = BANNER_MS.first;
  for (;;) {
    options.signal.throwIfAborted();
    const begun = performance.now();
    const socket = await answered(target, patience, options.signal);
    if (socket === 'silent') patience = Math.min(patience * 1.5, BANNER_MS.last);
    else if (socket !== 'refused') {
      try {
        return await SshConnection.open(socket, target.identity, options);
      } catch (error) {
        options.signal.throwIfAborted();
        options.onFailure?.(error as Error);
      }
    }
    const tick = socket === 'refused' ? TICK_MS.refused : TICK_MS.failed;
    await sleep(Math.max(0, tick - (performance.now() - begun)), undefined, { signal: options.signal }).catch(() => {});
  }
}

/** A socket whose other side has begun to speak. QEMU accepts for the guest, so being connected says nothing. */
function answered(
  target: SshTarget,
  patience: number,
  signal: AbortSignal,
): Promise<net.Socket | 'refused' | 'silent'> {
  return new Promise(resolve => {
    const socket = net.connect({ host: target.address, port: target.port, noDelay: true });
    const finish = (outcome: net.Socket | 'refused' | 'silent') => {
      clearTimeout(timer);
      signal.removeEventListener('abort', refused);
      socket.removeAllListeners();
      if (outcome !== socket) socket.on('error', () => {}).destroy();
      resolve(outcome);
    };
    const refused = () => finish('refused');
    const timer = setTimeout(() => finish('silent'), patience);
    signal.addEventListener('abort', refused, { once: true });
    socket.on('error', refused);
    socket.on('end', refused);
    socket.on('close', refused);
    socket.on('readable', () => {
      const words = socket.read() as Buffer | null;
      if (words === null) return;
      socket.unshift(words);
      finish(socket);
    });
  });
}

export class SshConnection {
  readonly #client: Client;
  #closed = false;
  #why = 'The guest closed the connection.';
  readonly #lastOutputMs: number;

  private constructor(client: Client, lastOutputMs: number) {
    this.#client = client;
    this.#lastOutputMs = lastOutputMs;
    client.on('error', error => {
      this.#why = `${error.message}.`;
    });
    client.once('close', () => {
      this.#closed = true;
    });
  }

  /** Handshake on a connected socket; the guest must show the key it was given. */
  static open(socket: net.Socket, identity: MachineIdentity, options: ConnectOptions): Promise<SshConnection> {
    const client = new (ssh2().Client)();
    const hostKey = wireForm(identity.host.publicKey);
    return new Promise((resolve, reject) => {
      const abort = () => fail(options.signal.reason as Error);
      const fail = (error: Error) => {
        options.signal.removeEventListener('abort', abort);
        client.on('error', () => {}).destroy();
        socket.destroy();
        reject(error);
      };
      options.signal.addEventListener('abort', abort, { once: true });
      client.once('error', fail);
      client.once('close', () => fail(new Error('The guest closed the connection during the handshake')));
      client.once('ready', () => {
        options.signal.removeEventListener('abort', abort);
        client.removeAllListeners('error').removeAllListeners('close');
        resolve(new SshConnection(client, options.lastOutputMs));
      });
      socket.on('data', () => {
        if (socket.writableLength > MOST_UNSENT) socket.destroy(new Error('The guest sends without listening'));
      });
      client.connect({
        sock: socket,
        username: identity.user,
        privateKey: identity.login.privateKey,
        hostVerifier: (key: Buffer) => key.equals(hostKey),
        algorithms: { serverHostKey: ['ssh-ed25519'] },
        readyTimeout: options.handshakeMs,
        ...KEEPALIVE,
      });
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Runs a command line through the login shell, as {@link attend} tells; `onBegun` is called when the guest has taken it. The guest is slowed down when standard input or
   * output cannot keep up. An abort while the guest has yet to open a channel ends the whole connection, since nothing else can be taken back. Rejects with ConnectionLost, the signal's reason, or the error of `stdin` when that is a stream.
   */
  exec(command: string, options: ExecOptions & { readonly onBegun?: () => void } = {}): Promise<ExecResult> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new ConnectionLost(this.#why));
      if (options.signal?.aborted) return reject(options.signal.reason as Error);
      const { signal } = options;
      const abort = () => {
        this.close();
        reject(signal!.reason as Error);
      };
      const broken = () => reject(new ConnectionLost(this.#why));
      signal?.addEventListener('abort', abort, { once: true });
      this.#client.once('close', broken);
      this.#client.exec(command, (error, channel) => {
        signal?.removeEventListener('abort', abort);
        this.#client.removeListener('close', broken);
        options.onBegun?.();
        if (error) reject(this.#closed ? new ConnectionLost(this.#why) : error);
        else this.#attend(channel, options).then(resolve, reject);
      });
    });
  }

  async #attend(channel: ClientChannel, options: ExecOptions): Promise<ExecResult> {
    const result = await attend(channel, options, this.#lastOutputMs);
    if (result) return result;
    if (this.#closed) throw new ConnectionLost(this.#why);
    return { exitCode: null };
  }

  close(): void {
    this.#closed = true;
    this.#client.on('error', () => {}).destroy();
  }
}
