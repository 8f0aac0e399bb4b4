/**
 * The strings of a template that are secrets, so that a run's log can hide them: what URLs carry to prove that one may read or write there. Inline lines are shown to nobody anyway; a
 * secret in one is known to be such only where it came as a secure parameter, and those come with the deployment that has them.
 */
import { isObject } from '../../arm/shape.ts';

/** Parameters of a SAS that say what may be done, of versions and snapshots: words that logs need. All others may be the secret. */
const PLAIN: ReadonlySet<string> = new Set(
  'sv ss srt sr sp st se spr sip si skoid sktid skt ske sks skv saoid suoid scid sdd rscc rscd rsce rscl rsct api-version restype comp snapshot versionid ref raw'.split(
    ' ',
  ),
);
/** Of a parameter whose name does not say that it is one: shorter values are words. */
const LONG = 16;
const TELLING = /sig|token|key|secret|pass|pwd|cred|auth|code|hash|hmac/i;

/** Of all URLs in a template's properties, wherever they stand; as they stand there, percent-encoded or not. */
export function secretsOf(properties: unknown): string[] {
  const found = new Set<string>();
  const look = (value: unknown): void => {
    if (typeof value === 'string') for (const secret of urlSecrets(value)) found.add(secret);
    else if (Array.isArray(value)) value.forEach(look);
    else if (isObject(value)) Object.values(value).forEach(look);
  };
  look(properties);
  return [...found];
}

function urlSecrets(text: string): string[] {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || !URL.canParse(text)) return [];
  const { password, search } = new URL(text);
  // As it was written: a URL object has changed some characters.
  const query = /\?([^#]*)/.exec(text)?.[1] ?? '';
  const values = [query, search.slice(1)]
    .flatMap(part => part.split('&'))
    .flatMap(pair => {
      const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(pair) ?? [];
      // A query without names can only be a token.
      const [key, secret] = value === '' ? ['', name] : [name, value];
      if (PLAIN.has(key.toLowerCase())) return [];
      return TELLING.test(key) || secret.length >= LONG ? [secret] : [];
    });
  return [password, ...values].filter(secret => secret !== '');
}
