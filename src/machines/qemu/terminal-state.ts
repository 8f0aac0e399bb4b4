/** The terminal's settings, kept over the life of a program that changes them. */
import { readlink } from 'node:fs/promises';
import { isatty } from 'node:tty';
import { run } from '../../processes/process.ts';

/** @returns what puts the terminal of standard input back into the state it has now; does nothing where there is no terminal. */
export async function terminalKeeper(): Promise<() => Promise<void>> {
  const nothing = async () => {};
  if (!isatty(0) || process.platform !== 'linux') return nothing;
  try {
    const device = await readlink('/proc/self/fd/0');
    const state = (await run('stty', ['-F', device, '-g'])).stdout.trim();
    // A terminal that has been closed meanwhile needs nothing.
    return () => run('stty', ['-F', device, state]).then(nothing, nothing);
  } catch {
    return nothing;
  }
}
