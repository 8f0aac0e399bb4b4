/**
 * The first commands in a resumed guest: through a virtio-serial port to a process that its build user's session had before it was frozen. Opening a session by SSH takes an emulated
 * guest longer than all else of a resume. What comes out of the port is untrusted bytes.
 */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import os from 'node:os';
import { type Duplex, Writable } from 'node:stream';
import { KilnError } from '../../arm/errors.ts';
import type { ExecOptions, ExecResult } from '../machine.ts';
import { aborted } from './aborted.ts';
import { attend, type CommandChannel, ConnectionLost } from './command-channel.ts';

const HEADER_BYTES = 9;
/** The guest's end never says more at once. */
const MOST_IN_A_FRAME = 64 * 1024;
/** The guest's end has all of a command's input in its memory. */
const MOST_INPUT = 1024 * 1024;
const MARK_BYTES = 16;
/** When a greeting has not come back for so long (ms), nobody is there. */
const PATIENCE = 30_000;

export class CommandsPort {
  readonly #stream: Duplex;
  readonly #lastOutputMs: number;
  readonly #patience: number;
  #rest = Buffer.alloc(0);
  /** What the guest is to say before anything is heard; undefined once it has. */
  #mark: Buffer | undefined;
  #greeted = false;
  #lastId = 0;
  #channel: PortChannel | undefined;
  readonly #events = new EventEmitter();

  /** @param lastOutputMs as {@link attend} takes it */
  constructor(stream: Duplex, lastOutputMs: number, patience = PATIENCE) {
    this.#stream = stream;
    this.#lastOutputMs = lastOutputMs;
    this.#patience = patience;
    stream.on('data', (bytes: Buffer) => this.#hear(bytes));
  }

  /** Finds out whether somebody is there; what the guest was saying to an earlier host is passed over. Rejects with the signal's reason. */
  async greet(signal: AbortSignal): Promise<boolean> {
    const late = AbortSignal.timeout(this.#patience);
    this.#mark = randomBytes(MARK_BYTES);
    const answered = once(this.#events, 'greeted');
    this.#send('H', 0, this.#mark);
    try {
      await aborted(answered, AbortSignal.any([signal, late]));
      return true;
    } catch (error) {
      if (error !== late.reason) throw error;
      return false;
    }
  }

  /** Whether {@link exec} can take a command with such an input now. */
  takes(stdin: ExecOptions['stdin']): boolean {
    const size = typeof stdin === 'object' && !Buffer.isBuffer(stdin) ? Number.POSITIVE_INFINITY : (stdin?.length ?? 0);
    return this.#greeted && this.#channel === undefined && size <= MOST_INPUT;
  }

  /** Runs a command line through the build user's shell, as {@link attend} tells. Rejects with ConnectionLost, or the signal's reason. */
  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    if (!this.takes(options.stdin)) throw new KilnError('InternalError', 'The port to the guest is not free.');
    options.signal?.throwIfAborted();
    const id = ++this.#lastId;
    const channel = new PortChannel(command, (type, bytes) => this.#send(type, id, bytes));
    this.#channel = channel;
    try {
      const result = await attend(channel, options, this.#lastOutputMs);
      if (result) return result;
      throw new ConnectionLost('The process that ran it for Kiln has ended.');
    } finally {
      channel.destroy();
      this.#channel = undefined;
    }
  }

  /** To be called when the guest has closed its end. */
  lost(): void {
    this.#greeted = false;
    this.#channel?.destroy();
  }

  #send(type: string, id: number, bytes: Buffer): void {
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(type, 'latin1');
    header.writeUInt32BE(id, 1);
    header.writeUInt32BE(bytes.length, 5);
    this.#stream.write(Buffer.concat([header, bytes]));
  }

  #hear(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    if (this.#mark && !this.#heardMark(this.#mark)) return;
    for (let frame = this.#frame(); frame; frame = this.#frame())
      if (frame.id === this.#lastId) this.#channel?.hear(frame.type, frame.bytes);
  }

  #heardMark(mark: Buffer): boolean {
    const at = this.#rest.indexOf(mark);
    this.#rest = this.#rest.subarray(at === -1 ? Math.max(0, this.#rest.length - MARK_BYTES) : at + MARK_BYTES);
    if (at === -1) return false;
    this.#mark = undefined;
    this.#greeted = true;
    this.#events.emit('greeted');
    return true;
  }

  /** The next one that has come whole. */
  #frame(): { readonly type: string; readonly id: number; readonly bytes: Buffer } | undefined {
    if (!this.#greeted) this.#rest = Buffer.alloc(0);
    if (this.#rest.length < HEADER_BYTES) return undefined;
    const end = HEADER_BYTES + this.#rest.readUInt32BE(5);
    if (end > HEADER_BYTES + MOST_IN_A_FRAME) {
      this.lost();
      return undefined;
    }
    if (this.#rest.length < end) return undefined;
    const [type, id] = [this.#rest.toString('latin1', 0, 1), this.#rest.readUInt32BE(1)];
    const bytes = this.#rest.subarray(HEADER_BYTES, end);
    this.#rest = this.#rest.subarray(end);
    return { type, id, bytes };
  }
}

type Send = (type: 'R' | 'K' | 'D', bytes: Buffer) => void;

class PortChannel extends Writable implements CommandChannel {
  readonly stderr = new EventEmitter();
  readonly #command: Buffer;
  readonly #input: Buffer[] = [];
  readonly #send: Send;

  constructor(command: string, send: Send) {
    super({ autoDestroy: false });
    this.#command = Buffer.from(command);
    this.#send = send;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#input.push(chunk);
    done();
  }

  override _final(done: () => void): void {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(this.#command.length);
    this.#send('R', Buffer.concat([size, this.#command, ...this.#input]));
    done();
  }

  signal(): void {
    this.#send('K', Buffer.alloc(0));
  }

  close(): void {
    this.#send('D', Buffer.alloc(0));
    this.destroy();
  }

  hear(type: string, bytes: Buffer): void {
    if (this.destroyed) return;
    if (type === 'O') this.emit('data', bytes);
    if (type === 'E') this.stderr.emit('data', bytes);
    if (type === 'C') this.destroy();
    if (type !== 'X') return;
    const status = Number(bytes.toString('latin1'));
    const name = Object.entries(os.constants.signals).find(([, number]) => number === (status & 127))?.[0];
    this.emit('exit', name === undefined ? status >> 8 : null, name);
  }
}
