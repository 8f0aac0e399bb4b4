/** A short question to a guest. The answer is untrusted: no longer than it may be, and not waited for for ever. */
import { KilnError } from '../arm/errors.ts';
import type { Machine } from '../machines/machine.ts';

const MOST_BYTES = 64 * 1024;
/** An emulated guest under load takes seconds; one that takes minutes doesn't mean to answer. */
const LONGEST_MS = 5 * 60_000;

/** @returns the lines that the command printed. Errors: GuestUnreachable; the signal's reason. */
export async function ask(machine: Machine, command: string, signal: AbortSignal): Promise<string[]> {
  const late = AbortSignal.timeout(LONGEST_MS);
  const chunks: Buffer[] = [];
  let bytes = 0;
  const tooMuch = new AbortController();
  try {
    await machine.exec(command, {
      signal: AbortSignal.any([signal, late, tooMuch.signal]),
      output(chunk, stream) {
        if (stream !== 'stdout') return;
        bytes += chunk.length;
        if (bytes > MOST_BYTES) tooMuch.abort();
        else chunks.push(chunk);
      },
    });
  } catch (error) {
    if (!late.aborted && !tooMuch.signal.aborted) throw error;
    throw new KilnError('GuestUnreachable', `The guest does not give a sensible answer to: ${command.split(';')[0]}`);
  }
  return Buffer.concat(chunks).toString('utf8').trim().split('\n');
}
