/**
 * Keeps a run's secrets out of what people read of it: the build log, its rows, and the errors of its phases. Known are the strings that came as secrets (a signature in a
 * URL, a password, a token); wherever they turn up, also in what the guest prints, `<sensitive>` stands instead, as Packer has it.
 */
import { asKilnError, KilnError } from '../arm/errors.ts';
import type { Phase } from './phase.ts';
import { type Found, type Search, searchFor } from './search.ts';
import { LONGEST_SPELLING, percentDecoded } from './spelling.ts';

/** What stands for a secret. */
export const SENSITIVE = '<sensitive>';
/** Shorter ones are words: who hides those makes a log unreadable and hides nothing. Bytes. */
export const SHORTEST = 6;

/** Replaces all secrets in a text. Costs one look at each character; nothing without secrets. */
export interface Redactor {
  (text: string): string;
  /** Characters of the longest spelling of a secret; 0 without any. What is cut off a text before it is redacted may begin or end with a part of one. */
  readonly longest: number;
  /** The same for bytes that come in chunks. What may be the beginning of a secret waits for the next chunk. */
  stream(): RedactedStream;
}

export interface RedactedStream {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
}

/** @param secrets as they were given: of several lines, each line counts for itself; encoded as URLs, JSON, HTML or base64 have them they are found too */
export function redactor(secrets: readonly string[]): Redactor {
  const forms = [...new Set(secrets.flatMap(formsOf))].filter(form => form.length >= SHORTEST);
  if (forms.length === 0)
    return Object.assign((text: string) => text, {
      longest: 0,
      stream: () => ({ push: (chunk: Buffer) => chunk, end: () => Buffer.alloc(0) }),
    });
  const search = searchFor(forms);
  const redact = (text: string): string => {
    const bytes = /^[\0-\x7f]*$/.test(text) ? text : Buffer.from(text).toString('latin1');
    const { spans } = search(bytes);
    return spans.length === 0 ? text : Buffer.from(without(bytes, spans), 'latin1').toString();
  };
  return Object.assign(redact, {
    longest: Math.max(...forms.map(form => form.length)) * LONGEST_SPELLING,
    stream: () => redactedStream(search),
  });
}

function redactedStream(search: Search): RedactedStream {
  let held = '';
  /** Of what is held: it has been seen to be part of a secret, and may be part of another one. */
  let covered = 0;
  const give = (all: boolean): Buffer => {
    const { spans, open } = search(held, { covered });
    const until = all ? held.length : open;
    const given = spans.flatMap(([start, end]) => (start < until ? [[start, Math.min(end, until)] as const] : []));
    const shown = without(held.slice(0, until), given);
    covered = Math.max(0, ...spans.flatMap(([start, end]) => (start <= until ? [end - until] : [])));
    held = held.slice(until);
    return Buffer.from(shown, 'latin1');
  };
  return {
    push(chunk) {
      held += chunk.toString('latin1');
      return give(false);
    },
    end: () => give(true),
  };
}

function without(text: string, spans: Found['spans']): string {
  let shown = '';
  let at = 0;
  for (const [start, end] of spans) {
    shown += text.slice(at, start) + SENSITIVE;
    at = end;
  }
  return shown + text.slice(at);
}

/** Bytes: line by line without percent signs; and as base64, wherever in a longer text they were encoded. */
function formsOf(given: string): string[] {
  const bytes = Buffer.from(given.trim()).toString('latin1');
  const decoded = percentDecoded(bytes);
  const lines = decoded.split(/\r\n|\r|\n/).map(line => line.trim());
  if (decoded.length < SHORTEST) return lines;
  return [...lines, ...[...new Set([bytes, decoded])].flatMap(base64Of)];
}

/** A text's base64 depends on where in it, by three, the secret stands; bits that it shares with its neighbours are left out. */
function base64Of(bytes: string): string[] {
  return [0, 1, 2].map(before => {
    const all = Buffer.from('\0'.repeat(before) + bytes, 'latin1');
    return all.toString('base64').slice(Math.ceil((before * 8) / 6), Math.floor((all.length * 8) / 6));
  });
}

/** The same error, with what it says redacted. A cause that names a secret is left out: who debugs is shown it. */
export function redactedError(error: KilnError, redact: Redactor): KilnError {
  if (redact.longest === 0) return error;
  const { code, message, target, hint, details, cause } = error;
  return new KilnError(code, redact(message), {
    ...(target !== undefined && { target: redact(target) }),
    ...(hint !== undefined && { hint: redact(hint) }),
    details: details.map(detail => redactedError(detail, redact)),
    ...(isClean(cause, redact) && { cause }),
  });
}

function isClean(cause: unknown, redact: Redactor): boolean {
  for (let one = cause; one !== undefined; one = one instanceof Error ? one.cause : undefined) {
    const text = one instanceof Error ? `${one.message} ${one.stack}` : String(one);
    if (redact(text) !== text) return false;
  }
  return true;
}

/** A phase whose failures say no secret. */
export function redacting(phase: Phase, redact: Redactor): Phase {
  if (redact.longest === 0) return phase;
  return {
    ...phase,
    async run(state, context) {
      try {
        return await phase.run(state, context);
      } catch (thrown) {
        throw context.signal.aborted ? thrown : redactedError(asKilnError(thrown), redact);
      }
    },
  };
}
