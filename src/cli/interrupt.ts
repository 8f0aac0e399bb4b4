/** Ctrl-C: the first asks for a clean end, the second ends the process; what it leaves then is swept at the next start. */
import { EXIT_CODES, KilnError } from '../arm/errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** @returns a function that stops listening. */
export function onInterrupt(cancel: () => void): () => void {
  let asked = false;
  const listener = () => {
    if (asked) process.exit(EXIT_CODES.canceled);
    asked = true;
    cancel();
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return () => {
    for (const signal of SIGNALS) process.removeListener(signal, listener);
  };
}

/** Runs what an abort ends cleanly: Ctrl-C aborts it, after `say` has told so. */
export async function interruptible<T>(
  use: (signal: AbortSignal) => Promise<T>,
  say: () => void = () => {},
): Promise<T> {
  const controller = new AbortController();
  const stop = onInterrupt(() => {
    say();
    controller.abort(new KilnError('Canceled', 'Canceled; nothing half-made is left.'));
  });
  try {
    return await use(controller.signal);
  } finally {
    stop();
  }
}
