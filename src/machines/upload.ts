/** Files go into a guest through a command that reads standard input: what every kind of machine can run. */
import { type Readable, Transform } from 'node:stream';
import { KilnError } from '../arm/errors.ts';
import type { Machine, UploadOptions } from './machine.ts';
import { printable } from './qemu/loss.ts';

const COMPLAINT_BYTES = 2000;

/** Streams `source` into a file of the guest, and ends the stream on every path. See {@link Machine.upload}. */
export async function uploadThrough(
  machine: Pick<Machine, 'exec' | 'user'>,
  source: Readable,
  destination: string,
  options: UploadOptions = {},
): Promise<number> {
  let bytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      options.onProgress?.(bytes);
      done(null, chunk);
    },
  });
  source.once('error', error => count.destroy(error));
  source.pipe(count);
  let complaint = '';
  try {
    const { exitCode } = await machine.exec(uploadCommand(destination, options.mode), {
      stdin: count,
      output: chunk => {
        complaint = (complaint + chunk.toString('utf8')).slice(-COMPLAINT_BYTES);
      },
      ...(options.signal && { signal: options.signal }),
    });
    if (exitCode === 0) return bytes;
    throw new KilnError('StepFailed', `The guest cannot write ${destination}: ${printable(complaint)}`, {
      target: destination,
      hint: `Files are written as the user ${machine.user}: choose a place it may write to, such as /tmp, and move it with sudo later.`,
    });
  } finally {
    source.destroy();
  }
}

/** What the guest runs; the file comes on its standard input. */
export function uploadCommand(destination: string, mode?: number): string {
  // A name that begins with a dash must not be an option.
  const target = shellQuoted(destination.startsWith('-') ? `./${destination}` : destination);
  return `cat > ${target}${mode === undefined ? '' : ` && chmod ${mode.toString(8)} ${target}`}`;
}

/** Quotes a word for a POSIX shell. */
export function shellQuoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
