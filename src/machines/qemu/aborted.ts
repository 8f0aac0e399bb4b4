import { once } from 'node:events';

/** The promise's outcome, or the signal's reason if that comes first. */
export async function aborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // What becomes of it later is nobody's business then.
  promise.catch(() => {});
  const settled = new AbortController();
  try {
    signal.throwIfAborted();
    const abort = once(signal, 'abort', { signal: settled.signal }).then((): never => {
      throw signal.reason;
    });
    return await Promise.race([promise, abort]);
  } finally {
    settled.abort();
  }
}
