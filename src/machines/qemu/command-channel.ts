/** A command that runs in a guest, however it got there: what it is sent, what it says, and when it has ended. */
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecOptions, ExecResult, GuestStream } from '../machine.ts';

/** The way to the guest has ended, whatever the reason; what became of the command is unknown. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/**
 * What is written is the command's standard input. Emits `data` (standard output), `exit` (status or null, the signal's name) and, when nothing more
 * comes, `close`. As ssh2 has it.
 */
export interface CommandChannel extends Writable {
  readonly stderr: { on(event: 'data', listener: (chunk: Buffer) => void): unknown };
  signal(name: string): unknown;
  /** No longer heard; what still runs goes on without its output. */
  close(): unknown;
}

/** Processes that write on without a pause after their command's end are heard for so many times `lastOutputMs`. */
const LAST_OUTPUT_TIMES = 5;
const LEFT_RUNNING =
  'Kiln: the command has ended, but a process that it left running holds its output open. Kiln does not wait for that process.\n';

/**
 * Feeds and hears a command. Output is handed on as it comes and never kept. A command has ended when it exits: processes that it leaves with its output in their hands are not
 * waited for once they have been silent for `lastOutputMs`, and that is said.
 * @returns how it ended; undefined when the channel closed without saying so. Rejects with the signal's reason, or the error of `stdin` when that is a stream
 */
export async function attend(
  channel: CommandChannel,
  { stdin, signal, output }: ExecOptions,
  lastOutputMs: number,
): Promise<ExecResult | undefined> {
  let result: ExecResult | undefined;
  let closed = false;
  let pause: NodeJS.Timeout | undefined;
  let most: NodeJS.Timeout | undefined;
  let leave = () => {};
  const hear = (chunk: Buffer, stream: GuestStream) => {
    if (closed) return;
    pause?.refresh();
    output?.(chunk, stream);
  };
  channel.once('exit', (code: number | null, signal?: string) => {
    result = { exitCode: code ?? null, ...(signal && { signal: signal.replace(/^SIG/, '') }) };
    if (closed) return;
    pause = setTimeout(() => leave(), lastOutputMs);
    most = setTimeout(() => leave(), lastOutputMs * LAST_OUTPUT_TIMES);
  });
  channel.on('data', (chunk: Buffer) => hear(chunk, 'stdout'));
  channel.stderr.on('data', (chunk: Buffer) => hear(chunk, 'stderr'));
  channel.on('error', () => {});
  const streamed = typeof stdin === 'object' && !Buffer.isBuffer(stdin) ? (stdin as Readable) : undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      channel.once('close', resolve);
      leave = () => {
        output?.(Buffer.from(LEFT_RUNNING), 'stderr');
        closed = true;
        channel.close();
        resolve();
      };
      const stop = () => {
        channel.signal('KILL');
        channel.close();
        reject(signal!.reason as Error);
      };
      if (signal?.aborted) return stop();
      signal?.addEventListener('abort', stop, { once: true });
      channel.once('close', () => signal?.removeEventListener('abort', stop));
      if (!streamed) return void channel.end(stdin as string | Buffer | undefined);
      streamed.once('error', error => {
        channel.close();
        reject(error);
      });
      streamed.pipe(channel);
    });
  } finally {
    closed = true;
    clearTimeout(pause);
    clearTimeout(most);
    streamed?.unpipe(channel).destroy();
  }
  // The channels of a way that broke may close before it is known to have broken.
  if (!result) await sleep(0);
  return result;
}
