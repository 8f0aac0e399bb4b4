/**
 * Keeps a run's secrets out of what people read of it: the build log, its rows, and the errors of its phases. Known are the strings that came as secrets (a signature in a
 * URL, a password, a token); wherever they turn up, also in what the guest prints, `<sensitive>` stands instead, as Packer has it.
 */
import { asKilnError, KilnError } from '../arm/errors.ts';
import type { Phase } from './phase.ts';

/** What stands for a secret. */
export const SENSITIVE = '<sensitive>';
/** Shorter ones are words: who hides those makes a log unreadable and hides nothing. Characters. */
export const SHORTEST = 6;

/** Replaces all secrets in a text. Costs one pass of a regular expression; nothing without secrets. */
export interface Redactor {
  (text: string): string;
  /** Characters of the longest secret; 0 without any. What is cut off a text before it is redacted may begin or end with a part of one. */
  readonly longest: number;
}

/** @param secrets as they were given: of several lines, each line counts for itself; encoded as parts of URLs they are found too */
export function redactor(secrets: readonly string[]): Redactor {
  const forms = secrets.flatMap(secret => secret.split(/\r\n|\r|\n/)).flatMap(formsOf);
  // The longest first: one may be the beginning of another.
  const known = [...new Set(forms)].filter(form => form.length >= SHORTEST).sort((a, b) => b.length - a.length);
  if (known.length === 0) return Object.assign((text: string) => text, { longest: 0 });
  const pattern = new RegExp(known.map(escaped).join('|'), 'g');
  return Object.assign((text: string) => text.replace(pattern, SENSITIVE), { longest: known[0]!.length });
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/** Itself, without its percent signs, and with them, in both cases that servers write hexadecimal digits in. */
function formsOf(given: string): string[] {
  const secret = given.trim().toWellFormed();
  const encoded = encodeURIComponent(secret);
  return [secret, decoded(secret), encoded, encoded.replaceAll(/%[0-9A-F]{2}/g, hex => hex.toLowerCase())];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
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
