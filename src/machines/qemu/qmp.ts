/** QEMU's machine protocol: JSON lines over a stream. Enough of it for a machine's life. */
import type { Duplex } from 'node:stream';

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

interface Message {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Record<string, unknown>;
}

/** No answer of QEMU to the commands used here comes near this. */
const LINE_LIMIT = 8 * 1024 * 1024;

/** A QMP session. Owns the stream; ends with it. */
export class Qmp {
  readonly #stream: Duplex;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #rest = '';
  #ended: Error | undefined;
  #greeted!: () => void;
  #refused!: (error: Error) => void;
  readonly #greeting: Promise<void>;

  /** Events go to `onEvent` in the order in which they arrive. */
  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void = () => {}) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    this.#greeting = new Promise((resolve, reject) => {
      this.#greeted = resolve;
      this.#refused = reject;
    });
    this.#greeting.catch(() => {});
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => this.#receive(text));
    stream.on('error', error => this.#end(error));
    stream.on('close', () => this.#end(new Error('QEMU has closed its control connection')));
    stream.on('end', () => this.#end(new Error('QEMU has closed its control connection')));
  }

  /** Waits for QEMU's greeting and leaves negotiation mode. */
  async open(): Promise<void> {
    await this.#greeting;
    await this.execute('qmp_capabilities');
  }

  /** Runs a command. Rejects with QEMU's own words, or when the session ends before the answer. */
  execute(command: string, args?: object): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { command, resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    });
  }

  close(): void {
    this.#stream.destroy();
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop()!;
    if (this.#rest.length > LINE_LIMIT) this.#stream.destroy(new Error('QEMU sent an endless line'));
    for (const line of lines.filter(line => line.trim() !== '')) {
      let message: Message;
      try {
        message = JSON.parse(line) as Message;
      } catch {
        this.#stream.destroy(new Error(`QEMU sent something else than JSON: ${line.slice(0, 200)}`));
        return;
      }
      this.#dispatch(message);
    }
  }

  #dispatch(message: Message): void {
    if (message.QMP !== undefined) this.#greeted();
    if (message.event !== undefined)
      this.#onEvent({ event: message.event, ...(message.data && { data: message.data }) });
    const waiting = this.#waiting.get(message.id ?? -1);
    if (!waiting) return;
    this.#waiting.delete(message.id!);
    if (message.error) waiting.reject(new Error(`QEMU refused ${waiting.command}: ${message.error.desc}`));
    else waiting.resolve(message.return);
  }

  #end(error: Error): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#refused(error);
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
