/** Ctrl-C: the first asks for a clean end, the second ends the process; what it leaves then is swept at the next start. */
import { EXIT_CODES } from '../arm/errors.ts';

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
